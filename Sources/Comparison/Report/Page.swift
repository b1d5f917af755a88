// The report as one HTML file that needs nothing else: no network, no folder beside it.

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

package enum Page {
  /// `library` is Chart.js, whole; without it the figures stand in tables alone.
  package static func html(_ document: ReportDocument, library: String?) -> String {
    let report = document.report
    let summary = document.summary.map { "<li>\(escaped($0))</li>" }.joined(separator: "\n")
    let contents = document.sections.map { "<li><a href=\"#\(escaped($0.name))\">\(escaped($0.title))</a></li>" }
      .joined(
        separator: "\n")
    var page = """
      <!doctype html>
      <html lang="en">
      <head>
      <meta charset="utf-8">
      <meta name="viewport" content="width=device-width, initial-scale=1">
      <meta name="color-scheme" content="light dark">
      <title>Prefork or event loop? forkloop compare</title>
      <link rel="icon" href="data:,">
      <style>\(text(PackageResources.page_css))</style>
      </head>
      <body>
      <a class="skip" href="#summary">To the summary</a>
      <header>
      <h1>Prefork or event loop?</h1>
      <p>One API, one SQL, one nginx, two process models, measured on this machine: \(escaped(report.machine.processor)), \
      \(report.machine.processors) processors, \(escaped(report.started.prefix(10)))\(report.isQuick ? ", a quick run" : "")\
      \(report.isComplete ? "" : ", <strong>stopped before its end</strong>").</p>
      </header>
      <main>
      <section id="summary">
      <h2>Summary</h2>
      <ol class="summary">\(summary)</ol>
      </section>
      <nav aria-label="Contents"><ul>\(contents)
      <li><a href="#controls">How it was measured</a></li></ul></nav>

      """
    for section in document.sections { page += self.section(section, hasLibrary: library != nil) }
    page += controls(document)
    page += "</main>\n"
    if let library {
      let charts = document.sections.flatMap(\.charts)
      let encoder = JSONEncoder()
      // Equal data give an equal page.
      encoder.outputFormatting = .sortedKeys
      let data = (try? encoder.encode(charts)).map { String(decoding: $0, as: UTF8.self) } ?? "[]"
      // Nothing in it may end the element that it stands in.
      page += """
        <script>\(library.replacing("</script", with: "<\\/script"))</script>
        <script type="application/json" id="charts">\(data.replacing("<", with: "\\u003c"))</script>
        <script>\(text(PackageResources.page_js))</script>

        """
    }
    return page + "</body>\n</html>\n"
  }

  private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

  static func escaped(_ text: some StringProtocol) -> String {
    String(text).replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;").replacing(
      "\"", with: "&quot;")
  }

  private static func section(_ section: Section, hasLibrary: Bool) -> String {
    var html = """
      <section id="\(escaped(section.name))">
      <h2>\(escaped(section.title))</h2>
      <p>\(escaped(section.text))</p>

      """
    if !section.sentences.isEmpty {
      html +=
        "<ul class=\"findings\">\(section.sentences.map { "<li>\(escaped($0))</li>" }.joined(separator: "\n"))</ul>\n"
    }
    if let map = section.map { html += self.map(map) }
    for chart in section.charts {
      let first = section.sentences.first ?? section.text
      html += "<figure>\n<figcaption>\(escaped(chart.title))</figcaption>\n"
      if hasLibrary {
        html += """
          <div class="chart \(chart.kind.rawValue)"><canvas id="chart-\(escaped(chart.id))" role="img" \
          aria-label="\(escaped(chart.title)). \(escaped(first)) The figures are in the table below."></canvas></div>

          """
      }
      html += "<details\(hasLibrary ? "" : " open")><summary>Figures</summary>\(table(chart))</details>\n</figure>\n"
    }
    return html + "</section>\n"
  }

  private static func table(_ chart: Chart) -> String {
    let (head, rows) = chart.table
    return table(head, rows, caption: "\(chart.title): \(chart.y.title)")
  }

  private static func table(_ head: [String], _ rows: [[String]], caption: String) -> String {
    """
    <div class="scroll" tabindex="0" role="region" aria-label="\(escaped(caption))"><table><caption>\(escaped(caption))</caption>
    <thead><tr>\(head.map { "<th scope=\"col\">\(escaped($0))</th>" }.joined())</tr></thead>
    <tbody>\(rows.map { row in
      "<tr>" + row.enumerated().map { $0 == 0 ? "<th scope=\"row\">\(escaped($1))</th>" : "<td>\(escaped($1))</td>" }.joined() + "</tr>"
    }.joined(separator: "\n"))</tbody></table></div>

    """
  }

  private static func map(_ map: Map) -> String {
    let head = map.columns.map { "<th scope=\"col\">\(escaped($0))</th>" }.joined()
    let rows = map.rows.map { row in
      "<tr><th scope=\"row\">\(escaped(row.title))</th>"
        + row.places.map { place in
          "<td class=\"\(place.winner?.rawValue ?? "neither")\">\(escaped(place.text))</td>"
        }.joined() + "</tr>"
    }
    return """
      <div class="scroll" tabindex="0" role="region" aria-label="Who answers more"><table class="map">
      <caption>Who answers more, by how long the database takes and how many ask</caption>
      <thead><tr><th scope="col">the database sleeps</th>\(head)</tr></thead>
      <tbody>\(rows.joined(separator: "\n"))</tbody></table></div>

      """
  }

  /// The pair of cells of that fairness, for reads.
  private static func equalMemory(_ report: Report) -> [[CellResult]] {
    let cells = report.scenarios.filter { $0.name == "fairness" }.flatMap(\.cells)
      .filter { $0.cell.fairness == .memory && $0.cell.work == .read && !$0.samples.isEmpty }
    return cells.isEmpty ? [] : [cells]
  }

  /// How it was measured, what could not be held still, and on what.
  private static func controls(_ document: ReportDocument) -> String {
    let report = document.report
    let extent = Extent(isQuick: report.isQuick, repeats: report.repeats)
    let runs = report.scenarios.reduce(0) { $0 + $1.cells.reduce(0) { $0 + $1.samples.count } }
    let lateness = report.scenarios.flatMap(\.cells).flatMap(\.samples).map(\.load.lateness).filter { $0 > 0 }
    var how = [
      "Every cell was to be run \(2 * report.repeats) times, in turn: through the list of models and back (ABBA), each run with a responder newly started, \(Figure.text(extent.warmUp)) s of load before and \(Figure.text(extent.seconds)) s measured, longer where something happens. \(runs) runs in all, \(Progress.duration(report.seconds)).",
      "Intervals are bootstrap 95 % intervals of the mean, widened for small samples; ratios are of runs that stood next to each other. A difference is called one only where even the 99 % interval excludes that there is none: of dozens of comparisons some would be chance otherwise.",
      "PostgreSQL's data were the same for each run: after every run that wrote they were made anew from a copy, statistics included. autovacuum was off.",
      "nginx's configuration was the same for all, but for the address of the server.",
    ]
    if report.ceiling > 0 {
      how.append(
        "The load generator alone, against a file that nginx has in memory, came to \(Figure.text(report.ceiling)) answers a second: no model can be seen to be faster than that."
      )
    }
    if !lateness.isEmpty {
      how.append(
        "At offered rates latency counts from the moment at which a request was meant to be sent. The generator itself was late by \(Figure.milliseconds(Statistics.median(lateness))) at the 99th percentile (median of the runs)."
      )
    }
    how.append(
      report.answersThatDiffer.isEmpty
        ? "All models gave equal answers to \(report.answersCompared.count) kinds of requests before it began (baselines to three of them)."
        : "Some models answered differently: \(report.answersThatDiffer.joined(separator: "; ")). What follows compares unequal things."
    )
    let best = report.calibration.best
    if !best.isEmpty {
      let setups = best.keys.sorted().map { work in
        "for \(work)s " + (best[work] ?? []).map { "\($0.model.title) with \($0.summary)" }.joined(separator: " and ")
      }
      how.append(
        "Each at its best: \(setups.joined(separator: "; ")), the fastest of those that were tried once each, 2 to 32 connections, of the event loop also as two loops."
      )
    }
    for cells in equalMemory(report) {
      how.append(
        "Equal memory: the loop has as many connections as fit into what the pool needs, reckoned beforehand. Measured: \(cells.map { "\($0.cell.setup.model.title) \(Figure.megabytes($0.estimate(Metric.memory.value).value))" }.joined(separator: ", "))."
      )
    }
    let machine = report.machine
    let facts =
      [
        ("Processor", "\(machine.processor), \(machine.processors) of them"),
        ("Memory", "\(Figure.text(Double(machine.memory) / 1_073_741_824)) GB"),
        ("System", machine.system), ("Sources", machine.commit.isEmpty ? "unknown" : machine.commit),
        ("Begun", report.started),
      ] + machine.versions.sorted { $0.key < $1.key }
    return """
      <section id="controls">
      <h2>How it was measured</h2>
      <ul>\(how.map { "<li>\(escaped($0))</li>" }.joined(separator: "\n"))</ul>
      <h3>What could not be controlled</h3>
      <ul>\(machine.uncontrolled.map { "<li>\(escaped($0))</li>" }.joined(separator: "\n"))</ul>
      <h3>What it was measured on</h3>
      <dl>\(facts.map { "<dt>\(escaped($0.0))</dt><dd>\(escaped($0.1))</dd>" }.joined(separator: "\n"))</dl>
      </section>

      """
  }
}
