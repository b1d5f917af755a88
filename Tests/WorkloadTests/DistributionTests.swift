// Times around a mean.

import Testing

@testable import Workload

/// The same numbers each time (SplitMix64).
private struct Sequence: RandomNumberGenerator {
  var state: UInt64 = 1

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var word = (state ^ state >> 30) &* 0xBF58_476D_1CE4_E5B9
    word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
    return word ^ word >> 31
  }
}

@Suite("Distribution")
struct DistributionTests {
  private static let count = 30_000

  private func times(_ distribution: Distribution, mean: Int64) -> [Int64] {
    var generator = Sequence()
    return (0..<Self.count).map { _ in distribution.draw(mean: mean, using: &generator) }.sorted()
  }

  /// The standard deviation of a mean of so many is a two-hundredth of it.
  @Test(
    "has the mean that is asked for, up to the longest one",
    arguments: [Distribution.fixed, .exponential, .lognormal], [1_000, 100_000, Distribution.longestMean])
  func mean(distribution: Distribution, mean: Int64) {
    let sum = Double(times(distribution, mean: mean).reduce(0, +))
    #expect((0.985...1.015).contains(sum / Double(Self.count) / Double(mean)))
  }

  @Test("is as long in the middle and at the end as its kind is, and no time is longer than the bound")
  func shape() {
    func share(_ distribution: Distribution, _ quantile: Int) -> Double {
      Double(times(distribution, mean: 10_000)[Self.count / 100 * quantile]) / 10_000
    }
    #expect(share(.fixed, 0) == 1 && share(.fixed, 99) == 1)
    // ln 2 and ln 100.
    let exponential = (share(.exponential, 50), share(.exponential, 99))
    #expect((0.67...0.71).contains(exponential.0))
    #expect((4.4...4.8).contains(exponential.1))
    // exp(−σ²/2) and exp(2.326 σ − σ²/2).
    let lognormal = (share(.lognormal, 50), share(.lognormal, 99))
    #expect((0.735...0.775).contains(lognormal.0))
    #expect((4.1...4.5).contains(lognormal.1))
    for distribution in [Distribution.exponential, .lognormal] {
      #expect(times(distribution, mean: Plan.longest).last == Plan.longest)
      #expect(times(distribution, mean: 0).last == 0)
    }
  }
}
