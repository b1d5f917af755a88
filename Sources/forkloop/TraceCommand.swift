import ArgumentParser
import CLinux
import Glibc
import LocalStack
import Platform
import Trace

struct TraceCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "trace", abstract: "Show the system calls of one request, through both models.",
    discussion: """
      Starts a PostgreSQL cluster with the demo data, nginx, one prefork worker and one event loop on a free port, in a scratch \
      folder that is deleted in the end; nothing else is touched. Sends one request to each responder through nginx and tells \
      what nginx, the responder and PostgreSQL asked of the kernel, in order. Needs strace, and the right to trace. Ctrl-C ends \
      it.
      """)

  @Argument(help: "What to ask for, below /sync and /async: /contact/1")
  var path: String

  @Option(help: "The method.")
  var method = "GET"

  @Option(help: "A body, as JSON.")
  var body: String?

  @Option(help: "The same request, so many times before, so that connections and prepared statements are there.")
  var warmUp = TracePlan.usualWarmUp

  @Option(help: "Draw both timelines into this file, as SVG.")
  var svg: String?

  func validate() throws {
    guard path.utf8.first == UInt8(ascii: "/"), path.utf8.allSatisfy({ 0x21...0x7E ~= $0 }) else {
      throw ValidationError(
        "'\(path)' is no path: it begins with / and has visible ASCII characters only, as /contact/1")
    }
    for model in TracedModel.allCases where path.hasPrefix("/\(model.rawValue)/") {
      throw ValidationError("say the path below /sync and /async: \(path.dropFirst(model.rawValue.utf8.count + 1))")
    }
    guard !method.isEmpty, method.utf8.allSatisfy({ UInt8(ascii: "A")...UInt8(ascii: "Z") ~= $0 }) else {
      throw ValidationError("--method must be in capital letters, as GET, not '\(method)'")
    }
    guard 0...TracePlan.longestWarmUp ~= warmUp else {
      throw ValidationError("--warm-up must be from 0 to \(TracePlan.longestWarmUp), not \(warmUp)")
    }
  }

  func run() throws {
    clinux_flag_on(SIGINT)
    clinux_flag_on(SIGTERM)
    // A terminal that has gone is no reason to leave things behind, and none to stop where nohup was asked for.
    if !SignalSet.isIgnored(SIGHUP) { clinux_flag_on(SIGHUP) }
    try exitUnlessZero {
      if let svg { try refuseUnwritable(svg) }
      var plan = TracePlan(path: path)
      (plan.method, plan.body, plan.warmUp) = (method, body, warmUp)
      do {
        let scratch = try ScratchFolder("forkloop-trace")
        defer { scratch.remove() }
        let requests = try TraceRun.run(plan, in: scratch.path, unless: { clinux_flagged() != 0 }, say: Main.tell)
        try show(requests, plan)
      } catch is Interrupted {
        Main.tell("stopped")
      }
      return 0
    }
  }

  /// Not only when there is something to lose. A drawing that is there stays until there is another.
  private func refuseUnwritable(_ path: String) throws(LocalStackError) {
    let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
    let folder = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    var status = stat()
    if stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR {
      throw LocalStackError("can't write \(path): it is a folder")
    }
    guard access(access(path, F_OK) == 0 ? path : folder, W_OK) == 0 else {
      throw LocalStackError("can't write \(path): \(String(cString: strerror(errno)))")
    }
  }

  private func show(_ requests: [TracedRequest], _ plan: TracePlan) throws {
    print(TimelineText.write(requests, width: Self.width), terminator: "")
    for request in requests where request.status >= 400 {
      Main.tell(
        "\(plan.method) /\(request.model.rawValue)\(plan.path) was answered with \(request.status); it was traced all the same"
      )
    }
    guard let svg else { return }
    try writeText(TimelineDrawing.write(requests, plan: plan.summary), to: svg)
    Main.tell("the drawing is in \(svg)")
  }

  /// Of the terminal; nil where there is none and nobody says how wide lines may be.
  private static var width: Int? {
    let columns = Int(clinux_terminal_columns(STDOUT_FILENO))
    return columns > 0 ? columns : getenv("COLUMNS").flatMap { Int(String(cString: $0)) }
  }
}
