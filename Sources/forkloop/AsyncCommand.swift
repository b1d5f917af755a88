import ArgumentParser
import AsyncServer

struct AsyncCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "async", abstract: "Serve /async: an event loop with pipelined database access.",
    discussion: "TERM and INT let every request that has been accepted end, then stop.")

  @OptionGroup var options: ResponderOptions

  @Option(help: "Pipelined database connections. [FORKLOOP_ASYNC_DB_CONNECTIONS] (default: 4)")
  var dbConnections: Int?

  @Flag(
    inversion: .prefixedNo,
    help: "Answer equal reads that wait together with one statement. [FORKLOOP_ASYNC_SHARE_READS=0|1] (default: on)")
  var shareReads: Bool?

  func configuration(_ reader: SettingsReader) throws -> AsyncConfiguration {
    var configuration = AsyncConfiguration(
      listen: try reader.address(options.listen, "FORKLOOP_ASYNC_LISTEN", default: "unix:/run/forkloop/async.sock"),
      databaseConnections: try reader.integer(
        dbConnections, "--db-connections", "FORKLOOP_ASYNC_DB_CONNECTIONS", in: 1...256, default: 4),
      database: try reader.database(state: options.state.state ?? reader.stateFolder),
      options: try options.connectionOptions(reader, "forkloop async"),
      drainTimeout: try options.drainTimeout(reader))
    let shares = try reader.integer(nil, "", "FORKLOOP_ASYNC_SHARE_READS", in: 0...1, default: 1)
    configuration.sharesReads = shareReads ?? (shares == 1)
    return configuration
  }

  func run() throws {
    let reader = try SettingsReader()
    let configuration = try configuration(reader)
    let log = try reader.log("async")
    if options.check { return print("the configuration is good") }
    try exitUnlessZero { try Server(configuration, log: log).run() }
  }
}
