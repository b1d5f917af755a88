// OpenMetrics 1.0 text: what Prometheus reads.

import Platform

/// Metrics whose names begin with one prefix, one after another.
package struct OpenMetrics {
  private let prefix: String
  private var text = ""

  /// `prefix` without its underscore.
  package init(prefix: String) { self.prefix = prefix }

  /// The metadata of a family; its samples follow.
  package mutating func family(_ name: String, _ kind: String, _ help: String, unit: String? = nil) {
    text += "# TYPE \(prefix)_\(name) \(kind)\n"
    if let unit { text += "# UNIT \(prefix)_\(name) \(unit)\n" }
    text += "# HELP \(prefix)_\(name) \(help)\n"
  }

  /// One sample; `name` with its suffix, `labels` as in `state="idle"`.
  package mutating func sample(_ name: String, labels: String = "", _ value: String) {
    text += "\(prefix)_\(name)\(labels.isEmpty ? "" : "{\(labels)}") \(value)\n"
  }

  package mutating func gauge(_ name: String, _ help: String, _ value: some BinaryInteger) {
    family(name, "gauge", help)
    sample(name, String(value))
  }

  package mutating func counter(_ name: String, _ help: String, _ value: some BinaryInteger) {
    family(name, "counter", help)
    sample("\(name)_total", String(value))
  }

  /// A counter of seconds, from nanoseconds; `name` ends in `_seconds`.
  package mutating func secondsCounter(_ name: String, _ help: String, _ nanoseconds: UInt64) {
    family(name, "counter", help, unit: "seconds")
    sample("\(name)_total", Self.seconds(nanoseconds))
  }

  package mutating func secondsGauge(_ name: String, _ help: String, _ nanoseconds: UInt64) {
    family(name, "gauge", help, unit: "seconds")
    sample(name, Self.seconds(nanoseconds))
  }

  /// How long requests took.
  package mutating func latency(_ name: String, _ help: String, _ totals: Totals) {
    histogram(name, help, totals.latency, sum: totals.busy)
  }

  package mutating func histogram(_ name: String, _ help: String, _ durations: Durations) {
    histogram(name, help, durations.counts, sum: durations.sum)
  }

  /// `counts` by the buckets of `Latency`, `sum` in nanoseconds; `name` ends in `_seconds`.
  private mutating func histogram(_ name: String, _ help: String, _ counts: [UInt64], sum: UInt64) {
    family(name, "histogram", help, unit: "seconds")
    var total: UInt64 = 0
    for (index, count) in counts.enumerated() {
      total += count
      let bound = index < Latency.bounds.count ? Self.seconds(Latency.bounds[index]) : "+Inf"
      sample("\(name)_bucket", labels: "le=\"\(bound)\"", String(total))
    }
    sample("\(name)_sum", Self.seconds(sum))
    sample("\(name)_count", String(total))
  }

  /// The whole text, closed.
  package func finished() -> [UInt8] { Array((text + "# EOF\n").utf8) }

  /// Nanoseconds as seconds, exactly: no number of ours is rounded.
  package static func seconds(_ nanoseconds: UInt64) -> String {
    let fraction = String(nanoseconds % 1_000_000_000)
    let digits = String(repeating: "0", count: 9 - fraction.count) + fraction
    let trimmed = digits.reversed().drop { $0 == "0" }.reversed()
    return "\(nanoseconds / 1_000_000_000).\(trimmed.isEmpty ? "0" : String(trimmed))"
  }
}
