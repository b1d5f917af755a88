// A connection from the web server: requests in, answers out. A web server that multiplexes gets its answers as they are
// ready; nginx asks one after another.
//
// One task reads a request, answers it and reads the next. When something comes while it waits for the database, a second one
// reads: the web server multiplexes, gives a request up, or ends. A task per request took a fifth of the instructions that a
// short answer takes.

import CGI
import DequeModule
import EventLoop
import FastCGI
import Glibc
import Logging
import Orders
import Platform
import ProcessPool

/// One FastCGI connection and its tasks.
final class ClientConnection {
  private let descriptor: Descriptor
  private let watch: Watch
  private unowned let server: Server
  private let application: Orders
  private let database: DatabasePool
  private var assembler: RequestAssembler
  /// Whether the last read may have left something behind, of which no edge will tell.
  private var mayHoldMore = false
  /// Requests that have no answer yet, and those of them that nobody has begun to answer.
  private var underWay: [RequestUnderWay] = []
  private var arrived: Deque<RequestUnderWay> = []
  /// How many tasks it has, and whether one of them reads.
  private var taskCount = 0
  private var isReading = false
  /// Whether one has been started to read and has not begun.
  private var isStarting = false
  /// What the socket did not take, from where on it is still to be sent, and up to where it has waited since `writingSince`.
  private var unsent: [UInt8] = []
  private var sentCount = 0
  private var dueCount = 0
  /// Since when something has been arriving, and leaving, and nothing at all, in monotonic nanoseconds; 0: it is not.
  private var readingSince: UInt64 = 0
  private var writingSince: UInt64 = 0
  private var idleSince: UInt64
  private var requestCount = 0
  /// Whether the connection is closed after the answers that are being made and sent.
  private var isLast = false
  /// Whether no more is read.
  private var hasEnded = false
  /// Whether we have closed the receiving side ourselves.
  private var isLeaving = false
  /// The id of the last request, and whether its sender wanted to use the connection again.
  private var lastID: UInt16 = 0
  private var isWantedAgain = false
  /// Whether the peer was told that the idle connection is about to be closed.
  private var hasAnnouncedEnd = false
  /// Whether the peer has gone, and wants no answers any more.
  private var hasGone = false
  private var isOver = false

  /// Bytes that may wait to be sent before nothing more is read.
  private static let longestBacklog = 1 << 20

  /// What the loop is asked to tell of, and what while the socket is full. Told of space always, it would wake up each time that
  /// the peer reads.
  private static let usual: Readiness = [.readable, .hungUp]
  private static let whileFull: Readiness = [.readable, .writable, .hungUp]

  /// Nil if the loop can't watch it.
  init?(owning descriptor: consuming Descriptor, server: Server) {
    let number = descriptor.number
    self.descriptor = descriptor
    self.server = server
    application = server.application
    database = server.pool
    assembler = RequestAssembler(limits: server.configuration.limits)
    idleSince = server.loop.now
    do throws(SystemError) {
      watch = try server.loop.watch(number, for: Self.usual, edgeTriggered: true)
    } catch {
      server.log.warning("\(error)")
      return nil
    }
    // A peer that has closed only its writing side may wait for its answers. Over TCP that looks like one that has gone, as
    // nginx goes when its client has gone, and is taken for it.
    if server.peersAreLocal { watch.hangUp = .closed }
    watch.onHangUp = { [unowned self] in
      hasGone = true
      for request in underWay { request.abandon() }
    }
  }

  /// Starts its first task.
  func begin() {
    watch.onReport = { [unowned self] in
      flush()
      spawn()
    }
    spawn()
  }

  /// Starts another task that reads, unless there is one.
  private func spawn() {
    if isReading || isStarting { return }
    isStarting = true
    taskCount += 1
    server.loop.spawn { [self] in
      isStarting = false
      await serve()
    }
  }

  /// Answers requests until the web server or we have had enough, or somebody else reads. The last one to end closes.
  private func serve() async {
    while let request = await nextRequest() {
      send(await respond(to: request), to: request)
    }
    if taskCount == 1 {
      while !isOver, !unsent.isEmpty { await changed() }
    }
    taskCount -= 1
    if taskCount == 0 { close() }
  }

  /// The next request that is whole; nil if there will be none, or if somebody else waits for it.
  private func nextRequest() async -> RequestUnderWay? {
    if isReading { return nil }
    isReading = true
    while arrived.isEmpty, !hasEnded, await read() {}
    isReading = false
    guard let request = arrived.popFirst() else {
      hasEnded = true
      return nil
    }
    // What came with it does not wait for its answer, nor does what no edge will tell of.
    if !arrived.isEmpty || mayHoldMore { spawn() }
    return request
  }

