// A connection from the web server: requests in, answers out, one after another.

import CGI
import EventLoop
import FastCGI
import Glibc
import Logging
import Platform
import Postgres
import Shop

/// One FastCGI connection, served by one task.
///
/// Unchecked Sendable: made and used on its loop's thread only.
final class ClientConnection: @unchecked Sendable {
  private enum Phase {
    /// Between requests.
    case idle
    /// A request has begun to arrive, an answer has begun to leave; since when, in monotonic nanoseconds.
    case reading(UInt64)
    case writing(UInt64)
    /// The database has the request.
    case waiting
  }

  private let descriptor: Descriptor
  private let watch: Watch
  private unowned let server: Server
  private var assembler: RequestAssembler
  /// What was read last, and from where on it has not been looked at yet.
  private var unread: [UInt8] = []
  private var position = 0
  /// Whether the last read may have left something behind, of which no edge will tell.
  private var mayHoldMore = false
  private var phase = Phase.idle
  private var isOver = false
  /// Whether the connection is closed after the answer that is being sent.
  private var isLast = false

  /// Nil if the loop can't watch it.
  init?(owning descriptor: consuming Descriptor, server: Server) {
    let number = descriptor.number
    self.descriptor = descriptor
    self.server = server
    assembler = RequestAssembler(limits: server.configuration.limits)
    do throws(SystemError) {
      watch = try server.loop.watch(number, for: [.readable, .writable, .hungUp], edgeTriggered: true)
    } catch {
      server.log.warning("\(error)")
      return nil
    }
  }

  /// Answers requests until the web server or we have had enough.
  func serve() async {
    while let assembled = await nextRequest() {
      let request = Request(assembled)
      await send(await answer(request), to: assembled)
      assembler.finished()
      if isLast { break }
    }
    watch.cancel()
    isOver = true
    // Closed here and not with the last reference, so that the peer sees the end at once.
    shutdown(descriptor.number, Int32(SHUT_RDWR))
  }

  private func answer(_ request: borrowing Request) async -> Response {
    let response: Response
    switch server.shop.begin(request) {
    case .respond(let ready): response = ready
    case .query(let operation):
      phase = .waiting
      response = await server.pool.execute(operation, for: watch)
    }
    if let fault = response.fault, !watch.isHungUp {
      server.log.log(
        level: response.status.code == 500 ? .error : .warning, "\(response.status.code): \(fault)",
        metadata: ["request": "\(request.requestID.string)"])
    }
    return response
  }

  // MARK: Reading

  /// The next request; nil when there will be none.
  private func nextRequest() async -> AssembledRequest? {
    phase = .idle
    while !isOver {
      if let action = takeAction() {
        switch action {
        case .request(let request): return request
        case .aborted: continue
        case .close(let fault):
          server.log.warning("FastCGI: \(fault)")
          return nil
        }
      }
      let replies = assembler.takeReplies()
      if !replies.isEmpty, !(await write(replies)) { return nil }
      if assembler.isIdle {
        phase = .idle
      } else if case .reading = phase {
      } else {
        phase = .reading(MonotonicClock.now)
      }
      guard await read() else { return nil }
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
        unread.append(contentsOf: server.readBuffer[..<count])
        return true
      case .wouldBlock: continue
      case .end, .failed: return false
      }
    }
  }

  // MARK: Writing

  private func send(_ response: Response, to request: AssembledRequest) async {
    var head: [UInt8] = []
    head.reserveCapacity(256)
    response.writeHead(to: &head)
    var writer = RecordWriter()
    writer.answer(requestID: request.id, head: head, body: response.omitsBody ? [] : response.body)
    isLast = !request.keepsConnection || server.isDraining
    if isLast { writer.farewell(requestID: request.id) }
    if !(await write(writer.bytes)) { isOver = true }
  }

  /// Writes all of it, waiting where the peer is slow; false if the peer has gone or took too long.
  private func write(_ bytes: [UInt8]) async -> Bool {
    var written = 0
    while written < bytes.count {
      let transfer = bytes.withUnsafeBytes {
        Transfer.write(descriptor.number, from: UnsafeRawBufferPointer(rebasing: $0[written...]))
      }
      switch transfer {
      case .bytes(let count): written += count
      case .wouldBlock:
        if case .writing = phase {} else { phase = .writing(MonotonicClock.now) }
        await watch.writable()
        if isOver { return false }
      case .end, .failed: return false
      }
    }
    return true
  }

  // MARK: Time limits and draining

  /// Gives up a peer that takes too long to send a request or to take an answer. An idle one may stay: closing it could
  /// cost a request that is on its way.
  func enforceTimeLimit(_ now: UInt64) {
    switch phase {
    case .reading(let since), .writing(let since):
      guard now > since, now - since > server.configuration.peerTimeout.nanoseconds else { return }
      server.log.warning("a peer took too long: connection closed")
      isOver = true
      watch.interrupt()
    case .idle, .waiting: break
    }
  }

  /// While draining: closes the connection if no request is under way. The receiving side is shut first, so that a request
  /// either has arrived, and is served, or is refused as a whole.
  func closeIfIdle() {
    guard case .idle = phase, !isOver else { return }
    shutdown(descriptor.number, Int32(SHUT_RD))
    watch.interrupt()
  }
}

extension Request {
  /// What the web server's variables mean.
  init(_ assembled: AssembledRequest) {
    self.init(storage: assembled.params)
    body = assembled.body
    bodyIsTooLarge = assembled.bodyIsTooLarge
    var walk = NameValuePairs()
    // The assembler has walked them before: they are whole.
    while let pair = try? walk.next(assembled.params.span) {
      set(assembled.params.span.extracting(pair.name), to: pair.value)
    }
    finish()
  }
}
