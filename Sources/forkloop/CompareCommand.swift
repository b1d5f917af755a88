import ArgumentParser
import CLinux
import Comparison
import Glibc
import LocalStack
import Platform

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

struct CompareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare", abstract: "Compare the process models on this machine, and write a page about it.",
    discussion: """
      Starts a PostgreSQL cluster, nginx and one responder at a time on a free port, in a scratch folder that is deleted in the \
      end; nothing else is touched. Writes index.html, which needs no network, and data.json with everything that was \
      measured. Ctrl-C ends it with a report of what has been done. Scenarios: \(Scenarios.names.joined(separator: ", ")).
      """)

  @Flag(help: "Five minutes in place of an hour, with wider intervals.")
  var quick = false

  @Option(name: .customLong("scenario"), help: "Only this scenario; as often as you like.")
  var scenarios: [String] = []

  @Option(help: "The folder to write to.")
  var out = "report"

  @Option(help: "How often every cell is run there and back. (default: 6, with --quick 3)")
  var repeats: Int?

  @Flag(
    help: """
      PHP-FPM and FastAPI too, where they are installed (FASTAPI_PYTHON names the Python that has FastAPI; default: \
      python3).
      """)
  var baselines = false

  @Option(help: "Only draw the page again, from a data.json.")
  var openReport: String?

  @Flag(help: .hidden)
  var handicap = false

  func validate() throws {
    if let repeats, !(1...1000).contains(repeats) {
      throw ValidationError("--repeats must be from 1 to 1000, not \(repeats)")
    }
    for name in scenarios where !Scenarios.names.contains(name) {
      throw ValidationError("there is no scenario '\(name)': choose from \(Scenarios.names.joined(separator: ", "))")
    }
  }

  func run() throws {
    if let openReport {
      let report = try JSONFile.read(Report.self, from: openReport, as: "report")
      if let fault = report.fault { throw SettingsError("\(openReport) is no report that can be read: \(fault)") }
      return try exitUnlessZero { try write(report) }
    }
    clinux_flag_on(SIGINT)
    clinux_flag_on(SIGTERM)
    // A terminal that has gone is no reason to leave things behind, and none to stop where nohup was asked for.
    if !SignalSet.isIgnored(SIGHUP) { clinux_flag_on(SIGHUP) }
    try exitUnlessZero {
      try makeFolder()
      var tools = try Tools.find()
      let progress = Progress()
      if baselines {
        let python = getenv("FASTAPI_PYTHON").map { String(cString: $0) }
        for line in try tools.findBaselines(python: python) { progress.say("left out: \(line)") }
      }
      if tools.fcgiwrap == nil { progress.say("left out: plain CGI needs fcgiwrap: apt-get install fcgiwrap") }
      let folder = tools.program.parts(by: "/").dropLast().joined(separator: "/")
      let machine = Machine.current(tools, sources: "/\(folder)")
      let scratch = try ScratchFolder("forkloop-compare")
      defer { scratch.remove() }
      let testbed = try Testbed(state: scratch.path, tools: tools)
      defer { testbed.tearDown() }
      var options = ComparisonOptions(extent: Extent(isQuick: quick, repeats: repeats))
      options.scenarios = scenarios
      options.handicap = handicap
      let comparison = Comparison(options, testbed, machine: machine, progress: progress) { clinux_flagged() != 0 }
      let report = try comparison.run(keeping: keep)
      try keep(report)
      _ = try write(report)
      if let failure = report.failure { throw LocalStackError("it went no further: \(failure)") }
      return 0
    }
  }

  /// Makes the folder, and sees that it can be written to: not only when there is something to lose.
  private func makeFolder() throws(LocalStackError) {
    do {
      try FileManager.default.createDirectory(atPath: out, withIntermediateDirectories: true)
    } catch {
      throw LocalStackError("can't make the folder \(out): \(String(cString: strerror(errno)))")
    }
    guard access(out, W_OK) == 0 else {
      throw LocalStackError("can't write to \(out): \(String(cString: strerror(errno)))")
    }
  }

  private func keep(_ report: Report) throws {
    try writeText(String(decoding: try JSONEncoder().encode(report), as: UTF8.self), to: "\(out)/data.json")
  }

  /// Where Debian has Chart.js.
  private static let library = "/usr/share/javascript/chart.js/chart.min.js"

  /// The page, and what it comes to at the terminal.
  private func write(_ report: Report) throws -> Int32 {
    try makeFolder()
    let document = ReportDocument(report)
    let library = readText(Self.library)
    try writeText(Page.html(document, library: library), to: "\(out)/index.html")
    print(document.summary.map { "- \($0)" }.joined(separator: "\n"))
    if library == nil {
      print("without charts: for these, apt-get install libjs-chart.js and --open-report \(out)/data.json")
    }
    print("\(out)/index.html")
    return 0
  }
}
