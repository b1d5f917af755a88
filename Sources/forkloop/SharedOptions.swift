// Flags and settings that several commands have.

import ArgumentParser
import CLinux
import Glibc
import LocalStack
import Logging
import Platform
import Postgres
import ProcessPool

/// Looks settings up in the order flag, environment, `.env`, default.
struct SettingsReader {
  let settings: Settings

  /// Reads `.env`, and hands libpq those of its variables that only `.env` has. `remarks`: tells on standard error of settings that
  /// do not exist; else whoever has a log does it there.
  init(remarks: Bool = true) throws(SettingsError) {
    settings = try Settings.current()
    if remarks { for line in self.remarks { Main.tell("warning: \(line)") } }
    for (name, value) in settings.fromFileOnly where name.hasPrefix("PG") { setenv(name, value, 1) }
  }

  /// Of settings that do not exist. Nothing where whoever started us has read them and has told of it.
  private var remarks: [String] {
    settings.environment[Settings.noFile] == nil ? settings.remarks(known: Forkloop.settings) : []
  }

  /// Settings that have been read and spoken of.
  init(_ settings: Settings) { self.settings = settings }

  func text(_ flag: String?, _ name: String, default fallback: String) -> String { flag ?? settings[name] ?? fallback }

  /// What a message about a value has to name: a flag only where it was used.
  func source(_ flag: (some Any)?, _ flagName: String, _ name: String) -> String {
    flag == nil && settings[name] != nil ? name : flagName
  }

  func integer(
    _ flag: Int?, _ flagName: String, _ name: String, in range: ClosedRange<Int>, default fallback: Int
  ) throws(SettingsError) -> Int {
    if let flag {
      guard range.contains(flag) else {
        throw SettingsError("\(flagName) must be from \(range.lowerBound) to \(range.upperBound), not \(flag)")
      }
      return flag
    }
    guard let text = settings[name] else { return fallback }
    guard let value = Int(text), range.contains(value) else {
      throw SettingsError("\(name) must be an integer from \(range.lowerBound) to \(range.upperBound), not '\(text)'")
    }
    return value
  }

  func address(
    _ flag: String?, _ name: String, default fallback: String, flagName: String = "--listen"
  ) throws(SettingsError) -> ListenAddress {
    do throws(ListenAddress.Malformed) {
      return try ListenAddress(text(flag, name, default: fallback))
    } catch {
      throw SettingsError("\(flag == nil ? name : flagName): \(error)")
    }
  }

  /// The database of the private cluster that is meant, as the application's role or as `role`; where none is, the one that the
  /// settings name.
  func database(state: String?, as role: String? = nil) throws(SettingsError) -> ConnectionInfo {
    if let cluster = try privateCluster(state) { return cluster.info(as: role) }
    let info = try namedDatabase()
    if let fault = info.fault() { throw SettingsError("the database's settings can't be used: \(fault)") }
    return info
  }

  /// The private cluster that is meant: where `--state` says, whatever the settings name; where they name no server, the one where
  /// they say that the state is; where they don't, the one in `var`, if there is one.
  func privateCluster(_ flag: String?) throws(SettingsError) -> PrivateCluster? {
    guard flag != nil || !namesServer() else { return nil }
    // The default is nobody's word, also where it stands in a file.
    let named = flag ?? settings["FORKLOOP_STATE"].flatMap { $0 == Self.stateFolder ? nil : $0 }
    do throws(LocalStackError) {
      let folders = try Folders(state: named ?? Self.stateFolder)
      if try PrivateCluster.exists(in: folders) {
        return PrivateCluster(folders, account: nil, database: settings["DB_NAME"], user: settings["DB_USER"])
      }
      if named != nil {
        throw LocalStackError("there is no database of 'forkloop up' in \(folders.state)")
      }
    } catch {
      // Without a word of the user's it is only a place to look.
      if named != nil { throw SettingsError("\(flag == nil ? "FORKLOOP_STATE" : "--state"): \(error)") }
    }
    return nil
  }

