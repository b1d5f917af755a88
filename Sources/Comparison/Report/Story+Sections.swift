// What each scenario's section says and draws.

import Glibc
import LoadGenerator

extension Story {
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

  func section(_ scenario: ScenarioResult) -> Section {
    var section = Section(name: scenario.name, title: scenario.title, text: scenario.text)
    switch scenario.name {
    case "same": same(&section)
    case "read": read(scenario, &section)
    case "rate": rate(scenario, &section)
    case "slow-database": slowDatabase(scenario, &section)
    case "head-of-line": headOfLine(scenario, &section)
    case "fan-out": fanOut(scenario, &section)
    case "slow-clients": slowClients(scenario, &section)
    case "burst", "kill", "restart", "reload": fault(scenario, &section)
    case "fairness": fairness(scenario, &section)
    case "handicap": handicap(scenario, &section)
    default: plain(scenario, &section)
    }
    return section
  }

  /// Bars of answers a second, a model each.
  private func plain(_ scenario: ScenarioResult, _ section: inout Section) {
    let unit =
      ["write": "written orders a second", "nested": "lists a second", "large": "orders a second"][scenario.name]
      ?? "requests a second"
    section.sentences += sentence(pair(scenario), .throughput(unit))
    if let shared = pick(scenario, .loopShared), let loop = pick(scenario, .loop) {
      section.sentences.append(Wording.sentence(shared, loop, .throughput(unit), floor: floor))
    }
    section.sentences += failureSentences(scenario)
    section.charts.append(
      Chart(
        scenario.name, .bar, "Answers a second",
        x: .init(title: "model", labels: scenario.cells.map(\.cell.setup.model.title)),
        y: .init(title: unit),
        [
          .init(
            name: unit, style: "models",
            points: scenario.cells.map { Chart.Point($0.estimate(Metric.throughput.value)) })
        ]))
  }

  /// Where not everything was answered.
  func failureSentences(_ scenario: ScenarioResult) -> [String] {
    models(scenario).compactMap { model in
      let samples = scenario.cells.filter { $0.cell.setup.model == model }.flatMap(\.samples)
      let failed = samples.reduce(0) { $0 + $1.load.failed }
      guard failed > 0 else { return nil }
      let asked = samples.reduce(failed) { $0 + $1.load.answered }
      return
        "\(Wording.subject(model)) failed \(Figure.text(Double(failed))) of \(Figure.text(Double(asked))) requests in all runs of this."
    }
  }

  private func same(_ section: inout Section) {
    let twins = Self.twins(report)
    for (first, second) in twins {
      let ratio = Statistics.ratio(second.values(Metric.throughput.value), to: first.values(Metric.throughput.value))
      let object = Wording.object(first.cell.setup.model)
      switch Verdict(ratio) {
      case .larger(let ratio), .smaller(let ratio):
        section.sentences.append(
          "Noise alone set \(object) apart from itself by \(Figure.times(ratio.value)) \(Wording.interval(ratio)): no smaller difference on this page is believed."
        )
      case .noDifference(let ratio):
        section.sentences.append(
          "No difference found between \(object) and itself, as it should be \(Wording.interval(ratio)).")
      case .unknown, .onlyFirst, .onlySecond:
        section.sentences.append("Too little was run to compare \(object) with itself.")
      }
    }
  }

