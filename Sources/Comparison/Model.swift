// The process models that are compared, and how each is started.

import Glibc
import LocalStack
import Platform

/// A process model. The raw value is its name in data and on the command line.
package enum Model: String, Codable, Sendable, CaseIterable {
  case prefork
  case preforkDynamic = "prefork-dynamic"
  case loop
  case loopShared = "loop-shared"
  case cgi
  case php
  case fastapi

  /// As people say it.
  package var title: String {
    switch self {
    case .prefork: "prefork"
    case .preforkDynamic: "prefork, dynamic"
    case .loop: "event loop"
    case .loopShared: "event loop, shared reads"
    case .cgi: "plain CGI"
    case .php: "PHP-FPM"
    case .fastapi: "FastAPI"
    }
  }

  /// Where nginx has it.
  package var prefix: String {
    switch self {
    case .prefork, .preforkDynamic: "/sync"
    case .loop, .loopShared: "/async"
    case .cgi: "/cgi"
    case .php: "/php"
    case .fastapi: "/fastapi"
    }
  }

  /// The socket it listens on, in the run folder.
  var socket: String { "\(prefix.dropFirst()).sock" }

  /// Whether it is one of ours, and not a baseline.
  package var isOurs: Bool { self != .php && self != .fastapi }
}

/// A model as it is run in one cell.
package struct Setup: Codable, Sendable, Hashable {
  package var model: Model
  /// Database connections it may have: workers of a pool, pipelines of the loops together.
  package var connections: Int
  /// Processes with a loop each.
  package var loops = 1
  /// Whether it has one processor to run on.
  package var isPinned = false
  /// Microseconds that it is made to compute for each request, to see whether that is found.
  package var handicap = 0

  package init(_ model: Model, connections: Int) {
    self.model = model
    self.connections = connections
  }

  /// In a few words.
  package var summary: String {
    var words: String
    switch model {
    case .prefork: words = "\(connections) workers"
    case .preforkDynamic: words = "up to \(connections) workers"
    case .loop, .loopShared:
      words = loops > 1 ? "\(loops) loops, \(connections) connections" : "\(connections) connections"
    case .cgi: words = "up to \(connections) processes"
    case .php: words = "\(connections) children"
    case .fastapi: words = "one process, \(connections) connections"
    }
    if isPinned { words += ", one processor" }
    return words
  }

  /// The program's arguments, to be run with what `Testbed` puts around them.
  func arguments(_ tools: Tools, _ application: Testbed.Application, run: String) -> [String] {
    let listen = "unix:\(run)/\(model.socket)"
    let served = ["--application", application.rawValue]
    let arguments: [String] =
      switch model {
      case .prefork: [tools.program, "sync", "--listen", listen, "--workers", "\(connections)"] + served
      case .preforkDynamic:
        [tools.program, "sync", "--listen", listen, "--workers", "\(connections)", "--pm", "dynamic"] + served
      case .loop, .loopShared:
        [tools.program, "async", "--listen", listen, "--loops", "\(loops)"]
          + ["--db-connections", "\(max(1, connections / loops))"]
          + [model == .loop ? "--no-share-reads" : "--share-reads"] + served
      case .cgi: [tools.fcgiwrap ?? "fcgiwrap", "-c", "\(connections)", "-s", listen]
      case .php:
        [tools.php ?? "php-fpm", "--nodaemonize", "--fpm-config", "\(run)/php-fpm.conf", "-d", "cgi.fix_pathinfo=0"]
      case .fastapi:
        [tools.python ?? "python3", "-m", "uvicorn", "--app-dir", tools.baselines, "--uds", "\(run)/\(model.socket)"]
          + ["--log-level", "warning", "app:app"]
      }
    return isPinned ? tools.on([tools.processors.servers.last ?? 0], arguments) : arguments
  }
}

/// Programs that are run.
package struct Tools: Sendable {
  package var program: String
  package var fcgiwrap: String?
  package var taskset: String?
  package var processors: Processors
  /// What the baselines run on, where they are asked for and there: PHP-FPM, a Python with FastAPI, and the folder of their
  /// sources.
  package var php: String?
  package var python: String?
  var baselines = ""

  /// This program, and what else there is on this machine.
  package static func find() throws(LocalStackError) -> Tools {
    Tools(
      program: try LocalStack.ownPath(), fcgiwrap: findProgram("fcgiwrap"), taskset: findProgram("taskset"),
      processors: .current())
  }

  /// Looks for what the baselines need; what is missing, in a line each.
  package mutating func findBaselines(python name: String?) throws(LocalStackError) -> [String] {
    // Without "..": PHP-FPM takes no such path.
    baselines =
      try NginxSite.find(program: program).source.parts(by: "/").dropLast().map { "/\($0)" }.joined()
      + "/benchmarks/baselines"
    var missing: [String] = []
    php =
      (7...9).reversed().flatMap { major in (0...9).reversed().map { "php-fpm\(major).\($0)" } }.lazy
      .compactMap { findProgram($0) }.first ?? findProgram("php-fpm")
    if php == nil { missing.append("PHP-FPM is not installed: apt-get install php-fpm php-pgsql") }
    if let path = name.map({ $0.contains("/") ? $0 : findProgram($0) ?? $0 }) ?? findProgram("python3"),
      try Self.succeeds([path, "-c", "import asyncpg, fastapi, greenlet, sqlmodel, uvicorn"])
    {
      python = path
    } else {
      missing.append(
        "\(name ?? "python3") has no FastAPI, or can't be run by everybody: pip install -r benchmarks/baselines/requirements.txt, and name it in FASTAPI_PYTHON"
      )
    }
    return missing
  }

  /// As whom it will be run.
  private static func succeeds(_ arguments: [String]) throws(LocalStackError) -> Bool {
    var status: Int32 = 1
    guard
      let child = try? ChildProcess.start(
        arguments, environment: ["PATH": "/usr/local/bin:/usr/bin:/bin"], as: try Accounts().web, log: "/dev/null")
    else { return false }
    while waitpid(child, &status, 0) < 0, errno == EINTR {}
    return status == 0
  }
}
