// A connection from the web server: requests in, answers out. A web server that multiplexes gets its answers as they are
// ready; nginx asks one after another.
//
// One task reads a request, answers it and reads the next. When something comes while it waits for the database, a second one
// reads: the web server multiplexes, gives a request up, or ends. A task per request took a fifth of the instructions that a
// short answer takes.

import Application
import CGI
import DequeModule
import EventLoop
import FastCGI
import Glibc
import Logging
import Platform
import ProcessPool

/// One FastCGI connection and its tasks.
final class ClientConnection {
  let descriptor: Descriptor
  let watch: Watch
  let server: Server
  private let application: any Application
  private let database: DatabasePool
  var assembler: RequestAssembler
  /// Whether the last read may have left something behind, of which no edge will tell.
  private var mayHoldMore = false
  /// Requests that have no answer yet, and those of them that nobody has begun to answer.
  var underWay: [RequestUnderWay] = []
  private var arrived: Deque<RequestUnderWay> = []
  /// How many may be answered at a time.
  private let mostAtATime: Int
  /// How many tasks it has, and whether one of them reads.
  private var taskCount = 0
  private var isReading = false
  /// Whether one has been started to read and has not begun.
  private var isStarting = false
  /// What the socket did not take, from where on it is still to be sent, and up to where it has waited since `writingSince`.
  var unsent: [UInt8] = []
  var sentCount = 0
  var dueCount = 0
  /// Since when something has been arriving, and leaving, and nothing at all, in monotonic nanoseconds; 0: it is not.
  var readingSince: UInt64 = 0
  var writingSince: UInt64 = 0
  var idleSince: UInt64
  private var requestCount = 0
  /// Whether the connection is closed after the answers that are being made and sent.
  var isLast = false
  /// Whether no more is read.
  private var hasEnded = false
  /// Whether we have closed the receiving side ourselves.
  var isLeaving = false
  /// The id of the last request, and whether its sender wanted to use the connection again.
  var lastID: UInt16 = 0
  var isWantedAgain = false
  /// Whether the peer was told that the idle connection is about to be closed.
  var hasAnnouncedEnd = false
  /// Whether the peer has gone, and wants no answers any more.
  private var hasGone = false
  var isOver = false

  /// Bytes that may wait to be sent before nothing more is read.
  private static let longestBacklog = 1 << 20

  /// Nil if the loop can't watch it.
  init?(owning descriptor: consuming Descriptor, server: Server) {
    let number = descriptor.number
    self.descriptor = descriptor
    self.server = server
    application = server.application
    database = server.pool
    assembler = RequestAssembler(limits: server.configuration.limits)
    mostAtATime = server.configuration.limits.concurrent
    idleSince = server.loop.now
    do throws(SystemError) {
      watch = try server.loop.watch(number, for: Self.usual, edgeTriggered: true)
    } catch {
      server.log.warning("\(error)")
      return nil
    }
    // A peer that has closed only its writing side may wait for its answers. Over TCP that looks like one that has gone, as
    // nginx goes when its client has gone, and is taken for it.
    if server.peersAreLocal || server.configuration.mayHalfClose { watch.hangUp = .closed }
    watch.onHangUp = { [self] in
      hasGone = true
      for request in underWay { request.abandon() }
    }
  }

  /// Starts its first task.
  func begin() {
    watch.onReport = { [self] in
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

  /// The next request that is whole and may be begun; nil if there will be none, or if somebody else waits for it.
  private func nextRequest() async -> RequestUnderWay? {
    var request = takeArrived()
    if request == nil {
      if isReading { return nil }
      isReading = true
      while request == nil, !isOver {
        if isFull, !arrived.isEmpty {
          // What is held back goes on when there is space for its answer.
          await changed()
        } else if hasEnded {
          break
        } else if await !read() {
          hasEnded = true
        }
        request = takeArrived()
      }
      if isOver { hasEnded = true }
      isReading = false
    }
    guard let request else { return nil }
    // What came with it does not wait for its answer, nor does what no edge will tell of.
    if !arrived.isEmpty || mayHoldMore { spawn() }
    return request
  }

  /// The first that has arrived, unless as many are being answered as may be. Then it is held back, and whoever has answered one goes
  /// on with it.
  private func takeArrived() -> RequestUnderWay? {
    guard !isFull, underWay.count - arrived.count < mostAtATime, let request = arrived.popFirst() else { return nil }
    assembler.begun(request.id)
    return request
  }

  /// Whether the peer has so many answers to take that no more are made.
  private var isFull: Bool { unsent.count - sentCount > Self.longestBacklog }

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
  func end() {
    isOver = true
    forgetUnsent()
    for request in underWay { request.abandon() }
    watch.interrupt()
  }

  // MARK: Answering

  /// The same lines as SyncServer/Worker.swift has, but for the `await`.
  private func respond(to request: RequestUnderWay) async -> Response {
    var step = begin(request)
    while true {
      switch consume step {
      case .respond(let response): return response
      case .query(let query): step = query.then(await database.execute(query, for: request))
      case .wait(let duration, let then): step = await request.sleep(duration, on: server.loop, then)
      }
    }
  }

  private func begin(_ request: RequestUnderWay) -> Step {
    server.shows(request.request)
    if request.isAbandoned { return .nobodys }
    if request.isTooLarge { return .respond(application.refuse(.headerTooLarge)) }
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
    if let execution = item.execution { database.note(execution, response) }
    let isLarge = response.body.count > Memory.large
    if !item.isAbandoned {
      let waited = item.databaseTime
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
    if isLarge {
      server.writer.removeAll()
      server.hasFreedMuch = true
    }
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
    while !isOver, isFull { await changed() }
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
        if assembled.body.count > Memory.large { server.hasFreedMuch = true }
        let request = RequestUnderWay(assembled, for: application, at: server.loop.now)
        (lastID, isWantedAgain, hasAnnouncedEnd) = (request.id, request.keepsConnection, false)
        underWay.append(request)
        arrived.append(request)
        // The peer may have hung up before anybody saw what it had sent.
        if hasGone { request.abandon() }
      case .aborted(let id):
        underWay.first { $0.id == id }?.abort()
        if let index = arrived.firstIndex(where: { $0.id == id }) {
          send(Response(.serviceUnavailable), to: arrived.remove(at: index))
        }
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

  var requestsUnderWay: Int { underWay.count }
}
