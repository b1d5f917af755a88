// For how long a connection has stood in the listen queue, which the kernel does not say.

import Synchronization

/// How many connections had come at a moment: those accepted and those in the queue. The queue is first in, first out, so
/// that the n-th to be accepted had come by the first moment at which n had; which is how a worker knows for how long a
/// connection has waited, although the kernel does not say. One word, so that it is read whole: milliseconds on the
/// monotonic clock and the count, 32 bits each, both going round.
struct ArrivalSample {
  let milliseconds: UInt32
  let count: UInt32

  init(now: UInt64, count: UInt64) {
    milliseconds = UInt32(truncatingIfNeeded: now / 1_000_000)
    self.count = UInt32(truncatingIfNeeded: count)
  }

  init(word: UInt64) {
    milliseconds = UInt32(truncatingIfNeeded: word >> 32)
    count = UInt32(truncatingIfNeeded: word)
  }

  var word: UInt64 { UInt64(milliseconds) << 32 | UInt64(count) }
}

extension Scoreboard {
  /// How many looks are kept.
  static let sampleCount = 64

  /// Takes a look at the queue. What was accepted is read before what waits: a connection that is accepted in between is
  /// missed and seems younger than it is, never older.
  package func sampleArrivals(now: UInt64, waiting: () -> Int) {
    let accepted = header.pointee.accepted.load(ordering: .acquiring)
    let sample = ArrivalSample(now: now, count: accepted &+ UInt64(waiting()))
    let index = header.pointee.arrivalsTaken.load(ordering: .relaxed)
    header.pointee.arrivals[Int(index % UInt64(Self.sampleCount))].store(sample.word, ordering: .releasing)
    header.pointee.arrivalsTaken.store(index &+ 1, ordering: .releasing)
  }

  /// Counts a connection that was just accepted; whether it has waited for longer than `limit` nanoseconds.
  package func acceptedOneThatWaited(longerThan limit: UInt64, now: UInt64) -> Bool {
    let number = UInt32(
      truncatingIfNeeded: header.pointee.accepted.wrappingAdd(1, ordering: .acquiringAndReleasing).newValue)
    let taken = header.pointee.arrivalsTaken.load(ordering: .acquiring)
    let (milliseconds, limit) = (UInt32(truncatingIfNeeded: now / 1_000_000), limit / 1_000_000)
    for index in 0..<min(Int(taken), Self.sampleCount) {
      let sample = ArrivalSample(word: header.pointee.arrivals[index].load(ordering: .relaxed))
      let age = UInt64(milliseconds &- sample.milliseconds)
      // Half a round away would be the future.
      guard age > limit, age < 1 << 31 else { continue }
      if Int32(bitPattern: sample.count &- number) >= 0 { return true }
    }
    return false
  }
}
