// What each scenario's section says and draws.

import Glibc
import LoadGenerator

extension ReportDocument {
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
        "memory", .line,
        "Memory against concurrency: the responder (PSS) and what its PostgreSQL servers have of their own",
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

  private func slowDatabase(_ scenario: ScenarioResult, _ section: inout Section) {
    let delays = Set(scenario.cells.map(\.cell.amount)).sorted()
    let counts = Set(scenario.cells.map(\.cell.concurrency)).sorted()
    var (loop, prefork, neither) = (0, 0, 0)
    let rows = delays.map { delay in
      let places = counts.map { others -> Map.Place in
        guard let pair = pair(scenario, { $0.amount == delay && $0.concurrency == others }) else {
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
    section.map = Map(columns: counts.map { "\($0) clients" }, rows: rows)
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
        Wording.sentence(pair.loop, pair.prefork, .fastP99, floor: floor, at: "on the fast reads"))
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
