// How sure a difference is. Few runs on a noisy machine: everything that is said has an interval, and the interval is honest
// about how few they were.

import Glibc
import LoadGenerator

/// How sure an interval is.
package enum Level: Sendable {
  case percent95, percent99

  /// The normal distribution's percentile that cuts off half of the rest.
  fileprivate var normal: Double { self == .percent95 ? 1.959964 : 2.575829 }
  /// Student's, with 1 to 9 degrees of freedom.
  fileprivate var student: [Double] {
    switch self {
    case .percent95: [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262]
    case .percent99: [63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250]
    }
  }
}

/// An estimate and its interval.
package struct Estimate: Codable, Sendable, Equatable {
  package var value: Double
  package var low: Double
  package var high: Double

  package init(_ value: Double, _ low: Double, _ high: Double) {
    self.value = value
    self.low = low
    self.high = high
  }
}

package enum Statistics {
  /// Pairs below which nothing is said of a ratio.
  package static let fewest = 6

  package static func mean(_ values: [Double]) -> Double {
    values.isEmpty ? 0 : values.reduce(0, +) / Double(values.count)
  }

  /// The middle one; of an even number, halfway between the two in the middle.
  package static func median(_ values: [Double]) -> Double { quantile(values.sorted(), 0.5) }

  /// Of values that are sorted, by linear interpolation (type 7 of Hyndman and Fan, 1996).
  package static func quantile(_ sorted: [Double], _ fraction: Double) -> Double {
    guard let last = sorted.last else { return 0 }
    let position = fraction * Double(sorted.count - 1)
    let index = Int(position)
    guard index + 1 < sorted.count else { return last }
    return sorted[index] + (position - Double(index)) * (sorted[index + 1] - sorted[index])
  }

  /// The mean and its bootstrap interval: percentiles of the means of samples drawn from the sample, widened for small samples
  /// as Hesterberg has it (What Teachers Should Know about the Bootstrap, 2015, §5.3), and never narrower than Student's, since a
  /// few values with a long tail among them promise more than they can keep.
  package static func bootstrapMean(_ values: [Double], at level: Level = .percent95, resamples: Int = 4000) -> Estimate
  {
    let mean = mean(values)
    guard values.count > 1 else { return Estimate(mean, values.isEmpty ? 0 : -.infinity, .infinity) }
    // Equal values give equal intervals: a report that is drawn again says the same.
    var random = SplitMix(UInt64(values.count))
    var means = (0..<resamples).map { _ in
      var sum = 0.0
      for _ in values { sum += values[Int(random.next() % UInt64(values.count))] }
      return sum / Double(values.count)
    }
    means.sort()
    let tail = tail(of: values.count, level)
    let count = Double(values.count)
    let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (count - 1)
    let width = student(values.count - 1, level) * (variance / count).squareRoot()
    return Estimate(mean, min(quantile(means, tail), mean - width), max(quantile(means, 1 - tail), mean + width))
  }

  /// What to cut off at each end: Φ(−√(n/(n−1)) · t), t Student's percentile with n − 1 degrees.
  package static func tail(of count: Int, _ level: Level = .percent95) -> Double {
    let scale = (Double(count) / Double(count - 1)).squareRoot()
    return 0.5 * erfc(scale * student(count - 1, level) / 2.0.squareRoot())
  }

  /// The percentile of Student's t distribution that cuts off half of the rest: a table, and where it ends an expansion
  /// (Abramowitz and Stegun, 26.7.5).
  static func student(_ degrees: Int, _ level: Level = .percent95) -> Double {
    if degrees <= level.student.count { return level.student[max(degrees, 1) - 1] }
    let z = level.normal
    let n = Double(degrees)
    return z + (pow(z, 3) + z) / (4 * n) + (5 * pow(z, 5) + 16 * pow(z, 3) + 3 * z) / (96 * n * n)
      + (3 * pow(z, 7) + 19 * pow(z, 5) + 17 * pow(z, 3) - 15 * z) / (384 * n * n * n)
  }

  /// How many times `first` the `second` is. Both were taken in turn, so that what came together is compared: the mean of the
  /// logarithms of their ratios. Nil if that has no meaning: fewer than six (of five that are the same in truth, one is the
  /// larger in all of them once in sixteen times, and no interval can be surer than that), or one that is zero.
  package static func ratio(_ second: [Double], to first: [Double]) -> Ratio? {
    let logarithms = zip(first, second).filter { $0 > 0 && $1 > 0 }.map { log($1 / $0) }
    guard logarithms.count >= fewest, logarithms.count == min(first.count, second.count) else { return nil }
    func estimate(_ level: Level) -> Estimate {
      let estimate = bootstrapMean(logarithms, at: level)
      return Estimate(exp(estimate.value), exp(estimate.low), exp(estimate.high))
    }
    return Ratio(estimate: estimate(.percent95), sure: estimate(.percent99))
  }
}

/// How many times one series is another: as it is told, and as it is decided by.
package struct Ratio: Equatable, Sendable {
  /// With a 95 % interval.
  package let estimate: Estimate
  /// With a 99 % interval: of dozens of comparisons on a page, one in twenty would be too many to be wrong.
  package let sure: Estimate

  package init(estimate: Estimate, sure: Estimate) {
    self.estimate = estimate
    self.sure = sure
  }
}

/// What can be said of two series of which the second may be larger or smaller.
package enum Verdict: Equatable, Sendable {
  case larger(Estimate)
  case smaller(Estimate)
  case noDifference(Estimate)
  /// One of the two never had anything, the other always.
  case onlySecond
  case onlyFirst
  /// Too few runs, or some that had nothing.
  case unknown

  /// `floor` is the ratio that equal things were found apart by, where they were (1: they were not): less is not believed.
  package init(_ ratio: Ratio?, floor: Double = 1) {
    guard let ratio else {
      self = .unknown
      return
    }
    if ratio.sure.low > floor {
      self = .larger(ratio.estimate)
    } else if ratio.sure.high < 1 / floor {
      self = .smaller(ratio.estimate)
    } else {
      self = .noDifference(ratio.estimate)
    }
  }

  /// Of two series that were taken in turn.
  package static func of(_ second: [Double], against first: [Double], floor: Double = 1) -> Verdict {
    let count = min(first.count, second.count)
    let zeros = (first.count { $0 == 0 }, second.count { $0 == 0 })
    if count >= Statistics.fewest, zeros == (first.count, 0) { return .onlySecond }
    if count >= Statistics.fewest, zeros == (0, second.count) { return .onlyFirst }
    return Verdict(Statistics.ratio(second, to: first), floor: floor)
  }

  /// The ratio, where there is one.
  package var ratio: Estimate? {
    switch self {
    case .larger(let ratio), .smaller(let ratio), .noDifference(let ratio): ratio
    case .onlySecond, .onlyFirst, .unknown: nil
    }
  }

  package var isDifference: Bool {
    switch self {
    case .larger, .smaller, .onlySecond, .onlyFirst: true
    case .noDifference, .unknown: false
    }
  }
}
