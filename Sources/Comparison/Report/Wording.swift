// How figures and differences are put into words, never stronger than they are.

import Glibc

/// Numbers as people read them.
enum Figure {
  /// Three significant digits, with commas for thousands.
  static func text(_ value: Double) -> String {
    guard value.isFinite, abs(value) < 1e15 else { return "?" }
    if value == 0 { return "0" }
    let magnitude = Int(floor(log10(abs(value))))
    if magnitude >= 2 {
      let unit = pow(10, Double(magnitude - 2))
      return grouped(Int((value / unit).rounded() * unit))
    }
    let decimals = min(2 - magnitude, 6)
    let scale = pow(10, Double(decimals))
    let scaled = Int((abs(value) * scale).rounded())
    let whole = scaled / Int(scale)
    var fraction = String(scaled % Int(scale))
    fraction = String(repeating: "0", count: max(0, decimals - fraction.count)) + fraction
    while fraction.hasSuffix("0") { fraction.removeLast() }
    return (value < 0 ? "−" : "") + "\(whole)" + (fraction.isEmpty ? "" : ".\(fraction)")
  }

  private static func grouped(_ value: Int) -> String {
    var digits = Array(String(abs(value)))
    var index = digits.count - 3
    while index > 0 {
      digits.insert(",", at: index)
      index -= 3
    }
    return (value < 0 ? "−" : "") + String(digits)
  }

  /// Of microseconds.
  static func milliseconds(_ microseconds: Double) -> String { "\(text(microseconds / 1000)) ms" }
  static func megabytes(_ bytes: Double) -> String { "\(text(bytes / 1_048_576)) MB" }
  static func times(_ ratio: Double) -> String { "\(Self.ratio(ratio)) times" }
  /// Two decimals where that is not nothing.
  static func ratio(_ value: Double) -> String { text(value < 0.1 ? value : (value * 100).rounded() / 100) }
}

/// What is compared, with the words for it.
struct Metric: Sendable {
  /// As in "no difference in the median latency".
  let name: String
  /// "answered 1.5 times as many reads a second as", with the times left out.
  let verb: String
  let many: String
  /// Whether a run in which it is zero is one in which nothing was answered.
  var countsAnswers = false
  let value: @Sendable (Sample) -> Double

  static let throughput = throughput("requests a second")
  static func throughput(_ unit: String) -> Metric {
    Metric(name: unit, verb: "answered", many: "as many \(unit) as", countsAnswers: true) { $0.load.throughput }
  }
  static let p99 = latency("the 99th percentile of latency") { $0.load.latencies.p99 }
  static let p50 = latency("the median latency") { $0.load.latencies.p50 }
  /// Of the reads that are not slow themselves.
  static let fastP99 = latency("the 99th percentile of latency") {
    $0.load.kinds.first { $0.name == "fast" }?.latencies.p99 ?? 0
  }
  private static func latency(_ name: String, _ value: @escaping @Sendable (Sample) -> Double) -> Metric {
    Metric(name: name, verb: "had", many: "\(name) of", value: value)
  }
  static let cpu = Metric(name: "processor time a request", verb: "cost", many: "the processor time a request of") {
    $0.cpuPerRequest * 1e6
  }
  static let memory = Metric(name: "memory", verb: "needed", many: "the memory of") {
    Double($0.responderMemory + $0.postgresMemory)
  }
}

enum Wording {
  /// "The event loop": at the beginning of a sentence.
  static func subject(_ model: Model) -> String {
    switch model {
    case .prefork: "The prefork pool"
    case .preforkDynamic: "The dynamic pool"
    case .loop: "The event loop"
    case .loopShared: "The event loop with shared reads"
    case .cgi: "Plain CGI"
    case .php: "PHP-FPM"
    case .fastapi: "FastAPI"
    }
  }

  static func object(_ model: Model) -> String {
    let text = subject(model)
    return text.hasPrefix("The ") ? "the \(text.dropFirst(4))" : text
  }

  /// The verdict on `second` against `first`, as a sentence.
  static func sentence(_ second: CellResult, _ first: CellResult, _ metric: Metric, floor: Double, at: String = "")
    -> String
  {
    let (a, b) = (first.values(metric.value), second.values(metric.value))
    let place = at.isEmpty ? "" : " \(at)"
    let (them, others) = (second.cell.setup.model, first.cell.setup.model)
    // A ratio to nothing says nothing; that there is nothing says it all.
    let zeros = (a.count { $0 == 0 }, b.count { $0 == 0 })
    if zeros != (0, 0) {
      guard metric.countsAnswers else {
        return
          "\(subject(them)) and \(object(others)) can't be compared\(place) in \(metric.name): some runs have no answers to tell it from."
      }
      func told(_ model: Model, _ values: [Double], _ zeros: Int) -> String {
        let name = object(model)
        if zeros == values.count { return "\(name) answered nothing" }
        let mean = "\(name) answered \(Figure.text(Statistics.mean(values))) \(metric.name)"
        return zeros == 0 ? mean : "\(mean), nothing in \(zeros) of \(values.count) runs"
      }
      let text = "\(told(others, a, zeros.0)), while \(told(them, b, zeros.1))\(place)."
      return text.prefix(1).uppercased() + text.dropFirst()
    }
    switch Verdict(Statistics.ratio(b, to: a), floor: floor) {
    case .larger(let ratio), .smaller(let ratio):
      return
        "\(subject(them)) \(metric.verb) \(Figure.times(ratio.value)) \(metric.many) \(object(others))\(place) \(interval(ratio))."
    case .noDifference(let ratio) where ratio.low > 1 || ratio.high < 1:
      // The surer interval, by which it is decided, holds 1, or noise as large as this has been seen.
      return
        "A difference between \(object(them)) and \(object(others))\(place) in \(metric.name) is likely, but not sure \(interval(ratio))."
    case .noDifference(let ratio):
      return
        "No difference found between \(object(them)) and \(object(others))\(place) in \(metric.name) \(interval(ratio))."
    case .unknown, .onlyFirst, .onlySecond:
      return "Too little was run to compare \(object(them)) with \(object(others))\(place)."
    }
  }

  static func interval(_ ratio: Estimate) -> String {
    "(95 % interval of the ratio: \(Figure.ratio(ratio.low)) to \(Figure.ratio(ratio.high)))"
  }
}
