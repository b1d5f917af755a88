// The stack that a request is traced in: `forkloop up` in a scratch folder, with one process of each kind.

import Glibc
import LocalStack
import Platform
import Postgres

/// PostgreSQL with the demo data, one prefork worker and one event loop with a database connection each, and nginx.
final class TracedStack {
  let folders: Folders
  private(set) var port: UInt16 = 0
  private var process: pid_t = 0
  private var log: String { "\(folders.state).log" }

  /// `state` is a folder to be made.
  init(state: String) throws(LocalStackError) { folders = try Folders(state: state) }

  deinit { stop() }

  /// Starts everything on a free port.
  func start(_ interruption: Interruption) throws {
    let program = try LocalStack.ownPath()
    port = try Self.freePort()
    let environment = [
      "PATH": "/usr/local/bin:/usr/bin:/bin", Settings.noFile: "1", "FORKLOOP_SYNC_WORKERS": "1",
      "FORKLOOP_ASYNC_LOOPS": "1", "FORKLOOP_ASYNC_DB_CONNECTIONS": "1",
    ]
    do throws(SystemError) {
      process = try ChildProcess.start(
        [program, "up", "--state", folders.state, "--port", "\(port)"], environment: environment, log: log)
    } catch {
      throw LocalStackError("can't start the stack: \(error)")
    }
    try interruption.wait(600, "the stack does not answer; see \(log)") {
      var status: Int32 = 0
      if waitpid(process, &status, WNOHANG) != 0 {
        process = 0
        let last = readText(log)?.lines.last { !$0.isEmpty }
        throw LocalStackError(last.map(String.init) ?? "the stack did not start; see \(log)")
      }
      // The last that is started.
      return Service.Readiness.tcp(port).isAnswered()
    }
  }

  /// Whoever else traces now begins to look somewhere else.
  private static func freePort() throws(LocalStackError) -> UInt16 {
    for offset in 0..<500 {
      let candidate = UInt16(18_500 + (Int(getpid()) + offset) % 500)
      if PortClaim.make(candidate) != nil { return candidate }
    }
    throw LocalStackError("no port between 18500 and 18999 is free")
  }

  /// Stops everything, each after its work.
  func stop() {
    guard process > 0 else { return }
    kill(process, SIGINT)
    let deadline = MonotonicClock.now + 60_000_000_000
    var status: Int32 = 0
    while waitpid(process, &status, WNOHANG) == 0 {
      // What it has started is told to end by the kernel.
      if MonotonicClock.now > deadline { kill(process, SIGKILL) }
      usleep(2_000)
    }
    process = 0
  }

  /// Who may have to do with a request to a model: nginx's workers, the responder's worker, its PostgreSQL servers.
  func processes(of model: TracedModel) throws(LocalStackError) -> [(id: pid_t, process: TracedProcess)] {
    func children(_ words: String) -> [pid_t] {
      Self.children(of: process).filter { Self.commandLine($0).contains(words) }.flatMap(Self.children)
    }
    let servers: [pid_t]
    do throws(PostgresError) {
      let cluster = PrivateCluster(folders, account: nil, database: nil, user: nil)
      let connection = try Connection.connect(
        to: cluster.info(as: PrivateCluster.superuser), .init(applicationName: "forkloop trace"))
      let rows = try connection.execute(
        "select pid from pg_stat_activity where application_name = 'forkloop \(model.rawValue)' order by pid")
      servers = (0..<rows.rowCount).map { pid_t(rows.integer($0, 0)) }
    } catch {
      throw LocalStackError("\(error)")
    }
    return children("nginx: master").map { ($0, .nginx) }
      + children(" \(model.rawValue) --listen ").map { ($0, .forkloop) } + servers.map { ($0, .postgres) }
  }

  private static func children(of process: pid_t) -> [pid_t] {
    (readText("/proc/\(process)/task/\(process)/children") ?? "").parts(by: " ").compactMap { pid_t($0) }
  }

  private static func commandLine(_ process: pid_t) -> String {
    (readText("/proc/\(process)/cmdline") ?? "").parts(by: "\0").joined(separator: " ")
  }
}
