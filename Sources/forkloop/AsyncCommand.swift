import ArgumentParser
import AsyncServer
import Orders
import Platform
import ProcessPool

struct AsyncCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "async", abstract: "Serve /async: an event loop with pipelined database access.",
    discussion: """
      TERM, INT and QUIT let every request that has been accepted end, then stop; TERM and INT first wait for \
      --drain-delay. HUP (or USR2) becomes the program as it is now, with the settings as they are now, without losing a \
      request.
      """)

  @OptionGroup var options: ResponderOptions
  @OptionGroup(title: "The loops") var loops: LoopOptions
  @OptionGroup(title: "Limits of a connection") var limits: ConnectionLimitOptions
  @OptionGroup(title: "The processes") var daemon: DaemonOptions<AsyncName>

  func configuration(_ reader: SettingsReader) throws -> AsyncConfiguration {
    let listen = try reader.address(
      options.listen, "FORKLOOP_ASYNC_LISTEN",
      default: ResponderOptions.handedOn(0) ?? "unix:/run/forkloop/async.sock")
    let count = try reader.integer(loops.loops, "--loops", "FORKLOOP_ASYNC_LOOPS", in: 1...64, default: 1)
    var master = MasterConfiguration(listen: listen, pool: PoolConfiguration(workers: count))
    master.backlog = try options.backlog(reader)
    master.drainDelay = try options.drainDelay(reader)
    master.drainTimeout = try options.drainTimeout(reader)
    master.daemon = try daemon.configuration(reader)
    try ResponderOptions.refuseClashes(in: master)
    let application = try options.application(reader)
    var configuration = AsyncConfiguration(
      master, database: try reader.database(state: options.state.state),
      options: try options.connectionOptions(reader, "forkloop async")
    ) { application.make(.async, isStopping: $0) }
    try loops.apply(to: &configuration, reader)
    try ResponderOptions.refuseTooFewDescriptors(
      master.daemon, databaseConnections: configuration.databaseConnections)
    try limits.apply(to: &configuration, reader)
    configuration.mayHalfClose = try options.mayHalfClose(reader)
    return configuration
  }

  func run() throws {
    let reader = try SettingsReader(remarks: false)
    var configuration = try configuration(reader)
    let log = try reader.responderLog("async")
    let application = try options.application(reader)
    configuration.master.remarks = try DatabaseCheck.remarks(
      configuration.database, configuration.options, for: application, isCheck: options.check)
    if options.check {
      if let remark = configuration.remark { print(remark) }
      DatabaseCheck.show(configuration.master.remarks)
      return try ResponderOptions.rehearse(configuration.master)
    }
    if let remark = application.remark { log.info("\(remark)") }
    let invocation = Invocation(environment: reader.settings.environment)
    try exitUnlessZero { try EventLoopServer.run(configuration, invocation, log: log) }
  }
}

/// What a loop has and does.
struct LoopOptions: ParsableArguments {
  @Option(help: "Loops, each a process of its own. [FORKLOOP_ASYNC_LOOPS] (default: 1)")
  var loops: Int?

  @Option(help: "Pipelined database connections of each loop. [FORKLOOP_ASYNC_DB_CONNECTIONS] (default: 8)")
  var dbConnections: Int?

  @Option(
    help: """
      Statements that may wait for a place in a pipeline; requests beyond are answered 503. [FORKLOOP_ASYNC_DB_QUEUE] \
      (default: 4096)
      """)
  var dbQueue: Int?

  @Flag(
    inversion: .prefixedNo,
    help: "Answer equal reads that wait together with one statement. [FORKLOOP_ASYNC_SHARE_READS=0|1] (default: on)")
  var shareReads: Bool?

  @Option(
    help: "Milliseconds above which a turn of the loop is logged; 0: never. [FORKLOOP_ASYNC_SLOW_TURN] (default: 50)")
  var slowTurn: Int?

  @Option(
    help: """
      Milliseconds without a new turn after which a loop is taken to hang, and replaced; 0: never. \
      [FORKLOOP_ASYNC_MAX_TURN] (default: 10000)
      """)
  var maxTurn: Int?

  func apply(to configuration: inout AsyncConfiguration, _ reader: SettingsReader) throws(SettingsError) {
    configuration.databaseConnections = try reader.integer(
      dbConnections, "--db-connections", "FORKLOOP_ASYNC_DB_CONNECTIONS", in: 1...256, default: 8)
    configuration.queueLimit = try reader.integer(
      dbQueue, "--db-queue", "FORKLOOP_ASYNC_DB_QUEUE", in: 1...1_000_000, default: 4096)
    let shares = try reader.integer(nil, "", "FORKLOOP_ASYNC_SHARE_READS", in: 0...1, default: 1)
    configuration.sharesReads = shareReads ?? (shares == 1)
    let slow = try reader.integer(
      slowTurn, "--slow-turn", "FORKLOOP_ASYNC_SLOW_TURN", in: 0...3_600_000, default: 50)
    configuration.slowTurn = UInt64(slow) * 1_000_000
    let turn = try reader.integer(
      maxTurn, "--max-turn", "FORKLOOP_ASYNC_MAX_TURN", in: 0...3_600_000, default: 10_000)
    guard turn == 0 || turn >= 2_000 else {
      let flag = reader.source(maxTurn, "--max-turn", "FORKLOOP_ASYNC_MAX_TURN")
      throw SettingsError("\(flag) (\(turn)) must be 0, or at least 2000: an idle loop has a turn a second")
    }
    configuration.master.limits.turn = UInt64(turn) * 1_000_000
  }
}

/// How much a connection of the web server may do and take.
struct ConnectionLimitOptions: ParsableArguments {
  @Option(
    help:
      "Connections that each loop holds; more wait to be accepted. [FORKLOOP_ASYNC_MAX_CONNECTIONS] (default: 20000)"
  )
  var maxConnections: Int?

  @Option(
    help: """
      Seconds that a request may take to arrive, and a peer to take its answer, before its connection is closed. \
      [FORKLOOP_ASYNC_PEER_TIMEOUT] (default: 30)
      """)
  var peerTimeout: Int?

  @Option(help: "Seconds that a connection may be kept unused. [FORKLOOP_ASYNC_IDLE_TIMEOUT] (default: 3600)")
  var idleTimeout: Int?

  func apply(to configuration: inout AsyncConfiguration, _ reader: SettingsReader) throws(SettingsError) {
    configuration.connections = try reader.integer(
      maxConnections, "--max-connections", "FORKLOOP_ASYNC_MAX_CONNECTIONS", in: 1...1_000_000, default: 20_000)
    configuration.peerTimeout = .seconds(
      try reader.integer(peerTimeout, "--peer-timeout", "FORKLOOP_ASYNC_PEER_TIMEOUT", in: 1...3600, default: 30))
    configuration.idleTimeout = .seconds(
      try reader.integer(idleTimeout, "--idle-timeout", "FORKLOOP_ASYNC_IDLE_TIMEOUT", in: 1...86_400, default: 3600))
  }
}
