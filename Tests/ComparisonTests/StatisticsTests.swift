// Known values, and what the intervals are worth: how often they find what is there and what is not.

import Glibc
import LoadGenerator
import Testing

@testable import Comparison

@Suite struct StatisticsTests {
  @Test func quantilesAreThoseOfR() {
    // quantile(c(1, 2, 4, 8), type = 7)
    let values = [1.0, 2, 4, 8]
    #expect(Statistics.quantile(values, 0) == 1)
    #expect(Statistics.quantile(values, 0.25) == 1.75)
    #expect(Statistics.quantile(values, 0.5) == 3)
    #expect(Statistics.quantile(values, 0.75) == 5)
    #expect(Statistics.quantile(values, 1) == 8)
    #expect(Statistics.median([3, 1, 2]) == 2)
    #expect(Statistics.median([]) == 0)
  }

  @Test(arguments: [(1, 12.706), (5, 2.571), (9, 2.262), (10, 2.228), (19, 2.093), (30, 2.042), (1000, 1.962)])
  func studentsPercentilesAreThoseOfTheTables(_ degrees: Int, _ expected: Double) {
    #expect(abs(Statistics.student(degrees) - expected) < 0.002)
  }

  @Test(arguments: [(5, 4.032), (10, 3.169), (19, 2.861), (1000, 2.581)])
  func soAreThoseOfTheSurerInterval(_ degrees: Int, _ expected: Double) {
    #expect(abs(Statistics.student(degrees, .percent99) - expected) < 0.01)
  }

  @Test func theWidenedTailIsHesterbergs() {
    // pnorm(-sqrt(n/(n-1)) * qt(.975, n-1)) for n = 6, 20 and 1000.
    #expect(abs(Statistics.tail(of: 6) - 0.00244) < 0.0001)
    #expect(abs(Statistics.tail(of: 20) - 0.01587) < 0.0005)
    #expect(abs(Statistics.tail(of: 1000) - 0.02481) < 0.0005)
  }

  @Test func theIntervalOfAMeanHoldsItAndIsTheSameEachTime() {
    let values = [9.8, 10.4, 10.1, 9.7, 10.2, 10.0, 9.9, 10.3]
    let estimate = Statistics.bootstrapMean(values)
    #expect(abs(estimate.value - 10.05) < 1e-9)
    #expect(estimate.low < 10.05 && estimate.high > 10.05)
    #expect(estimate.low > 9.7 && estimate.high < 10.4)
    #expect(Statistics.bootstrapMean(values) == estimate)
  }

  @Test func aRatioNeedsEnoughPairsAboveZero() {
    #expect(Statistics.ratio([2, 2, 2], to: [1, 1, 1]) == nil)
    #expect(Statistics.ratio([2, 2, 2, 2, 2, 0], to: [1, 1, 1, 1, 1, 1]) == nil)
    let ratio = Statistics.ratio([2, 4, 6, 8, 10, 12], to: [1, 2, 3, 4, 5, 6])
    #expect(
      ratio.map {
        [$0.estimate, $0.sure].allSatisfy {
          abs($0.value - 2) < 1e-9 && abs($0.low - 2) < 1e-9 && abs($0.high - 2) < 1e-9
        }
      }
        == true)
  }

  @Test func aVerdictBelievesNothingBelowTheNoiseFloorOrOutsideTheSureInterval() {
    func ratio(_ value: Double, _ low: Double, _ high: Double) -> Ratio {
      Ratio(estimate: Estimate(value, (low + value) / 2, (high + value) / 2), sure: Estimate(value, low, high))
    }
    let larger = ratio(1.1, 1.05, 1.15)
    #expect(Verdict(larger) == .larger(larger.estimate))
    #expect(Verdict(larger, floor: 1.08) == .noDifference(larger.estimate))
    #expect(Verdict(ratio(0.8, 0.7, 0.9), floor: 1.08).isDifference)
    #expect(!Verdict(ratio(1.1, 0.99, 1.2)).isDifference)
    #expect(Verdict(nil) == .unknown)
  }

  /// Throughputs of a run on a noisy machine: they drift together, each is off by 8 %, and one in ten by much more.
  private func run(_ random: inout SplitMix, passes: Int, slower: Double = 1) -> (first: [Double], second: [Double]) {
    func normal() -> Double {
      let (u, v) = (Double.random(in: 1e-12..<1, using: &random), Double.random(in: 0..<1, using: &random))
      return (-2 * log(u)).squareRoot() * cos(2 * .pi * v)
    }
    var drift = 0.0
    var (first, second): ([Double], [Double]) = ([], [])
    for _ in 0..<passes {
      drift += 0.05 * normal()
      func noise() -> Double { exp(drift + 0.08 * normal() - (Int.random(in: 0..<10, using: &random) == 0 ? 0.25 : 0)) }
      first.append(10_000 * noise())
      second.append(10_000 * slower * noise())
    }
    return (first, second)
  }

  private func found(of runs: Int, passes: Int, slower: Double = 1, seed: UInt64) -> Int {
    var random = SplitMix(seed)
    return (0..<runs).reduce(0) { count, _ in
      let (first, second) = run(&random, passes: passes, slower: slower)
      return count + (Verdict(Statistics.ratio(second, to: first)).isDifference ? 1 : 0)
    }
  }

  @Test(arguments: [6, 20]) func theSameAgainstItselfIsFoundApartNoMoreOftenThanStated(_ passes: Int) {
    #expect(found(of: 100, passes: passes, seed: 2026) <= 5)
  }

  /// The rate itself, with less chance in it: by `make test-long`.
  @Test(.enabled(if: getenv("FORKLOOP_LONG_TESTS") != nil), arguments: [6, 20])
  func theSameAgainstItselfIsFoundApartAtNoHigherRate(_ passes: Int) {
    let rate = Double(found(of: 800, passes: passes, seed: 7)) / 800
    #expect(rate <= 0.025, "\(rate)")
  }

  @Test func aModelThatIsAFifthSlowerIsFound() {
    #expect(found(of: 100, passes: 20, slower: 0.8, seed: 1) >= 99)
    #expect(found(of: 100, passes: 6, slower: 0.8, seed: 1) >= 30)
  }
}
