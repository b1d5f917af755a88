// What is said of data that are known.

import Glibc
import Testing

@testable import Comparison
@testable import LoadGenerator

@Suite struct ReportDocumentTests {
  private func sample(_ throughput: Double, failed: Int = 0) -> Sample {
    var load = LoadResult()
    load.seconds = 1
    load.completed = Int(throughput)
    var kind = KindResult(name: "read")
    kind.answered = Int(throughput)
    if failed > 0 { kind.refused["503"] = failed }
    load.kinds = [kind]
    load.latencies.p99 = 5000
    var sample = Sample(load)
    sample.responder = Usage(cpu: 0.5, switches: 1000)
    sample.responderMemory = 10 << 20
    return sample
  }

  private func report(_ name: String, prefork: [Double], loop: [Double], change: (inout Cell) -> Void = { _ in })
    -> Report
  {
    var report = Report()
    report.repeats = 3
    let cells = [(Model.prefork, prefork), (.loop, loop)].map { model, values in
      var cell = Cell(Setup(model, connections: 8), .read)
      change(&cell)
      return CellResult(cell: cell, samples: values.map { sample($0) })
    }
    var result = ScenarioResult(Scenario(name: name, title: "Title", text: "Text.", cells: []))
    result.cells = cells
    report.scenarios = [result]
    return report
  }