  private func read(_ scenario: ScenarioResult, _ section: inout Section) {
    for concurrency in Set(scenario.cells.map(\.cell.concurrency)).sorted()
    where concurrency == 1 || concurrency % 16 == 0 {
      section.sentences += sentence(
        pair(scenario) { $0.concurrency == concurrency }, .throughput("reads a second"),
        at: "with \(concurrency) client\(concurrency == 1 ? "" : "s")")
    }
    let swept = models(scenario).filter { model in scenario.cells.filter { $0.cell.setup.model == model }.count > 1 }
    let lines = swept.map { Chart.Series($0, scenario.cells, x: { Double($0.concurrency) }, Metric.throughput.value) }
    // Little's law: so many clients, each waiting as long as one alone does. Only if waiting became shorter in company could there
    // be more.
    let ceilings = swept.compactMap { model -> Chart.Series? in
      guard let alone = pick(scenario, model, { $0.concurrency == 1 }) else { return nil }
      let latency = alone.estimate { $0.load.latencies.mean }.value / 1e6
      guard latency > 0 else { return nil }
      let highest = lines.flatMap(\.points).map(\.y).max() ?? 0
      let most = Double(scenario.cells.map(\.cell.concurrency).max() ?? 1)
      let end = min(most, max(1, 1.3 * highest * latency))
      return Chart.Series(
        name: "\(model.title): clients ÷ latency of one", style: model.rawValue, isDashed: true,
        // Straight, and so bent where the axis is logarithmic.
        points: (0...16).map { pow(end, Double($0) / 16) }.map { .init(x: $0, y: $0 / latency) })
    }
    section.sentences += failureSentences(scenario)
    section.charts.append(
      Chart(
        "throughput", .line,
        "Throughput against concurrency, and what Little's law allows at the latency of one client",
        x: .init(title: "clients", isLogarithmic: true), y: .init(title: "reads a second"), lines + ceilings))
    let most = scenario.cells.map(\.cell.concurrency).max() ?? 16
    section.sentences += sentence(
      pair(scenario) { $0.concurrency == most }, .memory, at: "with its PostgreSQL servers and \(most) clients")
    section.charts.append(
      Chart(
        "memory", .line, "Memory against concurrency: the responder and its PostgreSQL servers (PSS)",
        x: .init(title: "clients", isLogarithmic: true), y: .init(title: "MB"),
        swept.map {
          Chart.Series($0, scenario.cells, x: { Double($0.concurrency) }) { Metric.memory.value($0) / 1_048_576 }
        }))
    section.sentences += sentence(pair(scenario) { $0.concurrency == 16 }, .cpu, at: "with 16 clients")
    var at16 = scenario.cells.filter { $0.cell.concurrency == 16 }
    if at16.contains(where: { $0.cell.setup.model == .cgi }) {
      section.sentences.append("What plain CGI used can't be told: its processes end before it could be read.")
    }
    at16.removeAll { $0.cell.setup.model == .cgi }
    let names = at16.map(\.cell.setup.model.title)
    func parts(_ value: @escaping (Usage) -> Double) -> [Chart.Series] {
      let groups: [(String, String, (Sample) -> Usage)] = [
        ("nginx", "nginx", { $0.nginx }), ("responder", "responder", { $0.responder }),
        ("PostgreSQL", "postgres", { $0.postgres }),
      ]
      return groups.map { name, style, group in
        Chart.Series(
          name: name, style: style,
          points: at16.map { cell in
            Chart.Point(
              cell.estimate { $0.load.completed > 0 ? value(group($0)) / Double($0.load.completed) : 0 })
          })
      }
    }
    section.charts.append(
      Chart(
        "cpu", .stacked, "Processor time a request, with 16 clients", x: .init(title: "model", labels: names),
        y: .init(title: "µs"),
        parts { $0.cpu * 1e6 }))
    section.charts.append(
      Chart(
        "switches", .stacked, "Context switches a request, with 16 clients", x: .init(title: "model", labels: names),
        y: .init(title: "switches"), parts { Double($0.switches) }))
  }

