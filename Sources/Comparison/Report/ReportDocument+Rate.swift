// Latency against offered rate, as far as each model keeps up.

import LoadGenerator

extension ReportDocument {
  func rate(_ scenario: ScenarioResult, _ section: inout Section) {
    let rates = Set(scenario.cells.compactMap(\.cell.rate)).sorted()
    // Latencies are those of who was answered: where many were not, they say nothing.
    func lost(_ cell: CellResult) -> Double {
      Statistics.median(
        cell.values { Double($0.load.unsent + $0.load.failed) / max(1, $0.load.seconds * (cell.cell.rate ?? 1)) })
    }
    func keptUp(_ cell: CellResult) -> Bool { lost(cell) <= 0.005 }
    for rate in rates {
      let place = "at \(Figure.text(rate)) reads a second"
      guard let pair = pair(scenario, { $0.rate == rate }) else { continue }
      for cell in [pair.prefork, pair.loop] where !keptUp(cell) {
        section.sentences.append(
          "\(Wording.subject(cell.cell.setup.model)) did not keep up \(place): \(Figure.text(lost(cell) * 100)) % were not answered in time, so its latency there is not told."
        )
      }
      guard keptUp(pair.prefork), keptUp(pair.loop) else { continue }
      section.sentences.append(Wording.sentence(pair.loop, pair.prefork, .p99, floor: floor, at: place))
      let lateness = Statistics.median((pair.prefork.samples + pair.loop.samples).map(\.load.lateness))
      if lateness > 0.2 * Statistics.median((pair.prefork.samples + pair.loop.samples).map(\.load.latencies.p99)) {
        section.sentences.append(
          "The generator itself was late by \(Figure.milliseconds(lateness)) at the 99th percentile \(place), which is a part of these latencies."
        )
      }
    }
    let good = scenario.cells.filter(keptUp)
    section.charts.append(
      Chart(
        "rate", .line,
        "99th percentile of latency against offered rate, from the moment at which a request was meant to be sent, as far as each keeps up",
        x: .init(title: "reads a second, offered"), y: .init(title: "ms", isLogarithmic: true),
        models(scenario).map { Chart.Series($0, good, x: { $0.rate ?? 0 }) { $0.load.latencies.p99 / 1000 } })
    )
    // The highest rate that all keep up with.
    let middle =
      rates.last { rate in scenario.cells.allSatisfy { $0.cell.rate != rate || keptUp($0) } } ?? rates.first ?? 0
    let shares = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999]
    section.charts.append(
      Chart(
        "percentiles", .line, "Percentiles of latency at \(Figure.text(middle)) reads a second",
        x: .init(title: "percentile", labels: shares.map { Figure.text($0 * 100) }),
        y: .init(title: "ms", isLogarithmic: true),
        models(scenario).compactMap { model in
          guard let cell = pick(scenario, model, { $0.rate == middle }) else { return nil }
          return Chart.Series(
            name: model.title, style: model.rawValue,
            points: shares.map { share in
              Chart.Point(cell.estimate { Self.percentile($0.load.latencies, share) / 1000 })
            })
        }))
  }

  /// Of a histogram.
  static func percentile(_ latencies: Latencies, _ share: Double) -> Double {
    let total = latencies.histogram.reduce(0) { $0 + $1[1] }
    var seen = 0
    for pair in latencies.histogram {
      seen += pair[1]
      if Double(seen) >= share * Double(total), seen > 0 { return Double(pair[0]) }
    }
    return latencies.max
  }
}
