// How a database connection has fared: whether it is worth waiting for, and how long to pause before it is made again.

/// What is known of one connection's ends and attempts. Times are in monotonic nanoseconds.
struct ConnectionHistory {
  /// Whether it has broken, and nothing says yet that it can't be made again.
  private(set) var isReturning = false
  /// Whether anything has been answered on it.
  var hasAnswered = false
  /// When it became ready, or broke, or the last attempt ended.
  private var changedAt: UInt64 = 0
  private var failedAttempts = 0
  /// Whether an attempt that fails at once is followed by another at once: a server that goes away ends conversations that have
  /// just begun, too.
  private var hasSpareAttempt = false

  /// For how long at most a connection that has broken is worth waiting for.
  private static let patience: UInt64 = 10_000_000_000
  /// A connection that breaks earlier, and has been of no use, counts as an attempt that has failed; an attempt that fails earlier
  /// has failed at once.
  private static let moment: UInt64 = 1_000_000_000

  mutating func connected(at now: UInt64) {
    isReturning = false
    hasAnswered = false
    changedAt = now
  }

  /// It has broken, if it was ready, or could not be made.
  mutating func failed(at now: UInt64, wasReady: Bool) {
    let wasMoment = now < changedAt + Self.moment
    if wasReady {
      isReturning = true
      hasSpareAttempt = hasAnswered || !wasMoment
      failedAttempts = hasSpareAttempt ? 0 : failedAttempts + 1
    } else if hasSpareAttempt {
      hasSpareAttempt = false
      isReturning = wasMoment
      failedAttempts = wasMoment ? 0 : 1
    } else {
      isReturning = false
      failedAttempts += 1
    }
    changedAt = now
  }

  /// Before the next attempt: none after a connection that was good. Else from 50 ms doubling to 2 s, each shortened at random by up
  /// to a half, so that many do not come back at once.
  var pause: Duration? {
    guard failedAttempts > 0 else { return nil }
    let longest = min(2_000, 50 << min(failedAttempts - 1, 6))
    return .milliseconds(Int.random(in: longest / 2...longest))
  }

  /// Whether it was worth waiting for until now.
  mutating func isGivenUp(at now: UInt64) -> Bool {
    guard isReturning, now > changedAt, now - changedAt > Self.patience else { return false }
    isReturning = false
    return true
  }
}
