// The monotonic clock as plain numbers, for deadlines and durations.

import Glibc

/// CLOCK_MONOTONIC in nanoseconds.
package enum MonotonicClock {
  package static var now: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
  }

  /// Blocks for that long, whatever signals come meanwhile.
  package static func sleep(_ duration: Duration) {
    let end = now + duration.nanoseconds
    var deadline = timespec(tv_sec: Int(end / 1_000_000_000), tv_nsec: Int(end % 1_000_000_000))
    while clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, nil) == EINTR {}
  }
}

extension Duration {
  /// Whole nanoseconds, none below zero, and no more than a century.
  package var nanoseconds: UInt64 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    if seconds > 3_000_000_000 { return 3_000_000_000_000_000_000 }
    return UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
  }
}
