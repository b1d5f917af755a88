// The stack that models are compared in: a PostgreSQL cluster, an nginx, and one responder at a time, all in a scratch folder.

import CLinux
import Glibc
import LoadGenerator
import LocalStack
import Orders
import Platform
import Postgres

/// Starts and stops what a run needs. One thread.
package final class Testbed {
  package let folders: Folders
  package internal(set) var port: UInt16 = 0
  var portClaim: PortClaim?
  package let tools: Tools
  let accounts: Accounts
  let site: NginxSite
  private let cluster: PrivateCluster
  private var postgres: pid_t = 0
  /// What a PostgreSQL that was stopped had used.
  private var retired = Usage()
  /// By the process that they measure with all below it.
  private var meters: [pid_t: Meter] = [:]
  var nginx: pid_t = 0
  private var responder: pid_t = 0
  var nginxSetup = NginxSetup()

  /// Contacts, small orders, and orders of 1,000 lines behind them, in the database that every run begins with.
  package static let contacts = 1000
  package static let smallOrders = 10_000
  package static let bigOrders = 25
  /// Connections that PostgreSQL takes.
  static let maxConnections = 400

  /// `state` is a folder to be used.
  package init(state: String, tools: Tools) throws(LocalStackError) {
    folders = try Folders(state: state)
    self.tools = tools
    accounts = try Accounts()
    site = try NginxSite.find(program: tools.program)
    try folders.make(for: accounts)
    cluster = PrivateCluster(folders, account: accounts.postgres, database: "bench", user: "forkloop")
  }

  // MARK: PostgreSQL

  /// Makes the cluster and the database that runs begin with.
  package func setUp() throws(LocalStackError) {
    try cluster.initialize()
    _ = try cluster.guardAccess(isNew: true)
    try startPostgres()
    do {
      let base = try DatabaseSetup(database: "base").run(
        as: info("postgres", user: PrivateCluster.superuser), name: "forkloop compare", Schema.migrations
      ) { _ in }
      try base.execute("set statement_timeout = 600000")
      for statement in Self.data { try base.execute(statement) }
    } catch {
      throw LocalStackError("\(error)")
    }
    try resetDatabase()
    try choosePort()
  }

  private func startPostgres() throws(LocalStackError) {
    // Vacuuming in the background would meet one model and not another.
    let arguments =
      try cluster.serverArguments(maxConnections: Self.maxConnections)
      + ["-c", "autovacuum=off", "-c", "superuser_reserved_connections=5"]
    postgres = try start(
      arguments, PrivateCluster.environment, accounts.postgres, log: "postgres",
      readiness: .unix("\(folders.database)/.s.PGSQL.5432"))
    try LocalStack.patiently { () throws(PostgresError) in try administer("select 1") }
  }

  private func administer(_ statement: String) throws(PostgresError) {
    let connection = try Connection.connect(
      to: info("postgres", user: PrivateCluster.superuser), .init(applicationName: "forkloop compare"))
    try connection.execute(statement)
  }

  private func info(_ database: String, user: String = "forkloop") -> ConnectionInfo {
    cluster.info(as: user, database: database)
  }

  /// A new copy of the data, statistics included.
  package func resetDatabase() throws(LocalStackError) {
    do throws(PostgresError) {
      try administer("drop database if exists bench with (force)")
      try administer("create database bench template base owner \(PrivateCluster.owner)")
    } catch {
      throw LocalStackError("\(error)")
    }
  }

  /// How many connections the responder's role may have; nil: as many as there are.
  package func limitConnections(to most: Int?) throws(LocalStackError) {
    do throws(PostgresError) {
      try administer("alter role forkloop connection limit \(most ?? -1)")
    } catch {
      throw LocalStackError("\(error)")
    }
  }

  private static let data = [
    "insert into contact (name, email) select 'Contact ' || i, 'c' || i || '@example.org' from generate_series(1, \(contacts)) i",
    "insert into product (name) select 'Product ' || i from generate_series(1, 100) i",
    "insert into tag (name) select 'tag' || i from generate_series(1, 20) i",
    #"insert into "order" (name, contact_id) select 'SO' || i, i % \#(contacts) + 1 from generate_series(1, \#(smallOrders)) i"#,
    """
    insert into order_line (order_id, product_id, quantity, price)
      select o, (o + k) % 100 + 1, k, 9.99 from generate_series(1, \(smallOrders)) o, generate_series(1, 3) k
    """,
    """
    insert into order_tag_rel (order_id, tag_id)
      select o, (o + k) % 20 + 1 from generate_series(1, \(smallOrders)) o, generate_series(1, 2) k
    """,
    #"insert into "order" (name, contact_id) select 'Big ' || i, 1 from generate_series(1, \#(bigOrders)) i"#,
    """
    insert into order_line (order_id, product_id, quantity, price)
      select \(smallOrders) + o, k % 100 + 1, 1, 9.99 from generate_series(1, \(bigOrders)) o, generate_series(1, 1000) k
    """,
    #"analyze contact, product, tag, "order", order_line, order_tag_rel"#,
  ]

  // MARK: The responder

  /// What a responder of ours serves.
  package enum Application: String, Sendable { case orders, workload }

  /// Starts a model; how long it took until it answered, in seconds.
  package func start(_ setup: Setup, _ application: Application) throws(LocalStackError) -> Double {
    stopResponder()
    let began = MonotonicClock.now
    let environment = [
      "PATH": "/usr/local/bin:/usr/bin:/bin", "DB_HOST": folders.database, "DB_PORT": "5432", "DB_NAME": "bench",
      "DB_USER": "forkloop", Settings.noFile: "1", "BASELINE_CONNECTIONS": "\(setup.connections)",
    ]
    if setup.model == .php { try writeText(Self.php(setup, run: folders.run), to: "\(folders.run)/php-fpm.conf") }
    let socket = "\(folders.run)/\(setup.model.socket)"
    unlink(socket)
    responder = try start(
      setup.arguments(tools, application, run: folders.run), environment, accounts.web, log: setup.model.rawValue,
      readiness: .unix(socket))
    return Double(MonotonicClock.now - began) / 1e9
  }

  /// PHP-FPM's configuration: as many children as there are connections, each with one that it keeps.
  private static func php(_ setup: Setup, run: String) -> String {
    """
    [global]
    error_log = \(run)/php-fpm.log
    [www]
    listen = \(run)/\(setup.model.socket)
    pm = static
    pm.max_children = \(setup.connections)
    clear_env = no
    php_admin_value[opcache.enable] = 1

    """
  }

  /// Without ceremony: nobody is left to be answered, and a drain would take longer than a short run.
  package func stopResponder() { stop(&responder, SIGKILL) }

  /// Does it now.
  package func disturb(_ disturbance: Disturbance.Kind) throws(LocalStackError) {
    // Of those who end by it, this is what they will have used.
    let used = snapshot()
    switch disturbance {
    case .killWorker:
      // Of a pool one of many; of the loops one, which may be the only one.
      if let worker = ProcessTable().children(of: responder).last { kill(worker, SIGKILL) }
    case .reload: kill(responder, SIGHUP)
    case .restartPostgres:
      retired = used.postgres
      stop(&postgres, SIGINT)
      try startPostgres()
    }
  }

  // MARK: Measuring

  package struct Snapshot {
    let nginx: Usage, responder: Usage, postgres: Usage
  }

  package func snapshot() -> Snapshot {
    let table = ProcessTable()
    func used(_ process: pid_t) -> Usage { meters[process, default: Meter(of: process)].read(table) }
    return Snapshot(nginx: used(nginx), responder: used(responder), postgres: used(postgres) + retired)
  }

  /// In bytes: the responder's proportional set sizes, and what its PostgreSQL servers have of their own.
  package func memory() -> (responder: Int, postgres: Int) {
    let table = ProcessTable()
    return (table.memory(of: responder), table.serverMemory(of: postgres, role: "forkloop"))
  }

  // MARK: Processes

  func start(
    _ arguments: [String], _ environment: [String: String], _ account: Account?, log: String,
    readiness: Service.Readiness
  ) throws(LocalStackError) -> pid_t {
    let path = "\(folders.log)/\(log).log"
    let process: pid_t
    do throws(SystemError) {
      process = try ChildProcess.start(
        tools.divided(tools.processors.servers, arguments), environment: environment, as: account, log: path,
        parentDeathSignal: SIGKILL)
    } catch {
      throw LocalStackError("can't start \(arguments[0]): \(error)")
    }
    let deadline = MonotonicClock.now + 60_000_000_000
    while !readiness.isAnswered() {
      var status: Int32 = 0
      if waitpid(process, &status, WNOHANG) == process {
        let lastLine = readText(path)?.lines.last { !$0.isEmpty }.map { ": \($0)" } ?? ""
        throw LocalStackError("\(log) did not start\(lastLine) (\(path))")
      }
      if MonotonicClock.now > deadline {
        var started = process
        stop(&started, SIGKILL)
        throw LocalStackError("\(log) does not answer; see \(path)")
      }
      usleep(1000)
    }
    return process
  }

  /// Tells a process to stop, waits, and sees to it that nothing of it is left.
  func stop(_ process: inout pid_t, _ signal: Int32) {
    guard process > 0 else { return }
    let family = ProcessTable().family(of: process)
    for member in signal == SIGKILL ? family : [process] { kill(member, signal) }
    // PostgreSQL may have a checkpoint to write.
    let deadline = MonotonicClock.now + 60_000_000_000
    var status: Int32 = 0
    while waitpid(process, &status, WNOHANG) == 0 {
      if MonotonicClock.now > deadline { kill(process, SIGKILL) }
      usleep(1000)
    }
    for member in family where member != process { kill(member, SIGKILL) }
    meters[process] = nil
    process = 0
  }

  /// Stops everything. The folder is its maker's to delete.
  package func tearDown() {
    stopResponder()
    stop(&nginx, SIGTERM)
    stop(&postgres, SIGINT)
  }
}
