// What a comparison came to: everything that was measured, and on what. `data.json` is this.

import LoadGenerator

package struct Report: Codable, Sendable {
  /// Of this shape; a program reads the shapes that it knows.
  package var version = 1
  /// In UTC, as ISO 8601 has it.
  package var started = ""
  package var seconds = 0.0
  package var isQuick = false
  package var repeats = 0
  /// Whether everything was run that was to be.
  package var isComplete = false
  /// What kept it from going on, if anything did.
  package var failure: String?
  package var machine = Machine()
  package var calibration = Calibration()
  /// What the generator comes to where nginx alone answers, a file from memory: answers a second.
  package var ceiling = 0.0
  /// What the models were asked once before, to see that they answer the same; and those that did not.
  package var answersCompared: [String] = []
  package var answersThatDiffer: [String] = []
  package var scenarios: [ScenarioResult] = []

  package init() {}

  /// What is wrong with one that was read, in a line; nil if nothing is.
  package var fault: String? {
    if version != 1 { return "it is of version \(version), and this program reads version 1" }
    if !(1...1000).contains(repeats) { return "its repeats are \(repeats)" }
    let known = Scenarios.names + ["handicap"]
    if let stranger = scenarios.first(where: { !known.contains($0.name) }) {
      return "it has a scenario '\(stranger.name)'"
    }
    func isSound(_ value: Double) -> Bool { value.isFinite && abs(value) < 1e15 }
    let figures = [seconds, ceiling, calibration.capacity]
    let samples = scenarios.flatMap(\.cells).flatMap(\.samples)
    let cells = scenarios.flatMap(\.cells).map(\.cell)
    guard figures.allSatisfy(isSound), cells.allSatisfy(\.isSound), samples.allSatisfy(\.isSound) else {
      return "it has figures that can't be"
    }
    return nil
  }
}

extension Cell {
  fileprivate var isSound: Bool {
    [rate ?? 0, seconds ?? 0, warmUp ?? 0, disturbance?.after ?? 0].allSatisfy { (0...1e12).contains($0) }
      && [concurrency, amount, setup.connections, setup.loops, setup.handicap].allSatisfy {
        (0...1_000_000).contains($0)
      }
  }
}

extension Sample {
  fileprivate var isSound: Bool {
    let figures =
      [load.seconds, load.lateness, load.cpuSeconds, startSeconds, nginx.cpu, responder.cpu, postgres.cpu]
      + load.timeline.map(\.longest)
      + ([load.latencies] + load.kinds.map(\.latencies)).flatMap { [$0.mean, $0.p50, $0.p90, $0.p99, $0.p999, $0.max] }
    let most = 1_000_000_000_000
    let counts =
      [load.completed, load.unsent, load.idle, responderMemory / 1024, postgresMemory / 1024]
      + [nginx, responder, postgres].map(\.switches) + load.timeline.flatMap { [$0.answered, $0.failed] }
      + load.kinds.flatMap { [$0.answered, $0.broken, $0.timedOut] + Array($0.refused.values) }
    let histograms = [load.latencies] + load.kinds.map(\.latencies)
    return figures.allSatisfy { (0...1e15).contains($0) } && counts.allSatisfy { (0...most).contains($0) }
      && load.kinds.count <= 1000
      && histograms.allSatisfy {
        $0.histogram.allSatisfy { $0.count == 2 && $0.allSatisfy { (0...most).contains($0) } }
      }
  }
}

package struct ScenarioResult: Codable, Sendable {
  package var name: String
  package var title: String
  package var text: String
  package var cells: [CellResult]

  package init(_ scenario: Scenario) {
    name = scenario.name
    title = scenario.title
    text = scenario.text
    cells = scenario.cells.map { CellResult(cell: $0) }
  }
}

package struct CellResult: Codable, Sendable {
  package var cell: Cell
  package var samples: [Sample] = []

  package init(cell: Cell, samples: [Sample] = []) {
    self.cell = cell
    self.samples = samples
  }

  package func values(_ metric: (Sample) -> Double) -> [Double] { samples.map(metric) }
  package func estimate(_ metric: (Sample) -> Double) -> Estimate { Statistics.bootstrapMean(values(metric)) }
}

/// What it was measured on.
package struct Machine: Codable, Sendable {
  package var processor = ""
  package var processors = 0
  package var memory = 0
  package var system = ""
  /// Name and version of what took part.
  package var versions: [String: String] = [:]
  /// Of the program's sources, where they can be found; with a + where they had been changed.
  package var commit = ""
  /// What could not be held still.
  package var uncontrolled: [String] = []

  package init() {}
}