  private func close() {
    watch.cancel()
    // Closed here and not with the last reference, so that the peer sees the end at once.
    shutdown(descriptor.number, Int32(SHUT_RDWR))
    server.closed(self)
  }

  /// Waits until there is something to read, or the end has come; writes what there is space for.
  private func changed() async {
    await watch.readableOrWritable()
    flush()
  }

  /// Lets the task find that there is no more to do.
  private func end() {
    isOver = true
    for request in underWay { request.abandon() }
    watch.interrupt()
  }

  // MARK: Answering

  /// The same lines as SyncServer/Worker.swift has, but for the `await`.
  private func respond(to request: RequestUnderWay) async -> Response {
    var step = begin(request)
    while true {
      switch step {
      case .respond(let response): return response
      case .query(let operation): step = application.finish(operation, await database.execute(operation, for: request))
      }
    }
  }

  private func begin(_ request: RequestUnderWay) -> Step {
    server.shows(request.request)
    if request.isAbandoned { return .respond(Response(.serviceUnavailable)) }
    if request.isTooLarge { return .respond(Orders.headerTooLarge()) }
    if let page = server.statusPage(for: request.request) { return .respond(page) }
    return request.begin(by: application)
  }

  /// Sends the answer, or as much as the socket takes.
  private func send(_ response: consuming Response, to item: RequestUnderWay) {
    let server = server
    requestCount += 1
    if !item.keepsConnection || server.isDraining || requestCount >= server.configuration.requestsPerConnection {
      isLast = true
    }
    server.writer.removeAll()
    var response = response
    if let query = item.query { database.note(query, response) }
    if !item.isAbandoned {
      let waited = item.query == nil ? 0 : server.loop.now - item.began
      let spent = MonotonicClock.now - item.began
      let timing = Response.Timing(database: waited, application: spent > waited ? spent - waited : 0)
      application.seal(&response, for: item.request, timing)
      server.log.report(response, to: item.request)
      // Head and records.
      server.buffers.reused += 2
      server.head.removeAll(keepingCapacity: true)
      response.writeHead(to: &server.head, requestID: item.request.requestID)
      server.writer.answer(requestID: item.id, head: server.head, body: response.omitsBody ? [] : response.body)
    } else {
      server.writer.end(requestID: item.id, .requestComplete)
    }
    // Others may still be under way, whose answers come behind. A peer that has asked for the end knows that it comes.
    if isLast, item.keepsConnection, underWay.count == 1 { server.writer.endStream(requestID: item.id) }
    write(server.writer.bytes)
    assembler.finished(item.id)
    underWay.removeAll { $0 === item }
    server.answered(in: MonotonicClock.now - item.began)
    if underWay.isEmpty { idle() }
  }

  /// Every request has been answered.
  private func idle() {
    idleSince = server.loop.now
    if isLast, unsent.isEmpty { leave() }
  }

  /// The last answer has gone. What a peer that goes on using the connection has sent meanwhile is answered, too.
  private func leave() { if isWantedAgain { closeIfIdle() } else { end() } }

  // MARK: Reading

  /// Waits for bytes and takes them in; false when there will be no more.
  private func read() async -> Bool {
    if isOver { return false }
    if mayHoldMore {
      // Whoever sends without a pause leaves the others their turns.
      await server.loop.sleep(.zero)
      flush()
    } else if !watch.isHungUp, !isLeaving {
      // An edge comes once: after a hang-up there always is an end to be read, behind whatever else there is.
      await changed()
    }
    // A peer that does not take its answers is not asked for more.
    while !isOver, unsent.count - sentCount > Self.longestBacklog { await changed() }
    if isOver { return false }
    let transfer = Transfer.read(descriptor.number, into: server.readBuffer)
    mayHoldMore = transfer == .bytes(server.readBuffer.count)
    switch transfer {
    case .bytes(let count): take(Span(_unsafeBytes: server.readBuffer[..<count]))
    // After a hang-up that would be a surprise, and the next attempt no better.
    case .wouldBlock: return !isOver && !watch.isHungUp
    case .end, .failed: return false
    }
    return !isOver
  }

  /// Takes in every request that is complete now.
  private func take(_ bytes: Span<UInt8>) {
    server.buffers.reused += 1
    var position = 0
    while !isOver, let action = assembler.next(bytes, &position) {
      readingSince = 0
      switch action {
      case .request(let assembled):
        let request = RequestUnderWay(assembled, at: server.loop.now)
        (lastID, isWantedAgain, hasAnnouncedEnd) = (request.id, request.keepsConnection, false)
        underWay.append(request)
        arrived.append(request)
        // The peer may have hung up before anybody saw what it had sent.
        if hasGone { request.abandon() }
      case .aborted(let id): underWay.first { $0.id == id }?.abort()
      case .close(let fault):
        server.log.warning("FastCGI: \(fault)")
        end()
      }
    }
    let replies = assembler.takeReplies()
    if !replies.isEmpty { write(replies) }
    if !assembler.isReceiving {
      readingSince = 0
    } else if readingSince == 0 {
      readingSince = server.loop.now
    }
  }

