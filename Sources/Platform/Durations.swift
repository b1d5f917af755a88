// How long things took, in buckets: what a histogram of a monitoring system is made of.

/// Buckets of durations.
package enum Latency {
  /// Upper bounds in nanoseconds; the last bucket has none.
  package static let bounds: [UInt64] = [
    100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 25_000_000, 50_000_000, 100_000_000,
    250_000_000, 500_000_000, 1_000_000_000, 2_500_000_000, 5_000_000_000, 10_000_000_000, 30_000_000_000,
  ]
  package static let bucketCount = 18

  package static func bucket(_ nanoseconds: UInt64) -> Int {
    var index = 0
    while index < bounds.count, nanoseconds > bounds[index] { index += 1 }
    return index
  }
}

/// Durations that were counted, in nanoseconds.
package struct Durations: Equatable, Sendable {
  package private(set) var counts = [UInt64](repeating: 0, count: Latency.bucketCount)
  package private(set) var count: UInt64 = 0
  package private(set) var sum: UInt64 = 0
  package private(set) var longest: UInt64 = 0

  package init() {}

  package mutating func add(_ nanoseconds: UInt64) {
    counts[Latency.bucket(nanoseconds)] += 1
    count += 1
    sum += nanoseconds
    longest = max(longest, nanoseconds)
  }
}
