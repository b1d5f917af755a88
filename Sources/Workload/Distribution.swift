// How long statements take: the same each time, or around a mean as service times do.

import Glibc

/// A distribution of times in microseconds.
enum Distribution: Sendable {
  /// Always the mean.
  case fixed
  case exponential
  /// With a standard deviation of the logarithm of `sigma`: one in a hundred takes more than four times the mean.
  case lognormal

  static let sigma = 0.75
  /// The longest mean, in microseconds, but for a fixed one. No time is longer than `Plan.longest`; of what is cut off there the mean
  /// loses less than a thousandth if it is no longer than this.
  static let longestMean: Int64 = 1_000_000

  /// One time of that mean.
  func draw(mean: Int64, using generator: inout some RandomNumberGenerator) -> Int64 {
    let factor: Double
    switch self {
    case .fixed: return mean
    case .exponential: factor = -log(Self.positive(&generator))
    case .lognormal:
      // Box and Muller.
      let normal = sqrt(-2 * log(Self.positive(&generator))) * cos(2 * .pi * Self.positive(&generator))
      factor = exp(Self.sigma * normal - Self.sigma * Self.sigma / 2)
    }
    return Int64(min(Double(mean) * factor, Double(Plan.longest)).rounded())
  }

  /// Above 0, up to 1.
  private static func positive(_ generator: inout some RandomNumberGenerator) -> Double {
    1 - Double.random(in: 0..<1, using: &generator)
  }
}

/// Processor time of this process.
enum ProcessorTime {
  /// Spends that many microseconds of it.
  static func spend(_ microseconds: Int64) {
    if microseconds == 0 { return }
    let end = used + UInt64(microseconds) * 1_000
    while used < end {}
  }

  /// What this thread has had, in nanoseconds.
  static var used: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}
