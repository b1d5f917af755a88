// What is said of runs in which something happens, and of what was made equal.

import LoadGenerator

extension ReportDocument {
  func fault(_ scenario: ScenarioResult, _ section: inout Section) {
    var happened: Double?
    for cell in scenario.cells {
      let moment = cell.cell.disturbance?.after ?? cell.cell.burstTimes?.after ?? 0
      happened = moment
      // A burst is over before anybody can recover from it.
      let end = moment + (cell.cell.burstTimes?.seconds ?? 0)
      let recoveries = cell.samples.map { Self.recovery($0.load.timeline, before: moment, after: end) }
      let known = recoveries.compactMap { $0 }
      let recovered =
        known.count == recoveries.count
        ? "and was back at its rate \(cell.cell.burst ? "after the burst " : "")\(Figure.text(Statistics.mean(known))) s later on average (at most \(Figure.text(known.max() ?? 0)) s)"
        : "and was not back at its rate at the end in \(recoveries.count - known.count) of \(recoveries.count) runs"
      section.sentences.append("\(Wording.subject(cell.cell.setup.model)) failed \(Self.failures(cell)) \(recovered).")
    }
    let steps = 1 / LoadRun.interval
    func line(_ cell: CellResult, _ name: String, dashed: Bool, _ value: (Interval) -> Double) -> Chart.Series {
      let length = cell.samples.map(\.load.timeline.count).min() ?? 0
      return Chart.Series(
        name: name, style: cell.cell.setup.model.rawValue, isDashed: dashed,
        points: (0..<length).map { index in
          Chart.Point(
            x: (Double(index) / steps * 10).rounded() / 10,
            y: Statistics.mean(cell.samples.map { value($0.load.timeline[index]) * steps }))
        })
    }
    section.charts.append(
      Chart(
        scenario.name, .line, "Answers a second in steps of 100 ms, the mean of all runs", x: .init(title: "seconds"),
        y: .init(title: "a second"),
        scenario.cells.flatMap { cell in
          let lines = [line(cell, cell.cell.setup.model.title, dashed: false) { Double($0.answered) }]
          let failed = cell.samples.contains { $0.load.timeline.contains { $0.failed > 0 } }
          return lines
            + (failed ? [line(cell, "\(cell.cell.setup.model.title): failed", dashed: true) { Double($0.failed) }] : [])
        }, mark: happened))
  }

  /// Seconds from `end` until it comes to four fifths of what was before `moment`, without a failure, and does so to the end, for at
  /// least three steps; nil if that never was. A burst's own surplus is over when the answers are as few as before.
  static func recovery(_ timeline: [Interval], before moment: Double, after end: Double) -> Double? {
    let first = Int(moment / LoadRun.interval)
    let start = Int(end / LoadRun.interval)
    guard first > 0, start >= first, start < timeline.count else { return nil }
    let usual = Statistics.mean(timeline[..<first].map { Double($0.answered) })
    func isUsual(_ step: Interval) -> Bool {
      step.failed == 0 && Double(step.answered) >= 0.8 * usual && Double(step.answered) <= 1.5 * usual
    }
    var last = start
    for index in start..<timeline.count where !isUsual(timeline[index]) { last = index + 1 }
    return last + 3 <= timeline.count ? Double(last - start) * LoadRun.interval : nil
  }

  func fairness(_ scenario: ScenarioResult, _ section: inout Section) {
    var labels: [String] = []
    var points: [Model: [Chart.Point]] = [:]
    for work in [Cell.Work.read, .write] {
      for fairness in Fairness.allCases {
        guard let pair = pair(scenario, { $0.work == work && $0.fairness == fairness }) else { continue }
        let what = work == .read ? "reads a second" : "written orders a second"
        section.sentences.append(
          Wording.sentence(
            pair.loop, pair.prefork, .throughput(what), floor: floor,
            at:
              "\(fairness == .best ? "with" : "at") \(fairness.title) (\(pair.loop.cell.setup.summary) against \(pair.prefork.cell.setup.summary))"
          ))
        labels.append("\(work == .read ? "reads" : "writes"), \(fairness.title)")
        points[.prefork, default: []].append(Chart.Point(pair.prefork.estimate(Metric.throughput.value)))
        points[.loop, default: []].append(Chart.Point(pair.loop.estimate(Metric.throughput.value)))
      }
    }
    section.sentences += failureSentences(scenario)
    section.charts.append(
      Chart(
        "fairness", .bar, "Answers a second by what was made equal",
        x: .init(title: "work and fairness", labels: labels),
        y: .init(title: "a second"),
        [Model.prefork, .loop].map { Chart.Series(name: $0.title, style: $0.rawValue, points: points[$0] ?? []) }))
  }

  func handicap(_ scenario: ScenarioResult, _ section: inout Section) {
    // Whether the interval finds it, whatever noise was found besides.
    guard let first = scenario.cells.first(where: { $0.cell.setup.handicap == 0 }),
      let second = scenario.cells.first(where: { $0.cell.setup.handicap > 0 })
    else { return }
    switch Verdict(Statistics.ratio(second.values(Metric.p50.value), to: first.values(Metric.p50.value))) {
    case .larger(let ratio):
      section.sentences.append(
        "The slowed pool was found: \(Figure.times(ratio.value)) the median latency \(Wording.interval(ratio)).")
    case .smaller(let ratio), .noDifference(let ratio):
      section.sentences.append("The slowed pool was not found \(Wording.interval(ratio)).")
    case .unknown, .onlyFirst, .onlySecond: section.sentences.append("Too little was run to find the slowed pool.")
    }
  }
}