  // MARK: Writing

  /// Writes all of it, or leaves what the socket does not take, and everything that comes after it, for when it does.
  private func write(_ bytes: [UInt8]) {
    if isOver { return }
    guard unsent.isEmpty else {
      server.buffers.backlogged += 1
      unsent += bytes
      return
    }
    var written = 0
    guard transfer(bytes, &written), written < bytes.count else { return }
    server.buffers.backlogged += 1
    unsent = Array(bytes[written...])
    dueCount = unsent.count
    writingSince = server.loop.now
    watch(for: Self.whileFull)
  }

  /// Writes what was left, as much as the socket takes now.
  private func flush() {
    guard !isOver, !unsent.isEmpty, transfer(unsent, &sentCount), sentCount >= dueCount else { return }
    // The time limit is for what waits, not for what comes behind it.
    unsent.removeFirst(sentCount)
    sentCount = 0
    dueCount = unsent.count
    writingSince = unsent.isEmpty ? 0 : server.loop.now
    guard unsent.isEmpty else { return }
    unsent = []
    watch(for: Self.usual)
    if isLast, underWay.isEmpty { leave() }
  }

  private func watch(for readiness: Readiness) {
    do throws(SystemError) {
      try watch.change(to: readiness)
    } catch {
      server.log.warning("\(error)")
      end()
    }
  }

  /// Writes as much as the socket takes; false if the peer has gone.
  private func transfer(_ bytes: [UInt8], _ written: inout Int) -> Bool {
    while written < bytes.count {
      let transfer = bytes.withUnsafeBytes {
        Transfer.write(descriptor.number, from: UnsafeRawBufferPointer(rebasing: $0[written...]))
      }
      switch transfer {
      case .bytes(let count): written += count
      case .wouldBlock: return true
      case .end, .failed:
        end()
        return false
      }
    }
    return true
  }

  // MARK: Time limits and draining

  /// Gives up a peer that takes too long to send a request or to take an answer, and one that has not asked for anything
  /// for a very long time.
  func enforceTimeLimits(_ now: UInt64) {
    if isOver { return }
    func isOlder(_ since: UInt64, than limit: Duration) -> Bool {
      since > 0 && now > since && now - since > limit.nanoseconds
    }
    let configuration = server.configuration
    if isOlder(readingSince, than: configuration.peerTimeout) || isOlder(writingSince, than: configuration.peerTimeout)
    {
      server.log.warning("a peer took too long: connection closed")
      end()
    } else if isOlder(idleSince, than: configuration.idleTimeout) {
      if hasAnnouncedEnd || !isWantedAgain { closeIfIdle() } else { announceEnd() }
    }
  }

  /// Tells the peer of an idle connection that it is about to be closed. nginx closes an idle connection that becomes readable, and
  /// on one that it has just taken for a request it reads over an empty STDERR record (FastCGI 1.0 §5.3) that comes before the
  /// answer; Apache takes none that has something to read.
  func announceEnd() {
    guard isWantedAgain, !hasAnnouncedEnd, underWay.isEmpty, unsent.isEmpty, !assembler.isReceiving, !isOver, !isLeaving
    else { return }
    hasAnnouncedEnd = true
    var record = RecordWriter()
    record.record(.stderr, requestID: lastID, [])
    // A peer that takes nothing is not waited for: where there is no space for it, it hears nothing.
    let transfer = record.bytes.withUnsafeBytes { Transfer.write(descriptor.number, from: $0) }
    if case .bytes(let count) = transfer, count < record.bytes.count { end() }
  }

  /// Closes the connection if no request is under way. The receiving side is shut first, so that a request either has
  /// arrived, and is served, or is refused as a whole.
  func closeIfIdle() {
    guard underWay.isEmpty, unsent.isEmpty, !assembler.isReceiving, !isOver, !isLeaving else { return }
    var byte: UInt8 = 0
    if recv(descriptor.number, &byte, 1, Int32(MSG_PEEK | MSG_DONTWAIT)) > 0 { return }
    isLeaving = true
    watch.onHangUp = nil
    shutdown(descriptor.number, Int32(SHUT_RD))
    watch.interrupt()
  }

  var requestsUnderWay: Int { underWay.count }
}