  private func rate(_ scenario: ScenarioResult, _ section: inout Section) {
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

  private func slowDatabase(_ scenario: ScenarioResult, _ section: inout Section) {
    let delays = Set(scenario.cells.map(\.cell.amount)).sorted()
    let crowds = Set(scenario.cells.map(\.cell.concurrency)).sorted()
    var (loop, prefork, neither) = (0, 0, 0)
    let rows = delays.map { delay in
      let places = crowds.map { crowd -> Map.Place in
        guard let pair = pair(scenario, { $0.amount == delay && $0.concurrency == crowd }) else {
          return Map.Place(text: "–")
        }
        switch verdict(pair) {
        case .larger(let ratio):
          loop += 1
          return Map.Place(winner: .loop, text: "event loop, \(Figure.ratio(ratio.value)) ×")
        case .onlySecond:
          loop += 1
          return Map.Place(winner: .loop, text: "event loop alone")
        case .smaller(let ratio):
          prefork += 1
          return Map.Place(winner: .prefork, text: "prefork, \(Figure.ratio(1 / ratio.value)) ×")
        case .onlyFirst:
          prefork += 1
          return Map.Place(winner: .prefork, text: "prefork alone")
        case .noDifference:
          neither += 1
          return Map.Place(text: "no difference found")
        case .unknown: return Map.Place(text: "can't be compared")
        }
      }
      return (title: delay == 0 ? "not at all" : "\(delay) ms", places: places)
    }
    section.sentences += failureSentences(scenario)
    section.map = Map(columns: crowds.map { "\($0) clients" }, rows: rows)
    section.sentences.append(
      "Of \(loop + prefork + neither) combinations the event loop answered more in \(loop), the prefork pool in \(prefork), and in \(neither) no difference was found."
    )
    // A connection works on one statement at a time: nobody can answer more often than connections ÷ delay.
    let used = scenario.cells.filter { $0.cell.amount > 0 }.flatMap { cell in
      cell.values { $0.load.throughput * Double(cell.cell.amount) / 1000 / Double(cell.cell.setup.connections) }
    }
    if let most = used.max() {
      section.sentences.append(
        "Where the database takes its time, no run came to more than \(Figure.text(most * 100)) % of connections ÷ delay: a connection works on one statement at a time, whoever holds it."
      )
    }
  }

  private func headOfLine(_ scenario: ScenarioResult, _ section: inout Section) {
    if let pair = pair(scenario) {
      section.sentences.append(
        Wording.sentence(pair.loop, pair.prefork, Self.fastP99, floor: floor, at: "on the fast reads"))
    }
    section.sentences += failureSentences(scenario)
    section.charts.append(
      Chart(
        "head-of-line", .bar, "Latency of the fast reads",
        x: .init(title: "percentile", labels: ["50", "90", "99"]), y: .init(title: "ms", isLogarithmic: true),
        scenario.cells.map { cell in
          func of(_ value: @escaping (Latencies) -> Double) -> Chart.Point {
            Chart.Point(
              cell.estimate { value($0.load.kinds.first { $0.name == "fast" }?.latencies ?? Latencies()) / 1000 })
          }
          return Chart.Series(
            name: cell.cell.setup.model.title, style: cell.cell.setup.model.rawValue,
            points: [of(\.p50), of(\.p90), of(\.p99)])
        }))
  }

  private func fanOut(_ scenario: ScenarioResult, _ section: inout Section) {
    for count in Set(scenario.cells.map(\.cell.amount)).sorted() {
      section.sentences += sentence(
        pair(scenario) { $0.amount == count }, .p50, at: "with \(count) statement\(count == 1 ? "" : "s") a request")
    }
    section.sentences += failureSentences(scenario)
    section.charts.append(
      Chart(
        "fan-out", .line, "Median latency against statements a request",
        x: .init(title: "statements", isLogarithmic: true),
        y: .init(title: "ms"),
        models(scenario).map {
          Chart.Series($0, scenario.cells, x: { Double($0.amount) }) { $0.load.latencies.p50 / 1000 }
        }))
  }

  private func slowClients(_ scenario: ScenarioResult, _ section: inout Section) {
    for buffered in [true, false] {
      section.sentences += sentence(
        pair(scenario) { $0.isBuffered == buffered }, .throughput("reads a second"),
        at: "with nginx's buffers \(buffered ? "on" : "off")")
    }
    section.sentences += failureSentences(scenario)
    section.charts.append(
      Chart(
        "slow-clients", .bar, "Fast reads beside slow clients",
        x: .init(title: "nginx's buffers", labels: ["on", "off"]),
        y: .init(title: "reads a second"),
        models(scenario).map { model in
          Chart.Series(
            name: model.title, style: model.rawValue,
            points: [true, false].compactMap { buffered in
              pick(scenario, model) { $0.isBuffered == buffered }.map {
                Chart.Point($0.estimate(Metric.throughput.value))
              }
            })
        }))
  }
}
