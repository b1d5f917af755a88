// Reads a request that libfcgi can't be left alone with.

import CLinux
import FastCGI
import Glibc
import Platform

/// How long a worker waits with a peer that sends no request.
struct Patience {
  /// In seconds, until a request has begun; nil: somebody else looks after that.
  var first: Int?
  /// Whether a connection over which nothing but questions about the server has come can wait elsewhere. Where it can't, the peer
  /// has a moment for its request: HAProxy asks first on each connection (`option get-values`), and sends the request over the same
  /// when it has the answer.
  var canWaitElsewhere: Bool

  /// That moment, in nanoseconds.
  static let moment: UInt64 = 100_000_000
}

extension RequestAssembler {
  enum Reading {
    case request(AssembledRequest)
    /// Nothing has begun, and what was asked has been answered.
    case quiet
    /// There will be none.
    case nothing
  }

  /// Reads from a connection until a request is whole, and answers what has to be answered before. `header` is given its variables,
  /// as soon as these are whole.
  mutating func read(from connection: Int32, _ patience: Patience, header: ([UInt8]) -> Void) -> Reading {
    let began = MonotonicClock.now
    var quietEnd: UInt64?
    var hasHeader = false
    var bytes = [UInt8](repeating: 0, count: 16 << 10)
    while true {
      let count = recv(connection, &bytes, bytes.count, 0)
      if count < 0, errno == EINTR { continue }
      if count <= 0 { return .nothing }
      var position = 0
      let action = next(bytes.span.extracting(first: count), &position)
      clinux_set_emergency_answer_request(firstID ?? RecordHeader.nullRequestID)
      if !hasHeader, let params = firstParams {
        hasHeader = true
        header(params)
      }
      guard Self.write(takeReplies(), to: connection) else { return .nothing }
      switch action {
      case .request(let request):
        if !hasHeader { header(request.params) }
        return .request(request)
      case .aborted, .close: return .nothing
      case nil: break
      }
      if isIdle {
        // Whoever has been refused is answered, and nobody waits for another.
        if hasRefused { return .nothing }
        if patience.canWaitElsewhere { return .quiet }
        let end = quietEnd ?? MonotonicClock.now + Patience.moment
        quietEnd = end
        // Whoever asks without end has had time enough.
        if MonotonicClock.now > end + Patience.moment { return .nothing }
        // So that a request either has arrived, and is served, or is refused as a whole.
        if !Self.comesSomething(from: connection, until: end) { shutdown(connection, Int32(SHUT_RD)) }
      } else if firstID == nil, let first = patience.first, MonotonicClock.now - began > UInt64(first) * 1_000_000_000 {
        return .nothing
      }
    }
  }

  private static func comesSomething(from connection: Int32, until end: UInt64) -> Bool {
    var interest = pollfd(fd: connection, events: Int16(POLLIN), revents: 0)
    while true {
      let now = MonotonicClock.now
      let count = poll(&interest, 1, now < end ? Int32((end - now) / 1_000_000) + 1 : 0)
      if count >= 0 || errno != EINTR { return count > 0 }
    }
  }

  private static func write(_ bytes: [UInt8], to connection: Int32) -> Bool {
    var written = 0
    while written < bytes.count {
      let count = bytes.withUnsafeBytes {
        send(connection, $0.baseAddress.map { $0 + written }, $0.count - written, Int32(MSG_NOSIGNAL))
      }
      if count < 0, errno == EINTR { continue }
      if count <= 0 { return false }
      written += count
    }
    return true
  }
}
