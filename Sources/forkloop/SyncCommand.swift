import ArgumentParser
import SyncServer

struct SyncCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sync", abstract: "Serve /sync: a prefork pool of processes with blocking database access.",
    discussion: "TERM and INT let every request that has been accepted end, then stop.")

  @OptionGroup var options: ResponderOptions

  @Option(help: "Worker processes. [FORKLOOP_SYNC_WORKERS] (default: 8)")
  var workers: Int?

  func configuration(_ reader: SettingsReader) throws -> SyncConfiguration {
    SyncConfiguration(
      listen: try reader.address(options.listen, "FORKLOOP_SYNC_LISTEN", default: "unix:/run/forkloop/sync.sock"),
      workers: try reader.integer(workers, "--workers", "FORKLOOP_SYNC_WORKERS", in: 1...1024, default: 8),
      database: try reader.database(state: options.state.state ?? reader.stateFolder),
      options: try options.connectionOptions(reader, "forkloop sync"),
      drainTimeout: try options.drainTimeout(reader))
  }

  func run() throws {
    let reader = try SettingsReader()
    let configuration = try configuration(reader)
    let log = try reader.log("sync")
    if options.check { return print("the configuration is good") }
    var master = Master(configuration, log: log)
    try exitUnlessZero { try master.run() }
  }
}
