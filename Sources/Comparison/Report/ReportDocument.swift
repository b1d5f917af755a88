// What a report says: sections with charts and sentences, and a summary. All of it from the data.

import Glibc
import LoadGenerator

package struct Section: Sendable {
  var name: String
  var title: String
  var text: String
  var sentences: [String] = []
  var charts: [Chart] = []
  /// A table that is a picture of its own.
  var map: Map?
}

/// Who wins where.
package struct Map: Sendable {
  struct Place: Sendable {
    /// Nil: no difference found, or nothing to compare.
    var winner: Model?
    var text: String
  }
  var columns: [String]
  var rows: [(title: String, places: [Place])]
}

package struct ReportDocument: Sendable {
  package let report: Report
  /// The ratio by which equal models were found apart; 1 where they were not.
  let floor: Double
  package private(set) var summary: [String] = []
  private(set) var sections: [Section] = []

  package init(_ report: Report) {
    self.report = report
    floor = Self.noiseFloor(report)
    sections = report.scenarios.filter { !$0.cells.contains { $0.samples.isEmpty } }.map(section)
    if let glance { sections.insert(glance, at: 0) }
    summary = summarise()
  }

  func scenario(_ name: String) -> ScenarioResult? { report.scenarios.first { $0.name == name } }

  func pick(_ scenario: ScenarioResult?, _ model: Model, _ matches: (Cell) -> Bool = { _ in true })
    -> CellResult?
  {
    scenario?.cells.first { $0.cell.setup.model == model && !$0.samples.isEmpty && matches($0.cell) }
  }

  /// Prefork and loop of a scenario, where both were run.
  func pair(_ scenario: ScenarioResult?, _ matches: (Cell) -> Bool = { _ in true }) -> (
    prefork: CellResult, loop: CellResult
  )? {
    guard let prefork = pick(scenario, .prefork, matches), let loop = pick(scenario, .loop, matches) else { return nil }
    return (prefork, loop)
  }

  /// Of answers a second, loop against prefork.
  func verdict(_ pair: (prefork: CellResult, loop: CellResult)) -> Verdict {
    Verdict.of(
      pair.loop.values(Metric.throughput.value), against: pair.prefork.values(Metric.throughput.value), floor: floor)
  }

  func models(_ scenario: ScenarioResult) -> [Model] {
    var found: [Model] = []
    for cell in scenario.cells where !found.contains(cell.cell.setup.model) { found.append(cell.cell.setup.model) }
    return found
  }

  static func twins(_ report: Report) -> [(first: CellResult, second: CellResult)] {
    guard let same = report.scenarios.first(where: { $0.name == "same" }) else { return [] }
    let firsts = same.cells.filter { $0.cell.twin == 0 }
    return firsts.compactMap { first in
      same.cells.first { $0.cell.twin == 1 && $0.cell.setup == first.cell.setup }.map { (first, $0) }
    }
  }

  private static func noiseFloor(_ report: Report) -> Double {
    twins(report).reduce(1) { floor, twins in
      let ratio = Statistics.ratio(
        twins.second.values(Metric.throughput.value), to: twins.first.values(Metric.throughput.value))
      guard let ratio, Verdict(ratio).isDifference else { return floor }
      return max(floor, ratio.estimate.value, 1 / ratio.estimate.value)
    }
  }

  func sentence(_ pair: (prefork: CellResult, loop: CellResult)?, _ metric: Metric, at: String = "") -> [String] {
    guard let pair else { return [] }
    return [Wording.sentence(pair.loop, pair.prefork, metric, floor: floor, at: at)]
  }

  // MARK: The summary

  private func summarise() -> [String] {
    var sentences: [String] = []
    sentences += sentence(
      pair(scenario("read")) { $0.concurrency == 16 }, .throughput("reads a second"), at: "with 16 clients")
    sentences += sentence(pair(scenario("write")), .throughput("written orders a second"), at: "with 16 clients")
    sentences += sentence(
      pair(scenario("read")) { $0.concurrency == 64 }, .memory, at: "with its PostgreSQL servers and 64 clients")
    if let headOfLine = pair(scenario("head-of-line")) {
      sentences.append(
        Wording.sentence(
          headOfLine.loop, headOfLine.prefork, .fastP99, floor: floor,
          at: "on fast reads where one in twenty is slow"))
    }
    if let kill = pair(scenario("kill")) {
      sentences.append(
        "When a process was killed, \(Wording.object(.prefork)) failed \(Self.failures(kill.prefork)) and \(Wording.object(.loop)) \(Self.failures(kill.loop))."
      )
    }
    return sentences
  }

  static func failures(_ cell: CellResult) -> String {
    let failed = cell.samples.map { Double($0.load.failed) }
    let asked = cell.samples.map { Double($0.load.answered + $0.load.failed) }
    return "\(Figure.text(Statistics.mean(failed))) of \(Figure.text(Statistics.mean(asked))) requests on average"
  }

  /// The ratio of loop to prefork in every scenario that has one pair of them.
  var glance: Section? {
    let places: [(String, (Cell) -> Bool)] = [
      ("read", { $0.concurrency == 16 }), ("nested", { _ in true }), ("write", { _ in true }), ("mix", { _ in true }),
      ("large", { _ in true }), ("slow-clients", { $0.isBuffered }), ("slow-clients", { !$0.isBuffered }),
      ("idle-clients", { _ in true }), ("few-connections", { _ in true }),
    ]
    var labels: [String] = []
    var points: [Chart.Point] = []
    var (wins, losses, unseen) = (0, 0, 0)
    for (name, matches) in places {
      guard let scenario = scenario(name), let pair = pair(scenario, matches) else { continue }
      let verdict = verdict(pair)
      guard let estimate = verdict.ratio else {
        if verdict == .onlySecond { wins += 1 }
        if verdict == .onlyFirst { losses += 1 }
        unseen += verdict == .unknown ? 0 : 1
        continue
      }
      var label = scenario.title
      if name == "slow-clients" { label += pair.loop.cell.isBuffered ? ", buffered" : ", unbuffered" }
      labels.append(label)
      points.append(Chart.Point(y: estimate.value, low: estimate.low, high: estimate.high))
      if case .larger = verdict { wins += 1 }
      if case .smaller = verdict { losses += 1 }
    }
    guard points.count > 1 else { return nil }
    return Section(
      name: "glance", title: "At a glance",
      text:
        "Answers a second of the event loop for one of the prefork pool, with 95 % intervals: right of 1 the loop has more.",
      sentences: [
        "Of \(points.count + unseen) comparisons the event loop answered more in \(wins), the prefork pool in \(losses), and in \(points.count + unseen - wins - losses) no difference was found."
      ] + (unseen > 0 ? ["In \(unseen) one of the two answered nothing at all, which has no place in the chart."] : []),
      charts: [
        Chart(
          "glance", .range, "Event loop against prefork, by scenario", x: .init(title: "scenario", labels: labels),
          y: .init(title: "answers a second, loop : prefork"),
          [.init(name: "loop : prefork", style: Model.loop.rawValue, points: points)],
          mark: 1)
      ])
  }
}
