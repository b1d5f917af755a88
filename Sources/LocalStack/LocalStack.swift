// `forkloop up`: PostgreSQL, the schema, both responders and nginx on one machine, for as long as somebody wants them.

import CLinux
import Glibc
import Orders
import Platform
import Postgres

/// Everything that `forkloop up` was told.
package struct LocalStack: Sendable {
  package let folders: Folders
  package let port: UInt16
  /// Where to load the demo data; nil for nowhere.
  package let demoData: DemoData.Place?
  /// The database to use; nil for a private cluster.
  package let external: ConnectionInfo?
  /// Names for the private cluster's database and role, if they are set.
  package let databaseName: String?
  package let databaseUser: String?
  /// The environment for the responders.
  package let environment: [String: String]

  package init(
    folders: Folders, port: UInt16, demoData: DemoData.Place?, external: ConnectionInfo?, databaseName: String?,
    databaseUser: String?, environment: [String: String]
  ) {
    self.folders = folders
    self.port = port
    self.demoData = demoData
    self.external = external
    self.databaseName = databaseName
    self.databaseUser = databaseUser
    self.environment = environment
  }

  /// Brings the stack up, keeps it up until it is told to stop, and takes it down. The exit code.
  package func run() throws(LocalStackError) -> Int32 {
    // From here on a signal stops us in order.
    var supervisor = Supervisor(say: Self.say)
    let accounts = try Accounts()
    let program = try Self.ownPath()
    let site = try NginxSite.find(program: program)
    try folders.makeState()
    let lock = try takeLock()
    try folders.make(for: accounts)
    var claim: PortClaim?
    do throws(LocalStackError) {
      try supervisor.outwaitLeftovers(in: folders)
      claim = Self.soon { PortClaim.make(port) }
      if claim == nil, !supervisor.isAskedToStop {
        throw LocalStackError("port \(port) is taken: stop what listens there or choose another with --port")
      }
      try bringUp(&supervisor, accounts, site, program)
    } catch {
      _ = supervisor.stop()
      throw error
    }
    if !supervisor.isAskedToStop {
      greet(site, accounts)
      supervisor.supervise()
      if drainDelay > 0 {
        Self.say("stopping in \(drainDelay) s: until then /health answers 503 (at the next signal, at once)")
        supervisor.announceStop(for: .seconds(drainDelay))
      }
    }
    Self.say("stopping")
    let wasOrderly = supervisor.stop()
    _ = consume claim
    _ = consume lock
    return wasOrderly ? 0 : 1
  }

  /// Goes no further once the supervisor has been asked to stop.
  private func bringUp(
    _ supervisor: inout Supervisor, _ accounts: Accounts, _ site: NginxSite, _ program: String
  ) throws(LocalStackError) {
    if let external {
      if supervisor.isAskedToStop { return }
      try supervisor.perform { () throws(LocalStackError) in try prepareDatabase(external) }
    } else {
      let cluster = cluster(accounts)
      try startPostgres(&supervisor, cluster)
      if supervisor.isAskedToStop { return }
      try supervisor.perform { () throws(LocalStackError) in
        do {
          let connection = try cluster.setUp(say: Self.say)
          try loadDemoData(on: connection)
        } catch {
          throw LocalStackError("\(error)")
        }
      }
    }
    for mode in [Mode.sync, .async] {
      if supervisor.isAskedToStop { return }
      try supervisor.start(responder(mode, program, accounts))
    }
    if supervisor.isAskedToStop { return }
    try supervisor.start(
      Service(
        "nginx", try site.write(folders: folders, port: port, accounts: accounts),
        environment: ["PATH": "/usr/local/bin:/usr/bin:/bin"], as: nil, log: "\(folders.log)/nginx.log",
        stopSignal: SIGQUIT, reopenSignal: SIGUSR1, readiness: .tcp(port)))
  }

  private func startPostgres(_ supervisor: inout Supervisor, _ cluster: PrivateCluster) throws(LocalStackError) {
    if supervisor.isAskedToStop { return }
    let isNew = try cluster.isToBeMade()
    if isNew { Self.say("making a PostgreSQL cluster in \(folders.postgres)") }
    try cluster.initialize { supervisor.wait(for: $0) }
    if supervisor.isAskedToStop { return }
    if let kept = try cluster.guardAccess(isNew: isNew) {
      Self.say(
        "PostgreSQL takes whoever gets to its socket for \"\(cluster.user)\", and for nobody else any more "
          + "(\(folders.postgres)/pg_hba.conf; as it was: \(kept.parts(by: "/").last ?? ""))")
    }
    try folders.linkSocket()
    // Its log can only be truncated: USR1 means something else to it.
    try supervisor.start(
      Service(
        "postgres", try cluster.serverArguments(), environment: PrivateCluster.environment, as: cluster.account,
        log: "\(folders.log)/postgres.log", stopSignal: SIGINT, stopLimit: Self.postgresStopLimit,
        readiness: .postmaster(PostmasterFile(folder: folders.postgres))))
  }

  private func cluster(_ accounts: Accounts) -> PrivateCluster {
    PrivateCluster(folders, account: accounts.postgres, database: databaseName, user: databaseUser)
  }

  /// What the responders are told: the settings, with which database is theirs, and without what is for others.
  package func responderEnvironment(_ accounts: Accounts) -> [String: String] {
    var environment = environment
    // It has been read, and it may be ours alone.
    environment[Settings.noFile] = "1"
    let administrators = [
      "DB_ADMIN", "DB_ADMIN_PASSWORD", "FORKLOOP_OWNER", "FORKLOOP_OWNER_PASSWORD", "FORKLOOP_ROLE",
      "FORKLOOP_ROLE_PASSWORD",
    ]
    // Where nginx looks for the status is not theirs to choose.
    let ours = ["FORKLOOP_STATE", "FORKLOOP_SYNC_STATUS"]
    for name in ServiceManager.variables + administrators + ours { environment[name] = nil }
    guard external == nil else { return environment }
    let cluster = cluster(accounts)
    environment = environment.filter { !ConnectionInfo.isOfLibpq($0.key) }
    for name in ["DATABASE_URL", "DB_PASSWORD"] { environment[name] = nil }
    environment["DB_HOST"] = folders.database
    environment["DB_PORT"] = "5432"
    environment["DB_NAME"] = cluster.database
    environment["DB_USER"] = cluster.user
    return environment
  }

  package func responderArguments(_ mode: Mode) -> [String] {
    [mode.rawValue, "--listen", "unix:\(folders.run)/\(mode.rawValue).sock"]
  }

  private func responder(_ mode: Mode, _ program: String, _ accounts: Accounts) -> Service {
    let socket = "\(folders.run)/\(mode.rawValue).sock"
    let log = "\(folders.log)/\(mode.rawValue).log"
    var environment = responderEnvironment(accounts)
    // So that it can open it anew.
    let name = "FORKLOOP_\(mode.rawValue.uppercased())_LOG"
    if environment[name, default: ""].isEmpty { environment[name] = log }
    // After an announcement they accept until they are told to stop, which is when nginx has stopped.
    if drainDelay > 0 {
      let patience = drainDelay + Int(Service.usualStopLimit / 1_000_000_000) + 10
      environment[Self.drainDelay] = String(min(patience, Self.longestDrainDelay))
    }
    return Service(
      mode.rawValue, [program] + responderArguments(mode), environment: environment,
      as: accounts.web, log: log, stopSignal: drainDelay > 0 ? SIGQUIT : SIGTERM,
      announcementSignal: drainDelay > 0 ? SIGTERM : nil, stopLimit: responderStopLimit, reopenSignal: SIGUSR1,
      readiness: .unix(socket))
  }

  private static let drainDelay = "FORKLOOP_DRAIN_DELAY"
  /// That a responder takes, in seconds.
  private static let longestDrainDelay = 3600

  /// For how many seconds everything goes on after a signal to stop. A responder refuses what is no such number.
  private var drainDelay: Int {
    guard let text = environment[Self.drainDelay], let seconds = Int(text), 0...Self.longestDrainDelay ~= seconds else {
      return 0
    }
    return seconds
  }

  /// A little longer than a drain may take.
  private var responderStopLimit: UInt64 {
    (environment["FORKLOOP_DRAIN_TIMEOUT"].flatMap { UInt64($0) } ?? 30) * 1_000_000_000 + 10_000_000_000
  }

  /// It writes everything to the disk before it ends; killed, it would have to recover.
  private static let postgresStopLimit: UInt64 = 300_000_000_000

  private func prepareDatabase(_ info: ConnectionInfo) throws(LocalStackError) {
    do {
      let connection = try Connection.connect(to: info, .init(applicationName: "forkloop up"))
      if try connection.execute("select rolsuper from pg_roles where rolname = current_user").string(0, 0) == "t" {
        Self.say("the responders will connect as a superuser: 'forkloop setup' makes a role that can do less")
      }
      for migration in try Schema.migrations.run(on: connection) {
        Self.say("applied migration \(migration.number): \(migration.name)")
      }
      let timeout =
        environment["FORKLOOP_STATEMENT_TIMEOUT"].flatMap { Int($0) } ?? Connection.Options.defaultStatementTimeout
      _ = try SessionSettings.set(statementTimeout: timeout, on: connection)
      try loadDemoData(on: connection)
    } catch {
      throw LocalStackError("\(error)")
    }
  }

  /// Where nobody has asked for it, what can't be loaded is no reason to stay down.
  private func loadDemoData(on connection: Connection) throws(PostgresError) {
    guard let demoData else { return }
    do throws(PostgresError) {
      guard try DemoData.load(on: connection, if: demoData) else { return }
      Self.say("loaded the demo data\(demoData == .new ? "; --empty leaves a new database empty" : "")")
    } catch {
      guard demoData == .new else { throw error }
      Self.say("the demo data could not be loaded: \(error)")
    }
  }

  /// A server that has just opened its socket may still be starting up.
  package static func patiently(_ body: () throws(PostgresError) -> Void) throws(LocalStackError) {
    let deadline = MonotonicClock.now + 30_000_000_000
    while true {
      do throws(PostgresError) {
        return try body()
      } catch {
        if MonotonicClock.now > deadline { throw LocalStackError("\(error)") }
        usleep(50_000)
      }
    }
  }

  /// Tries for half a second: what an `up` held that was killed a moment ago goes with the last of its processes.
  private static func soon<Value: ~Copyable>(_ attempt: () -> Value?) -> Value? {
    for _ in 0..<25 {
      if let value = attempt() { return value }
      usleep(20_000)
    }
    return attempt()
  }

  private func greet(_ site: NginxSite, _ accounts: Accounts) {
    let base = "http://127.0.0.1:\(port)"
    let canBeTried = accounts.web.map { Folders.isReachable("\(site.source)/html", for: $0) } ?? true
    let state = external == nil ? " --state \(shellWord(folders.state))" : ""
    let place = external == nil ? folders.postgres : "the database that the settings name"
    Self.say(
      """
      forkloop is up
        try it out   \(canBeTried ? "\(base)/docs" : "not here: nginx's user can't get to \(site.source)/html")
        prefork      \(base)/sync/order
        event loop   \(base)/async/order
        database     eval "$(forkloop env\(state))"; psql
        logs         \(folders.log)/
      Ctrl-C stops everything; the data stays in \(place)
      """)
  }

  private static let say: @Sendable (String) -> Void = { tell($0) }

  private func takeLock() throws(LocalStackError) -> Descriptor {
    for attempt in 0..<25 {
      if attempt > 0 { usleep(20_000) }
      if let lock = try folders.takeLock() { return lock }
    }
    throw LocalStackError(
      "another 'forkloop up' uses \(folders.state): stop it or choose another folder with --state")
  }

  package static func ownPath() throws(LocalStackError) -> String {
    guard let path = resolved("/proc/self/exe") else { throw LocalStackError("the program's own path can't be found") }
    return path
  }
}
