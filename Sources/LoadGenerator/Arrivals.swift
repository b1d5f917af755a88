// When the requests of an open loop are meant to be sent.

/// Moments in nanoseconds, evenly spaced, denser during a burst.
package struct Arrivals: Sendable {
  private var end = UInt64.max
  private let interval: Double
  private var burst: (from: Double, to: Double, interval: Double)?
  private var next: Double

  /// Without an end, until it is known when the measurement begins.
  package init(rate: Double, from start: UInt64) {
    interval = 1e9 / rate
    next = Double(start)
  }

  /// The measurement begins at `start`, from which a burst counts, and lasts until `end`.
  package mutating func measure(_ plan: LoadPlan, from start: UInt64, to end: UInt64) {
    self.end = end
    burst = plan.burst.map {
      let from = Double(start) + $0.after * 1e9
      return (from, from + $0.seconds * 1e9, interval / $0.factor)
    }
  }

  /// Takes the next moment; nil when it would be the end or later.
  package mutating func take() -> UInt64? {
    guard next < Double(end) else { return nil }
    let moment = UInt64(next)
    if let burst, next >= burst.from, next < burst.to { next += burst.interval } else { next += interval }
    return moment
  }

  /// How many more there will be from `start` on: those that nobody has taken.
  package consuming func remaining(from start: UInt64) -> Int {
    var count = 0
    while let moment = take() { if moment >= start { count += 1 } }
    return count
  }
}
