// A connection from the web server: requests in, answers out. A web server that multiplexes gets its answers as they are
// ready; nginx asks one after another.

import CGI
import EventLoop
import FastCGI
import Glibc
import Logging
import Platform
import ProcessPool
import Shop

/// One FastCGI connection: a task that reads, and one for each request under way.
///
/// Unchecked Sendable: made and used on its loop's thread only.
final class ClientConnection: @unchecked Sendable {
  private let descriptor: Descriptor
  private let watch: Watch
  private unowned let server: Server
  private var assembler: RequestAssembler
  /// What was read last, and from where on it has not been looked at yet.
  private var unread: [UInt8] = []
  private var position = 0
  /// Whether the last read may have left something behind, of which no edge will tell.
  private var mayHoldMore = false
  /// Requests that have no answer yet.
  private var underWay: [RequestUnderWay] = []
  /// What the socket did not take, and from where on it is still to be sent.
  private var unsent: [UInt8] = []
  private var sentCount = 0
  /// Who waits for the unsent bytes to have gone.
  private var drained: UnsafeContinuation<Void, Never>?
  /// Since when something has been arriving, and leaving, and nothing at all, in monotonic nanoseconds; 0: it is not.
  private var readingSince: UInt64 = 0
  private var writingSince: UInt64 = 0
  private var idleSince: UInt64
  private var requestCount = 0
  /// Whether the connection is closed after the answers that are being made and sent.
  private var isLast = false
  /// Whether we have closed the receiving side ourselves.
  private var isLeaving = false
  /// Whether the peer has gone, and wants no answers any more.
  private var hasGone = false
  private var isOver = false

  /// Bytes that may wait to be sent before nothing more is read.
  private static let longestBacklog = 1 << 20

  /// What the loop is asked to tell of, and what while the socket is full. Told of room always, it would wake up each time that
  /// the peer reads.
  private static let usual: Readiness = [.readable, .hungUp]
  private static let whileFull: Readiness = [.readable, .writable, .hungUp]

