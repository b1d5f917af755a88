import ArgumentParser
import Glibc
import LocalStack
import Orders
import Platform
import Postgres
import ProcessPool

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
    try exitUnlessZero {
      let folder = state ?? reader.settings["FORKLOOP_STATE"] ?? SettingsReader.stateFolder
      let stack = LocalStack(
        folders: try Folders(state: folder), port: UInt16(port), demoData: empty ? nil : demoData ? .empty : .new,
        external: external, databaseName: reader.settings["DB_NAME"], databaseUser: reader.settings["DB_USER"],
        environment: reader.settings.all)
      try rehearse(stack, reader)
      return try stack.run()
    }
  }

  /// What would stop a responder stops us before anything is made.
  private func rehearse(_ stack: LocalStack, _ reader: SettingsReader) throws {
    let accounts = try Accounts()
    for name in [SyncName.prefix, AsyncName.prefix].flatMap({ ["\($0)USER", "\($0)GROUP"] })
    where reader.settings[name] != nil {
      let user = accounts.web.map { "'\($0.name)'" } ?? "whoever starts it"
      throw SettingsError("\(name) is for a responder that root starts: 'forkloop up' runs both as \(user)")
    }
    // What they say is not used here, and is to be understood all the same.
    for name in ["FORKLOOP_SYNC_LISTEN", "FORKLOOP_ASYNC_LISTEN", "FORKLOOP_SYNC_STATUS"] {
      _ = try reader.address(nil, name, default: "unix:s")
    }
    let environment = stack.responderEnvironment(accounts)
    let isPrivate = stack.external == nil
    for mode in [Mode.sync, .async] {
      // As their user, who may do less, and with limits that are for good.
      let fault = try Self.inAChild {
        guard accounts.web?.assume() ?? true else { throw SettingsError("can't become the responders' user") }
        if isPrivate { ConnectionInfo.dropEnvironment() }
        let reader = SettingsReader(Settings(environment: environment))
        _ = try reader.log(mode.rawValue)
        let arguments = Array(stack.responderArguments(mode).dropFirst())
        let master =
          mode == .sync
          ? try SyncCommand.parse(arguments).configuration(reader).master
          : try AsyncCommand.parse(arguments).configuration(reader).master
        try Rehearsal.run(master.daemon)
      }
      if let fault { throw SettingsError(fault) }
    }
  }

  /// What `body` throws in a process of its own.
  private static func inAChild(_ body: () throws -> Void) throws -> String? {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { throw SystemError("pipe", code: errno) }
    let exit = Descriptor(owning: ends[0])
    let entrance = Descriptor(owning: ends[1])
    let child = try ChildProcess.fork(parentDeathSignal: SIGKILL) {
      do {
        try body()
        return 0
      } catch {
        var text = "\(error)"
        text.withUTF8 { _ = write(entrance.number, $0.baseAddress, $0.count) }
        return 1
      }
    }
    _ = consume entrance
    guard ChildProcess.wait(for: child).exitCode != 0 else { return nil }
    var bytes = [UInt8](repeating: 0, count: 4096)
    return String(decoding: bytes[..<max(0, read(exit.number, &bytes, bytes.count))], as: UTF8.self)
  }
}
