// What a load generator saw.

import Histogram

/// Latencies in microseconds.
package struct Latencies: Codable, Sendable, Equatable {
  package var mean = 0.0
  package var p50 = 0.0
  package var p90 = 0.0
  package var p99 = 0.0
  package var p999 = 0.0
  package var max = 0.0
  /// An HdrHistogram of two significant digits: pairs of a value and how often it was seen, ascending.
  package var histogram: [[Int]] = []

  package init() {}

  package init(_ histogram: Histogram<UInt32>) {
    guard histogram.totalCount > 0 else { return }
    mean = histogram.mean
    p50 = Double(histogram.valueAtPercentile(50))
    p90 = Double(histogram.valueAtPercentile(90))
    p99 = Double(histogram.valueAtPercentile(99))
    p999 = Double(histogram.valueAtPercentile(99.9))
    max = Double(histogram.max)
    // Coarser than what was measured with: a report holds thousands of them.
    var coarse = Histogram<UInt32>(highestTrackableValue: Self.longest, numberOfSignificantValueDigits: .two)
    for value in histogram.recordedValues() { coarse.record(Swift.min(value.value, Self.longest), count: value.count) }
    self.histogram = coarse.recordedValues().map { [Int($0.value), Int($0.count)] }
  }

  /// An hour.
  static let longest: UInt64 = 3_600_000_000

  /// Space for latencies of up to an hour, with three significant digits.
  static func recorder() -> Histogram<UInt32> {
    Histogram(highestTrackableValue: longest, numberOfSignificantValueDigits: .three)
  }
}

/// What became of the requests of one kind that were to be sent during the measurement.
package struct KindResult: Codable, Sendable, Equatable {
  package var name: String
  /// Answered with a status below 400.
  package var answered = 0
  /// Answered with another: how many of which.
  package var refused: [String: Int] = [:]
  /// The connection could not be made, or broke before the whole answer had come.
  package var broken = 0
  /// Given up.
  package var timedOut = 0
  /// Of those that were answered, from the moment at which they were meant to be sent.
  package var latencies = Latencies()

  package var failed: Int { refused.values.reduce(0, +) + broken + timedOut }
}

/// What happened in a short while.
package struct Interval: Codable, Sendable, Equatable {
  package var answered = 0
  package var failed = 0
  /// Of those that were answered in it, in microseconds.
  package var longest = 0.0
}

/// What a load came to.
package struct LoadResult: Codable, Sendable, Equatable {
  /// The measurement, in seconds.
  package var seconds = 0.0
  /// Answers that came during the measurement, whenever their requests were sent.
  package var completed = 0
  package var kinds: [KindResult] = []
  /// All kinds together.
  package var latencies = Latencies()
  /// Requests that should have been sent during the measurement and never were, as no connection was free.
  package var unsent = 0
  /// Connections beside that were open and unused to the end.
  package var idle = 0
  /// By how much the generator itself was late to send where a connection was free: the 99th percentile, in microseconds.
  package var lateness = 0.0
  /// The generator's own, while it measured.
  package var cpuSeconds = 0.0
  /// The measurement in steps of `LoadRun.interval`.
  package var timeline: [Interval] = []

  package var answered: Int { kinds.reduce(0) { $0 + $1.answered } }
  package var failed: Int { kinds.reduce(0) { $0 + $1.failed } }
  /// Answers a second.
  package var throughput: Double { seconds > 0 ? Double(completed) / seconds : 0 }

  package init() {}
}
