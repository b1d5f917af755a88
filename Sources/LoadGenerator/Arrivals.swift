// When the requests of an open loop are meant to be sent.

/// Moments in nanoseconds, evenly spaced, denser during a burst.
package struct Arrivals: Sendable {
  private let end: UInt64
  private let interval: Double
  private let burst: (from: Double, to: Double, interval: Double)?
  private var next: Double

  /// `measured` is when the measurement begins, from which a burst counts.
  package init(_ plan: LoadPlan, rate: Double, from start: UInt64, measured: UInt64, to end: UInt64) {
    self.end = end
    interval = 1e9 / rate
    next = Double(start)
    burst = plan.burst.map {
      let from = Double(measured) + $0.after * 1e9
      return (from, from + $0.seconds * 1e9, 1e9 / (rate * $0.factor))
    }
  }

  /// Takes the next moment; nil when it would be the end or later.
  package mutating func take() -> UInt64? {
    let moment = UInt64(next)
    guard moment < end else { return nil }
    if let burst, next >= burst.from, next < burst.to { next += burst.interval } else { next += interval }
    return moment
  }

  /// How many more there will be: those that nobody has taken.
  package consuming func remaining() -> Int {
    var count = 0
    while take() != nil { count += 1 }
    return count
  }
}