  /// Whether the settings say which server to use: ours, or libpq's own too.
  func namesServer(onlyOurs: Bool = false) -> Bool {
    let names = ["DATABASE_URL", "DB_HOST"] + (onlyOurs ? [] : ["PGHOST", "PGHOSTADDR", "PGSERVICE"])
    return names.contains { settings[$0] != nil }
  }

  func namedDatabase() throws(SettingsError) -> ConnectionInfo {
    do throws(ConnectionInfo.Malformed) {
      return try ConnectionInfo(settings: { settings[$0] })
    } catch {
      throw SettingsError("\(error)")
    }
  }

  /// In milliseconds.
  func statementTimeout(_ flag: Int? = nil) throws(SettingsError) -> Int {
    try integer(flag, "--statement-timeout", "FORKLOOP_STATEMENT_TIMEOUT", in: 10...3_600_000, default: 15_000)
  }

  static let stateFolder = "var"

  func log(_ label: String) throws(SettingsError) -> Logger {
    var log = Logger(label: label) { LineLog(label: $0) }
    if let text = settings["FORKLOOP_LOG_LEVEL"] {
      guard let level = Logger.Level(rawValue: text) else {
        throw SettingsError(
          "FORKLOOP_LOG_LEVEL must be one of \(Logger.Level.allCases.map(\.rawValue).joined(separator: ", "))")
      }
      log.logLevel = level
    }
    return log
  }

  /// The log of a responder, with what there is to say about its settings. Before a reload that is left to the program itself.
  func responderLog(_ label: String) throws(SettingsError) -> Logger {
    let log = try log(label)
    let remarks = Rehearsal.isBeforeReload ? [] : remarks
    // After a reload, others are being served meanwhile.
    if !remarks.isEmpty { LogOutput.neverWait() }
    for line in remarks { log.warning("\(line)") }
    return log
  }
}

/// Where `up` keeps its state.
struct StateOption: ParsableArguments {
  @Option(
    help:
      "The folder of 'forkloop up', whose private database is used; as a setting or by default, if no other is set. [FORKLOOP_STATE] (default: var)"
  )
  var state: String?
}

/// What both responders take.
struct ResponderOptions: ParsableArguments {
  @Option(
    help: """
      Where to listen: unix:PATH, HOST:PORT or fd:N. [FORKLOOP_SYNC_LISTEN] (default: unix:/run/forkloop/sync.sock) \
      [FORKLOOP_ASYNC_LISTEN] (default: unix:/run/forkloop/async.sock)
      """)
  var listen: String?

  @Option(
    help: """
      Connections that may wait to be accepted; a socket that was handed on (fd:N) keeps its own number. \
      [FORKLOOP_BACKLOG] (default: as many as net.core.somaxconn allows)
      """)
  var backlog: Int?

  @Option(
    help: """
      Seconds for which connections are still accepted after TERM or INT, while /health answers 503, so that a load balancer \
      can send requests elsewhere first. [FORKLOOP_DRAIN_DELAY] (default: 0)
      """)
  var drainDelay: Int?

  @Option(help: "Seconds that requests may take to end in a drain. [FORKLOOP_DRAIN_TIMEOUT] (default: 30)")
  var drainTimeout: Int?

  @Option(
    help: "Milliseconds after which the database gives a statement up. [FORKLOOP_STATEMENT_TIMEOUT] (default: 15000)")
  var statementTimeout: Int?

  @Option(
    help: """
      Whether statements are prepared: on or off. Off for a pooler in transaction mode that does not keep their names apart, as \
      an older PgBouncer. [FORKLOOP_PREPARED] (default: on)
      """)
  var prepared: String?

  @Flag(
    help: """
      The web server may close its writing side and still wait for its answer; else over TCP it is taken to have gone then, with \
      its client. [FORKLOOP_HALF_CLOSE=1] (default: off)
      """)
  var halfClose = false

  func mayHalfClose(_ reader: SettingsReader) throws(SettingsError) -> Bool {
    let says = try reader.integer(nil, "", "FORKLOOP_HALF_CLOSE", in: 0...1, default: 0)
    return halfClose || says == 1
  }