  @Test func aDifferenceIsToldWithItsInterval() {
    let document = ReportDocument(
      report("read", prefork: [100, 101, 99, 100, 102, 98], loop: [200, 203, 198, 201, 203, 196]))
    #expect(
      document.summary.first?.hasPrefix(
        "The event loop answered 2 times as many reads a second as the prefork pool with 16 clients (95 % interval of the ratio: "
      ) == true)
  }

  @Test func whereTheIntervalsOverlapNoDifferenceIsFound() {
    let document = ReportDocument(
      report("read", prefork: [100, 130, 90, 110, 80, 120], loop: [110, 100, 120, 90, 100, 115]))
    #expect(
      document.summary.first?.hasPrefix(
        "No difference found between the event loop and the prefork pool with 16 clients in reads a second") == true)
  }

  @Test func tooFewRunsSayNothing() {
    let document = ReportDocument(report("read", prefork: [100, 100], loop: [200, 200]))
    #expect(
      document.summary.first == "Too little was run to compare the event loop with the prefork pool with 16 clients.")
  }

  @Test func whoAnswersNothingIsSaidToAnswerNothing() {
    let document = ReportDocument(
      report("idle-fastcgi", prefork: [0, 0, 0, 0, 0, 0], loop: [90, 100, 110, 100, 100, 100]))
    let sentences = document.sections.flatMap(\.sentences)
    #expect(
      sentences.contains("The prefork pool answered nothing, while the event loop answered 100 requests a second."))
  }

  @Test func runsWithoutAnAnswerAreCountedAndNotAveragedAway() {
    let document = ReportDocument(
      report("idle-clients", prefork: [0, 0, 50, 50, 50, 50], loop: [100, 100, 100, 100, 100, 100]))
    #expect(
      document.sections.flatMap(\.sentences).contains(
        "The prefork pool answered 33.3 requests a second, nothing in 2 of 6 runs, while the event loop answered 100 requests a second."
      ))
  }

  @Test func aModelThatIsAFifthSlowerIsFoundUnlessNoiseIsLarger() {
    func verdict(_ usual: [Double], _ slowed: [Double]) -> String? {
      var slower = Setup(.prefork, connections: 8)
      slower.handicap = 25
      var result = ScenarioResult(Scenario(name: "handicap", title: "Title", text: "Text.", cells: []))
      result.cells = [(Setup(.prefork, connections: 8), usual), (slower, slowed)].map { setup, latencies in
        let samples = latencies.map { latency in
          var sample = sample(1000)
          sample.load.latencies.p50 = latency
          return sample
        }
        return CellResult(cell: Cell(setup, .read), samples: samples)
      }
      var report = Report()
      report.scenarios = [result]
      return ReportDocument(report).sections.flatMap(\.sentences).first
    }
    let usual: [Double] = [100, 104, 97, 101, 108, 95, 99, 103]
    let slowed = usual.reversed().map { $0 * 1.2 }
    #expect(verdict(usual, slowed)?.hasPrefix("The slowed pool was found: 1.2 times the median latency (95 % ") == true)
    #expect(verdict(usual, usual.reversed())?.hasPrefix("The slowed pool was not found (95 % ") == true)
    #expect(verdict(slowed, usual)?.hasPrefix("The slowed pool was not found (95 % ") == true)
    let noisy: [Double] = [100, 190, 70, 130, 60, 200, 90, 150]
    #expect(
      verdict(noisy, noisy.reversed().map { $0 * 1.2 })?.hasPrefix("The slowed pool was not found (95 % ") == true)
    #expect(verdict([100], [120]) == "Too little was run to find the slowed pool.")
  }

  @Test func aBurstIsRecoveredFromAfterItIsOver() {
    let timeline = [100, 100, 400, 400, 400, 100, 100, 100, 100].map { count in
      var interval = Interval()
      interval.answered = count
      return interval
    }
    #expect(ReportDocument.recovery(timeline, before: 0.21, after: 0.41).map { abs($0 - 0.1) < 1e-9 } == true)
  }

  @Test func aReportThatCantBeIsRefused() throws {
    var report = report("read", prefork: [1], loop: [1])
    #expect(report.fault == nil)
    report.scenarios[0].cells[0].samples[0].load.latencies.histogram = [[1]]
    #expect(report.fault == "it has figures that can't be")
    report.scenarios[0].name = "x\" onload="
    #expect(report.fault == "it has a scenario 'x\" onload='")
    report.version = 2
    #expect(report.fault == "it is of version 2, and this program reads version 1")
  }

  @Test func noiseThatWasFoundIsTheLeastThatIsBelieved() {
    var same = report("same", prefork: [100, 101, 99, 100, 102, 98], loop: [1, 1, 1, 1, 1, 1])
    var twin = same.scenarios[0].cells[0]
    twin.cell.twin = 1
    twin.samples = [115, 116, 114, 115, 117, 113].map { sample($0) }
    same.scenarios[0].cells = [same.scenarios[0].cells[0], twin]
    same.scenarios +=
      report("read", prefork: [100, 101, 99, 100, 102, 98], loop: [110, 111, 109, 110, 112, 108]).scenarios
    let document = ReportDocument(same)
    #expect(abs(document.floor - 1.15) < 0.01)
    #expect(
      document.summary.first?.hasPrefix(
        "A difference between the event loop and the prefork pool with 16 clients in reads a second is likely, but not sure"
      ) == true)
  }

  @Test func recoveryIsTheTimeUntilItIsAsBeforeAndStaysSo() {
    func timeline(_ answered: [Int], failing: Set<Int> = []) -> [Interval] {
      answered.enumerated().map { Interval(answered: $1, failed: failing.contains($0) ? 1 : 0, longest: 0) }
    }
    let usual = [100, 100, 100, 100]
    #expect(ReportDocument.recovery(timeline(usual + [100, 100, 100, 100]), before: 0.4, after: 0.4) == 0)
    #expect(
      ReportDocument.recovery(timeline(usual + [0, 0, 300, 100, 100, 100]), before: 0.4, after: 0.4).map {
        abs($0 - 0.3) < 1e-9
      }
        == true)
    #expect(
      ReportDocument.recovery(timeline(usual + [100, 100, 100, 100, 100], failing: [5]), before: 0.4, after: 0.4).map {
        abs($0 - 0.2) < 1e-9
      }
        == true)
    #expect(ReportDocument.recovery(timeline(usual + [0, 0, 0, 0]), before: 0.4, after: 0.4) == nil)
  }

  @Test func percentilesComeFromTheHistogram() {
    var latencies = Latencies()
    latencies.histogram = [[10, 50], [20, 40], [1000, 10]]
    #expect(ReportDocument.percentile(latencies, 0) == 10)
    #expect(ReportDocument.percentile(latencies, 0.5) == 10)
    #expect(ReportDocument.percentile(latencies, 0.9) == 20)
    #expect(ReportDocument.percentile(latencies, 0.99) == 1000)
  }

  @Test(arguments: [
    (0, "0"), (1234.5, "1,230"), (25_425, "25,400"), (1_000_000, "1,000,000"), (99.96, "100"), (12.34, "12.3"),
    (1.0, "1"), (0.05, "0.05"),
    (0.12345, "0.123"), (-2.5, "−2.5"), (9.999, "10"), (999.6, "1,000"),
  ])
  func figuresHaveThreeDigits(_ value: Double, _ text: String) { #expect(Figure.text(value) == text) }

  @Test func thePageHoldsItsTextEscapedAndAPlaceForEveryChart() {
    var report = report("read", prefork: [100, 101, 99, 100, 102, 98], loop: [200, 203, 198, 201, 203, 196])
    report.machine.processor = "<b>&\"x\""
    let document = ReportDocument(report)
    let page = Page.html(document, library: "// </script>")
    #expect(page.contains("&lt;b&gt;&amp;&quot;x&quot;"))
    #expect(!page.contains("<b>"))
    #expect(page.components(separatedBy: "</script>").count == 4)
    for chart in document.sections.flatMap(\.charts) { #expect(page.contains("id=\"chart-\(chart.id)\"")) }
    #expect(!page.contains("http://") && !page.contains("https://"))
    #expect(Page.html(document, library: nil).contains("<details open>"))
  }

  @Test func everyScenarioIsToldSomethingAbout() {
    for isQuick in [true, false] {
      var report = Report()
      var calibration = Calibration()
      calibration.best = ["read": [Setup(.prefork, connections: 8), Setup(.loop, connections: 8)]]
      report.scenarios = Scenarios.all(
        Extent(isQuick: isQuick), calibration, others: [.preforkDynamic, .cgi, .php, .fastapi], handicap: true
      ).map {
        scenario in
        var result = ScenarioResult(scenario)
        for index in result.cells.indices { result.cells[index].samples = (0..<6).map { sample(Double(100 + $0)) } }
        return result
      }
      let document = ReportDocument(report)
      for section in document.sections {
        #expect(!section.sentences.isEmpty, "\(section.name)")
        #expect(
          !section.charts.isEmpty || section.map != nil || ["same", "handicap"].contains(section.name),
          "\(section.name)")
      }
      #expect(document.summary.count == 5)
      #expect(Set(document.sections.flatMap(\.charts).map(\.id)).count == document.sections.flatMap(\.charts).count)
    }
  }
}
