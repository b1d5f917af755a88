import ArgumentParser
import Glibc
import Orders
import Platform
import ProcessPool
import SyncServer

struct SyncCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sync", abstract: "Serve /sync: a prefork pool of processes with blocking database access.",
    discussion: """
      TERM, INT and QUIT let every request that has been accepted end, then stop; TERM and INT first wait for \
      --drain-delay. HUP (or USR2) becomes the program as it is now, with the settings as they are now, without losing a \
      request. TTIN and TTOU allow a worker more or less; WINCH lets all workers go until HUP or TTIN.
      """)

  @OptionGroup var options: ResponderOptions
  @OptionGroup(title: "The pool") var pool: PoolOptions
  @OptionGroup(title: "Limits of a worker") var limits: WorkerLimitOptions
  @OptionGroup(title: "The processes") var daemon: DaemonOptions<SyncName>

  @Option(
    help: """
      Where the master answers /sync/status and /sync/metrics. [FORKLOOP_SYNC_STATUS] (default: beside --listen's \
      unix:PATH.sock as PATH-status.sock)
      """)
  var statusListen: String?

  @Flag(
    help: """
      Keep the connections that the web server wants to use again (fastcgi_keep_conn on); the master waits with them. \
      [FORKLOOP_SYNC_KEEP_ALIVE=1] (default: off)
      """)
  var keepAlive = false

  func configuration(_ reader: SettingsReader) throws -> SyncConfiguration {
    let listen = try reader.address(
      options.listen, "FORKLOOP_SYNC_LISTEN", default: ResponderOptions.handedOn(0) ?? "unix:/run/forkloop/sync.sock")
    var master = MasterConfiguration(
      listen: listen, status: try status(reader, listen), pool: try pool.configuration(reader))
    master.limits = try limits.limits(reader)
    master.backlog = try options.backlog(reader)
    master.drainDelay = try options.drainDelay(reader)
    master.drainTimeout = try options.drainTimeout(reader)
    let keeps = try reader.integer(nil, "", "FORKLOOP_SYNC_KEEP_ALIVE", in: 0...1, default: 0)
    master.keepsConnections = keepAlive || keeps == 1
    master.daemon = try daemon.configuration(reader)
    try ResponderOptions.refuseClashes(in: master)
    let application = try options.application(reader)
    try ResponderOptions.refuseTooFewDescriptors(master.daemon, databaseConnections: 1)
    var configuration = SyncConfiguration(
      master, database: try reader.database(state: options.state.state),
      options: try options.connectionOptions(reader, "forkloop sync")
    ) { application.make(.sync, isStopping: $0) }
    configuration.mayHalfClose = try options.mayHalfClose(reader)
    return configuration
  }

  private func status(_ reader: SettingsReader, _ listen: ListenAddress) throws -> ListenAddress? {
    var beside = ResponderOptions.handedOn(1) ?? ""
    if case .unix(let path) = listen {
      beside = "unix:\(path.hasSuffix(".sock") ? String(path.dropLast(5)) : path)-status.sock"
    }
    let text = reader.text(statusListen, "FORKLOOP_SYNC_STATUS", default: beside)
    return text.isEmpty
      ? nil : try reader.address(text, "FORKLOOP_SYNC_STATUS", default: "", flagName: "--status-listen")
  }

  func run() throws {
    let reader = try SettingsReader(remarks: false)
    var configuration = try configuration(reader)
    let log = try reader.responderLog("sync")
    let application = try options.application(reader)
    configuration.master.remarks = try DatabaseCheck.remarks(
      configuration.database, configuration.options, for: application, isCheck: options.check)
    if options.check {
      DatabaseCheck.show(configuration.master.remarks)
      return try ResponderOptions.rehearse(configuration.master)
    }
    if let remark = application.remark { log.info("\(remark)") }
    let invocation = Invocation(environment: reader.settings.environment)
    try exitUnlessZero { try PreforkServer.run(configuration, invocation, log: log) }
  }
}

/// How many workers.
struct PoolOptions: ParsableArguments {
  @Option(help: "static, dynamic or ondemand. [FORKLOOP_SYNC_PM] (default: static)")
  var pm: String?

  @Option(help: "The most workers, each with a database connection. [FORKLOOP_SYNC_WORKERS] (default: 8)")
  var workers: Int?

  @Option(help: "dynamic: how many to begin with. [FORKLOOP_SYNC_START] (default: 2)")
  var start: Int?

  @Option(help: "dynamic: the fewest that should be idle. [FORKLOOP_SYNC_MIN_SPARE] (default: 1)")
  var minSpare: Int?

  @Option(help: "dynamic: the most that may stay idle. [FORKLOOP_SYNC_MAX_SPARE] (default: 4)")
  var maxSpare: Int?

  @Option(help: "ondemand: seconds after which an idle worker leaves. [FORKLOOP_SYNC_IDLE_TIMEOUT] (default: 10)")
  var idleTimeout: Int?