  /// Nil if the loop can't watch it.
  init?(owning descriptor: consuming Descriptor, server: Server) {
    let number = descriptor.number
    self.descriptor = descriptor
    self.server = server
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

  /// Answers requests until the web server or we have had enough.
  func serve() async {
    await withDiscardingTaskGroup { group in
      while let request = await nextRequest() {
        let item = RequestUnderWay(request)
        underWay.append(item)
        group.addImmediateTask { await self.answer(item) }
      }
      if isOver || hasGone { for request in underWay { request.abandon() } }
    }
    watch.cancel()
    // Closed here and not with the last reference, so that the peer sees the end at once.
    shutdown(descriptor.number, Int32(SHUT_RDWR))
  }

  private func answer(_ item: RequestUnderWay) async {
    let began = server.loop.now
    begin(item)
    let asksDatabase = item.isWaiting
    await item.wait()
    for other in item.others { await other.wait() }
    if !finish(item, since: began, waited: asksDatabase ? server.loop.now - began : 0) { await drain() }
    assembler.finished(item.id)
    underWay.removeAll { $0 === item }
    server.answered(in: MonotonicClock.now - began)
    if underWay.isEmpty { idleSince = server.loop.now }
    if isLast, underWay.isEmpty { end() }
  }

  /// Answers at once, or has the database asked.
  private func begin(_ item: RequestUnderWay) {
    guard var request = item.request.take() else {
      item.response = Shop.headerTooLarge()
      return
    }
    if let page = server.statusPage(for: request) {
      item.response = page
    } else {
      switch server.shop.begin(request) {
      case .respond(let response): item.response = response
      case .query(let operation):
        item.others = operation.others.map { other in
          let beside = RequestUnderWay()
          server.pool.execute(other, for: beside)
          return beside
        }
        server.pool.execute(operation, for: item)
      }
    }
    // Thousands may wait, each with up to a megabyte of which nothing is needed any more.
    request.body = []
    item.request = request
  }

  /// Sends the answer; false if the socket was full, and `drain` has to see to the rest.
  private func finish(_ item: RequestUnderWay, since began: UInt64, waited: UInt64) -> Bool {
    requestCount += 1
    if !item.keepsConnection || server.isDraining || requestCount >= server.configuration.requestsPerConnection {
      isLast = true
    }
    server.writer.removeAll()
    if var response = item.response.take(), !item.isAborted {
      if let request = item.request.take() {
        let spent = MonotonicClock.now - began
        let timing = Response.Timing(database: waited, application: spent > waited ? spent - waited : 0)
        server.shop.seal(&response, for: request, timing)
        if !hasGone { server.log.report(response, to: request) }
      }
      // Head and records.
      server.buffers.reused += 2
      server.head.removeAll(keepingCapacity: true)
      response.writeHead(to: &server.head)
      server.writer.answer(requestID: item.id, head: server.head, body: response.omitsBody ? [] : response.body)
    } else {
      server.writer.end(requestID: item.id, .requestComplete)
    }
    // Others may still be under way, whose answers come behind. A peer that has asked for the end knows that it comes.
    if isLast, item.keepsConnection, underWay.count == 1 { server.writer.farewell(requestID: item.id) }
    return write(server.writer.bytes)
  }

  /// Lets the reader find that there is no more to do.
  private func end() {
    isOver = true
    watch.interrupt()
    resume(&drained)
  }

  private func resume(_ waiter: inout UnsafeContinuation<Void, Never>?) {
    let continuation = waiter
    waiter = nil
    continuation?.resume()
  }

  // MARK: Reading

  /// The next request; nil when there will be none.
  private func nextRequest() async -> AssembledRequest? {
    while !isOver {
      if let action = takeAction() {
        readingSince = 0
        switch action {
        case .request(let request): return request
        case .aborted(let id): underWay.first { $0.id == id }?.abort()
        case .close(let fault):
          server.log.warning("FastCGI: \(fault)")
          isOver = true
          return nil
        }
        continue
      }
      let replies = assembler.takeReplies()
      if !replies.isEmpty, !write(replies) { await drain() }
      if !assembler.isReceiving {
        readingSince = 0
      } else if readingSince == 0 {
        readingSince = server.loop.now
      }
      // A peer that does not take its answers is not asked for more.
      while !isOver, unsent.count - sentCount > Self.longestBacklog {
        await withUnsafeContinuation { drained = $0 }
      }
      guard !isOver, await read() else { return nil }
    }
    return nil
  }

  private func takeAction() -> RequestAssembler.Action? {
    guard !unread.isEmpty else { return nil }
    let action = unread.withUnsafeBufferPointer { assembler.next(Span(_unsafeElements: $0), &position) }
    if position == unread.count {
      position = 0
      // A large body should not leave its room behind on an idle connection.
      unread.removeAll(keepingCapacity: unread.capacity <= 8192)
    }
    return action
  }

  /// Waits for bytes; false at the end of the stream.
  private func read() async -> Bool {
    while true {
      if !mayHoldMore { await watch.readable() }
      if isOver { return false }
      let transfer = Transfer.read(descriptor.number, into: server.readBuffer)
      mayHoldMore = transfer == .bytes(server.readBuffer.count)
      switch transfer {
      case .bytes(let count):
        server.buffers.reused += 1
        unread.append(contentsOf: server.readBuffer[..<count])
        return true
      case .wouldBlock: continue
      case .end, .failed: return false
      }
    }
  }

  // MARK: Writing

  /// Writes all of it, or leaves what the socket does not take for `drain`: false for whoever is the first to leave something,
  /// and has to call that. The others leave theirs behind it.
  private func write(_ bytes: [UInt8]) -> Bool {
    if isOver { return true }
    guard unsent.isEmpty else {
      server.buffers.backlogged += 1
      unsent += bytes
      return true
    }
    var written = 0
    guard transfer(bytes, &written), written < bytes.count else { return true }
    server.buffers.backlogged += 1
    unsent = bytes
    sentCount = written
    writingSince = server.loop.now
    return false
  }

  /// Waits until everything has gone that was left.
  private func drain() async {
    watch(for: Self.whileFull)
    while !isOver, sentCount < unsent.count {
      await watch.writable()
      guard !isOver, transfer(unsent, &sentCount) else { break }
    }
    watch(for: Self.usual)
    unsent = []
    sentCount = 0
    writingSince = 0
    resume(&drained)
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
    func isOlder(_ since: UInt64, than limit: Duration) -> Bool {
      since > 0 && now > since && now - since > limit.nanoseconds
    }
    let configuration = server.configuration
    if isOlder(readingSince, than: configuration.peerTimeout) || isOlder(writingSince, than: configuration.peerTimeout)
    {
      server.log.warning("a peer took too long: connection closed")
      end()
    } else if isOlder(idleSince, than: configuration.idleTimeout) {
      closeIfIdle()
    }
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
