// Whoever waits for a statement's rows, seen while they are waited for.

import CPostgres
import Glibc

/// A client whose leaving makes a read pointless.
package struct ClientWatch: Sendable {
  /// Its connection; not owned.
  let descriptor: Int32
  /// What counts as having gone: that it has closed its side, or that it has closed both, or broken off.
  let events: Int16

  /// `mayHalfClose`: it may close its writing side and still wait for its answer. Over a Unix socket that is seen apart from its going;
  /// over TCP, where it is not, only one that breaks off has gone then.
  package init(_ descriptor: Int32, isLocal: Bool, mayHalfClose: Bool) {
    self.descriptor = descriptor
    events = isLocal || mayHalfClose ? 0 : peerHasClosed
  }

  var interest: pollfd { pollfd(fd: descriptor, events: events, revents: 0) }

  static func isGone(_ interest: pollfd) -> Bool { interest.revents != 0 }

  /// Whether it has gone already.
  package var hasGone: Bool { leaves(within: .zero) }

  /// Waits for that long, for less if it goes meanwhile; whether it has. Less than a millisecond counts as one.
  package func leaves(within duration: Duration) -> Bool {
    let end = ContinuousClock.now + duration
    var interest = interest
    while true {
      let left = (end - ContinuousClock.now) / .milliseconds(1)
      let ready = poll(&interest, 1, Int32(max(0, min(left.rounded(.up), 1e9))))
      if ready > 0 { return true }
      if ready == 0 ? left <= 1e9 : errno != EINTR { return false }
    }
  }
}

/// POLLRDHUP, which poll.h has for _GNU_SOURCE alone.
private let peerHasClosed: Int16 = 0x2000

extension Connection {
  /// What has become of a client while its statement ran.
  enum Departure: Equatable {
    /// It is there, or nobody looks.
    case none
    /// It has gone, and the server was told to give the statement up: it has until then, in milliseconds on the monotonic clock.
    case cancelled(until: Int64)
    /// It has gone, and the server has not even taken note of that in time: the connection is of no use any more.
    case stuck
  }

  /// For how long a statement may still run after its client has gone before it is given up, in milliseconds: to ask for that costs
  /// PostgreSQL a process.
  private static let grace: Int32 = 10
  /// How long the server may take to take note of a cancel, and to end the statement then, in milliseconds.
  private static let cancelLimit: Int32 = 2_000

  /// The next result, as PQgetResult; but what is waited for here is either the server or the client's leaving.
  func nextResult() -> OpaquePointer? {
    while client != nil, departure == .none, PQisBusy(handle) == 1 {
      guard waitForServer(), consumeInput() else { break }
    }
    if case .cancelled(let end) = departure {
      while PQisBusy(handle) == 1 {
        let left = end - Self.milliseconds
        guard left > 0, isReadable(within: Int32(left)), consumeInput() else {
          departure = .stuck
          return nil
        }
      }
    }
    return departure == .stuck ? nil : PQgetResult(handle)
  }

  /// Waits until the server has sent something; false where the client has gone meanwhile, and the statement is given up.
  private func waitForServer() -> Bool {
    guard let client else { return true }
    // What TLS has decrypted shows in no poll.
    if PQsslInUse(handle) == 1, consumeInput(), PQisBusy(handle) == 0 { return true }
    // On the stack: each statement waits here.
    var interests: InlineArray<2, pollfd> = [pollfd(fd: socket, events: Int16(POLLIN), revents: 0), client.interest]
    var span = interests.mutableSpan
    span.withUnsafeMutableBufferPointer { while poll($0.baseAddress, 2, -1) < 0, errno == EINTR {} }
    if interests[0].revents != 0 || !ClientWatch.isGone(interests[1]) || isReadable(within: Self.grace) { return true }
    let isNoted = Cancellation(of: self)?.send(within: Self.cancelLimit) ?? false
    departure = isNoted ? .cancelled(until: Self.milliseconds + Int64(Self.cancelLimit)) : .stuck
    return false
  }

  private func isReadable(within milliseconds: Int32) -> Bool {
    var interest = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
    var ready = poll(&interest, 1, milliseconds)
    while ready < 0, errno == EINTR { ready = poll(&interest, 1, milliseconds) }
    return ready > 0
  }

  private static var milliseconds: Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000 + Int64(time.tv_nsec) / 1_000_000
  }
}