  func configuration(_ reader: SettingsReader) throws(SettingsError) -> PoolConfiguration {
    let name = reader.text(pm, "FORKLOOP_SYNC_PM", default: "static")
    guard let mode = PoolConfiguration.Mode(rawValue: name) else {
      throw SettingsError(
        "\(pm == nil ? "FORKLOOP_SYNC_PM" : "--pm") must be static, dynamic or ondemand, not '\(name)'")
    }
    let pool = PoolConfiguration(
      mode: mode,
      workers: try reader.integer(workers, "--workers", "FORKLOOP_SYNC_WORKERS", in: 1...1024, default: 8),
      start: try reader.integer(start, "--start", "FORKLOOP_SYNC_START", in: 1...1024, default: 2),
      minSpare: try reader.integer(minSpare, "--min-spare", "FORKLOOP_SYNC_MIN_SPARE", in: 1...1024, default: 1),
      maxSpare: try reader.integer(maxSpare, "--max-spare", "FORKLOOP_SYNC_MAX_SPARE", in: 1...1024, default: 4),
      idleTimeout: .seconds(
        try reader.integer(idleTimeout, "--idle-timeout", "FORKLOOP_SYNC_IDLE_TIMEOUT", in: 1...86_400, default: 10)))
    guard mode == .dynamic else { return pool }
    let workersName = reader.source(workers, "--workers", "FORKLOOP_SYNC_WORKERS")
    let minimum = reader.source(minSpare, "--min-spare", "FORKLOOP_SYNC_MIN_SPARE")
    guard pool.minSpare <= pool.maxSpare else {
      let maximum = reader.source(maxSpare, "--max-spare", "FORKLOOP_SYNC_MAX_SPARE")
      throw SettingsError("\(minimum) (\(pool.minSpare)) must not be more than \(maximum) (\(pool.maxSpare))")
    }
    // Defaults give way.
    for (name, value, isSet) in [
      (
        reader.source(start, "--start", "FORKLOOP_SYNC_START"), pool.start,
        start != nil || reader.settings["FORKLOOP_SYNC_START"] != nil
      ), (minimum, pool.minSpare, minSpare != nil || reader.settings["FORKLOOP_SYNC_MIN_SPARE"] != nil),
    ] where isSet && value > pool.workers {
      throw SettingsError("\(name) (\(value)) must not be more than \(workersName) (\(pool.workers))")
    }
    return pool
  }
}

/// How much a worker may do and take.
struct WorkerLimitOptions: ParsableArguments {
  @Option(help: "Requests after which a worker is replaced; 0: never. [FORKLOOP_SYNC_MAX_REQUESTS] (default: 0)")
  var maxRequests: Int?

  @Option(
    help:
      "Up to how many more, drawn for each worker, so that they do not all go at once. [FORKLOOP_SYNC_MAX_REQUESTS_JITTER] (default: a tenth)"
  )
  var maxRequestsJitter: Int?

  @Option(
    help:
      "MiB of resident memory (RSS, shared pages counted in full) after a request, above which a worker is replaced; 0: none. [FORKLOOP_SYNC_MAX_RSS] (default: 0)"
  )
  var maxRss: Int?

  @Option(
    help:
      "Milliseconds after which a request is given up: 504 for the client, the worker is replaced; 0: never. The database's limit is kept below. [FORKLOOP_SYNC_REQUEST_TIMEOUT] (default: 30000)"
  )
  var requestTimeout: Int?

  @Option(help: "Milliseconds above which a request is logged; 0: never. [FORKLOOP_SYNC_SLOW] (default: 0)")
  var slow: Int?

  @Option(
    help:
      "Milliseconds in the listen queue after which a request is answered 503 at once; 0: never. [FORKLOOP_SYNC_MAX_QUEUE_WAIT] (default: 0)"
  )
  var maxQueueWait: Int?

  func limits(_ reader: SettingsReader) throws(SettingsError) -> WorkerLimits {
    var limits = WorkerLimits()
    let most = 1_000_000_000
    limits.requests = try reader.integer(
      maxRequests, "--max-requests", "FORKLOOP_SYNC_MAX_REQUESTS", in: 0...most, default: 0)
    limits.requestsJitter = try reader.integer(
      maxRequestsJitter, "--max-requests-jitter", "FORKLOOP_SYNC_MAX_REQUESTS_JITTER", in: 0...most,
      default: limits.requests / 10)
    limits.memory =
      try reader.integer(maxRss, "--max-rss", "FORKLOOP_SYNC_MAX_RSS", in: 0...1_048_576, default: 0) << 20
    limits.requestTime =
      UInt64(
        try reader.integer(
          requestTimeout, "--request-timeout", "FORKLOOP_SYNC_REQUEST_TIMEOUT", in: 0...86_400_000, default: 30_000))
      * 1_000_000
    limits.slow =
      UInt64(try reader.integer(slow, "--slow", "FORKLOOP_SYNC_SLOW", in: 0...86_400_000, default: 0)) * 1_000_000
    limits.queueWait =
      UInt64(
        try reader.integer(
          maxQueueWait, "--max-queue-wait", "FORKLOOP_SYNC_MAX_QUEUE_WAIT", in: 0...5_000, default: 0)) * 1_000_000
    return limits
  }
}
