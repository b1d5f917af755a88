import ArgumentParser
import LocalStack
import Orders
import Platform
import Postgres

struct UpCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "up", abstract: "Run everything on this machine: PostgreSQL, both responders and nginx.",
    discussion: """
      The database is a private cluster in the state folder, or DB_HOST's if that is set. What dies is restarted. Ctrl-C \
      stops everything and leaves nothing behind but the data; so do TERM, QUIT, and HUP, which comes when the terminal \
      closes (nohup keeps it away). USR1 lets the responders and nginx open their logs anew after they have been moved; \
      PostgreSQL's log can only be truncated.
      """)

  @Option(help: "The port of nginx, on 127.0.0.1. [FORKLOOP_PORT] (default: 8080)")
  var port: Int?

  @Option(help: "The folder for data, sockets and logs. [FORKLOOP_STATE] (default: var)")
  var state: String?

  @Flag(help: "Leave a new database empty. Else a small data set is loaded into one that never held anything.")
  var empty = false

  @Flag(help: "Load the small data set into any empty database, also one whose rows have been deleted.")
  var demoData = false

  func validate() throws {
    if empty && demoData { throw ValidationError("--empty and --demo-data contradict each other.") }
  }

  func run() throws {
    let reader = try SettingsReader()
    let port = try reader.integer(port, "--port", "FORKLOOP_PORT", in: 1...65_535, default: 8080)
    let external = reader.namesServer(onlyOurs: true) ? try reader.namedDatabase() : nil
    let user = reader.settings["DB_USER"] ?? DatabaseSetup.role
    guard external != nil || ![PrivateCluster.superuser, PrivateCluster.owner].contains(user) else {
      throw SettingsError(
        "DB_USER must not be '\(user)' for a private cluster: it is the responders' role, who own nothing")
    }
    // A wrong setting of a responder should stop the start here, not show up in its log.
    _ = try SyncCommand.parse([]).configuration(reader)
    _ = try AsyncCommand.parse([]).configuration(reader)
    try exitUnlessZero {
      let stack = LocalStack(
        folders: try Folders(state: state ?? reader.stateFolder), port: UInt16(port),
        demoData: empty ? nil : demoData ? .empty : .new, external: external,
        databaseName: reader.settings["DB_NAME"], databaseUser: reader.settings["DB_USER"],
        environment: reader.settings.all)
      return try stack.run()
    }
  }
}