  @Flag(help: "Only check the configuration.")
  var check = false

  @Option(
    help: """
      What is served: orders, or workload, whose requests cost what they are told to, for measurements alone. \
      [FORKLOOP_APPLICATION] (default: orders)
      """)
  var application: String?

  @OptionGroup var state: StateOption

  /// What `--check` does once the settings are understood.
  static func rehearse(_ configuration: MasterConfiguration) throws(SettingsError) {
    do throws(ListeningSocket.Failure) {
      try Rehearsal.run(configuration)
    } catch {
      throw SettingsError("\(error)")
    }
    print("the configuration is good")
  }

  /// A socket from the service manager: the server's, then the status's.
  static func handedOn(_ index: Int) -> String? {
    let sockets = ServiceManager.listeningSockets
    return index < sockets.count ? "fd:\(sockets[index])" : nil
  }

  func backlog(_ reader: SettingsReader) throws(SettingsError) -> Int32 {
    let most = Int(ListeningSocket.longestQueue)
    return Int32(try reader.integer(backlog, "--backlog", "FORKLOOP_BACKLOG", in: 1...most, default: most))
  }

  /// What can't be in one place: the socket, the status's, and the log.
  static func refuseClashes(in master: MasterConfiguration) throws(SettingsError) {
    if let status = master.status, status.isSame(as: master.listen) {
      throw SettingsError("--listen and --status-listen are the same place: \(status)")
    }
    guard let log = master.daemon.logFile else { return }
    for (flag, address) in [("--listen", master.listen), ("--status-listen", master.status)] {
      if address?.isFile(log) == true { throw SettingsError("--log and \(flag) are the same file: \(log)") }
    }
  }

  func application(_ reader: SettingsReader) throws(SettingsError) -> ServedApplication {
    try ServedApplication(application, reader)
  }

  func drainDelay(_ reader: SettingsReader) throws(SettingsError) -> Duration {
    .seconds(try reader.integer(drainDelay, "--drain-delay", "FORKLOOP_DRAIN_DELAY", in: 0...3600, default: 0))
  }

  /// With fewer descriptors a process would start and then accept nobody.
  static func refuseTooFewDescriptors(_ daemon: DaemonConfiguration, databaseConnections: Int) throws(SettingsError) {
    let needed = DaemonConfiguration.fewestFiles + databaseConnections
    guard daemon.files ?? Descriptor.hardLimit < needed else { return }
    let remedy =
      daemon.files.map { "--rlimit-files (\($0)) must be" } ?? "raise `ulimit -Hn` (\(Descriptor.hardLimit)) to"
    throw SettingsError("\(remedy) at least \(needed): a process needs as many descriptors for itself and the database")
  }

  func drainTimeout(_ reader: SettingsReader) throws(SettingsError) -> Duration {
    .seconds(
      try reader.integer(drainTimeout, "--drain-timeout", "FORKLOOP_DRAIN_TIMEOUT", in: 1...3600, default: 30))
  }

  func connectionOptions(_ reader: SettingsReader, _ name: String) throws(SettingsError) -> Connection.Options {
    let text = reader.text(prepared, "FORKLOOP_PREPARED", default: "on")
    guard text == "on" || text == "off" else {
      throw SettingsError("\(prepared == nil ? "FORKLOOP_PREPARED" : "--prepared") must be on or off, not '\(text)'")
    }
    return Connection.Options(
      applicationName: name, statementTimeout: try reader.statementTimeout(statementTimeout), prepares: text == "on")
  }
}

/// Runs `body`; what it throws is a failure told in one line, and a code other than 0 is the program's.
func exitUnlessZero(_ body: () throws -> Int32) throws {
  let code: Int32
  do {
    code = try body()
  } catch let error as SettingsError {
    throw error
  } catch let error as LocalStackError where error.isWrongSetting {
    throw SettingsError(error.description)
  } catch {
    throw CommandFailure(description: "\(error)")
  }
  if code != 0 { throw ExitCode(code) }
}
