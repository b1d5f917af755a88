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
  package var machine = Machine()
  package var calibration = Calibration()
  /// What the generator comes to where nginx alone answers, a file from memory: answers a second.
  package var ceiling = 0.0
  /// What the models were asked once before, to see that they answer the same; and those that did not.
  package var answersCompared: [String] = []
  package var answersThatDiffer: [String] = []
  package var scenarios: [ScenarioResult] = []

  package init() {}
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
