// A PostgreSQL cluster of the stack's own, under its state folder, reached by a Unix socket only.

import CLinux
import Glibc
import Orders
import Platform
import Postgres

/// The cluster in `var/postgres`.
package struct PrivateCluster: Sendable {
  package let folders: Folders
  package let account: Account?
  package let database: String
  package let user: String

  package static let superuser = "postgres"
  package static let owner = DatabaseSetup.owner

  /// The names are those that the settings give, so that `DB_NAME` and `DB_USER` mean here what they mean elsewhere.
  package init(_ folders: Folders, account: Account?, database: String?, user: String?) {
    self.folders = folders
    self.account = account
    self.database = database ?? DatabaseSetup.database
    self.user = user ?? DatabaseSetup.role
  }

  /// Whether there is one. Only its owner can look into its folder: others see that there is such a folder.
  package static func exists(in folders: Folders) throws(LocalStackError) -> Bool {
    if access("\(folders.postgres)/PG_VERSION", F_OK) == 0 { return true }
    guard errno == EACCES else { return false }
    var status = stat()
    if lstat(folders.postgres, &status) == 0 { return true }
    guard errno == EACCES else { return false }
    throw LocalStackError("can't look into \(folders.state): \(String(cString: strerror(EACCES)))")
  }

  /// How to connect to it: as the application's role, unless it is to be another. From here on nothing of libpq's environment
  /// counts in this process: it would lead elsewhere.
  package func info(as role: String? = nil, database other: String? = nil) -> ConnectionInfo {
    ConnectionInfo.dropEnvironment()
    return ConnectionInfo(["host": folders.database, "port": "5432", "dbname": other ?? database, "user": role ?? user])
  }

  /// Waits for a child process; nil: it was given up.
  package typealias Wait = (pid_t) -> ChildProcess.Ending?

  /// Makes the cluster if there is none. initdb works in a folder of another name, which gets its own once it is complete:
  /// whatever ends it in the middle, no cluster is left that will never work, and the next time begins anew.
  /// `wait` returns how initdb has ended.
  package func initialize(_ wait: Wait = { ChildProcess.wait(for: $0) }) throws(LocalStackError) {
    // It may be a link to another place.
    let place = resolved(folders.postgres) ?? folders.postgres
    removeUnfinished(beside: place)
    guard try isToBeMade() else { return }
    guard let initdb = findProgram("initdb", alsoIn: Self.folders(of: nil)) else { throw Self.notInstalled }
    let folder = try makeFolder(beside: place)
    var failure: String?
    let log = "\(folders.log)/initdb.log"
    let arguments = [
      initdb, "-D", folder, "-U", Self.superuser, "--auth=peer", "--encoding=UTF8", "--locale=C.UTF-8",
      "--no-instructions",
    ]
    do throws(SystemError) {
      let process = try ChildProcess.start(arguments, environment: Self.environment, as: account, log: log)
      let ending = wait(process)
      if ending?.exitCode == 0 { return try complete(folder, as: place) }
      remove(folder)
      if let ending { failure = "initdb \(ending); see \(log)" }
    } catch {
      remove(folder)
      failure = "can't make the cluster \(place): \(error)"
    }
    if let failure { throw LocalStackError(failure) }
  }

  /// initdb has written everything to the disk: the name comes after what it names.
  private func complete(_ folder: String, as place: String) throws(SystemError) {
    try syscall("rename") { rename(folder, place) }
    let parent = Descriptor(owning: try syscall("open") { clinux_open_read("\(place)/..") })
    try syscall("fsync") { fsync(parent.number) }
  }

  private static let unfinished = ".unfinished-"

  /// An empty folder that has no other owner than the cluster.
  private func makeFolder(beside place: String) throws(LocalStackError) -> String {
    var template = Array("\(place)\(Self.unfinished)XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else {
      throw LocalStackError("can't make a folder beside \(place): \(String(cString: strerror(errno)))")
    }
    let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    if let account, chown(folder, account.user, account.group) != 0 {
      let why = String(cString: strerror(errno))
      remove(folder)
      throw LocalStackError("can't give the folder \(folder) away: \(why)")
    }
    return folder
  }

  private func removeUnfinished(beside place: String) {
    let parts = place.parts(by: "/")
    let parent = "/" + parts.dropLast().joined(separator: "/")
    let prefix = "\(parts.last ?? "")\(Self.unfinished)"
    for name in namesInFolder(parent) where name.hasPrefix(prefix) { remove("\(parent)/\(name)") }
  }

  private func remove(_ folder: String) {
    guard let process = try? ChildProcess.start(["rm", "-rf", "--", folder], environment: Self.environment) else {
      return
    }
    _ = ChildProcess.wait(for: process)
  }

  /// Whether there is no cluster. One whose making was cut off while it was made in its place is refused. A server that has been
  /// started there once has left its command line, and then nothing is said that could cost somebody's data.
  package func isToBeMade() throws(LocalStackError) -> Bool {
    func has(_ name: String) -> Bool { access("\(folders.postgres)/\(name)", F_OK) == 0 }
    if namesInFolder(folders.postgres).isEmpty { return true }
    if has("postmaster.opts") { return false }
    guard has("PG_VERSION"), has("global/pg_control") else {
      throw LocalStackError(
        "\(folders.postgres) holds something that is no complete PostgreSQL cluster, perhaps of a start that was cut off: "
          + "remove it (rm -r \(shellWord(folders.postgres))) and start again")
    }
    return false
  }

  /// The server's command line.
  package func serverArguments(maxConnections: Int = 200) throws(LocalStackError) -> [String] {
    let version = readText("\(folders.postgres)/PG_VERSION")?.lines.first.map(String.init)
    guard let postgres = findProgram("postgres", alsoIn: Self.folders(of: version)) else { throw Self.notInstalled }
    return [
      postgres, "-D", folders.postgres, "-k", folders.database, "-p", "5432", "-c", "listen_addresses=",
      "-c", "max_connections=\(maxConnections)",
      // Nobody is let in before a recovery has ended: what comes next writes.
      "-c", "hot_standby=off",
    ]
  }

  package static let environment = ["PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"]

  /// Makes the roles, the database and its schema, once the server answers, or brings them up to date. The connection acts as the
  /// owner.
  package func setUp(say: (String) -> Void) throws(SetupError) -> Connection {
    try DatabaseSetup(database: database, role: user).run(
      as: info(as: Self.superuser), name: "forkloop up", Schema.migrations, say: say)
  }

  private static let notInstalled = LocalStackError("PostgreSQL's server is not installed: apt-get install postgresql")

  /// Debian's folder of a version's programs, or those of all versions, the newest first.
  private static func folders(of version: String?) -> [String] {
    if let version { return ["/usr/lib/postgresql/\(version)/bin"] }
    return (13...30).reversed().map { "/usr/lib/postgresql/\($0)/bin" }
  }
}

/// The file in which a PostgreSQL says which process it is, and in which state (miscadmin.h, LOCK_FILE_LINE_PM_STATUS).
package struct PostmasterFile: Sendable {
  let path: String

  struct Content {
    let process: pid_t
    /// `starting`, `ready`, `standby` or `stopping`; empty before any of them.
    let state: String
  }

  /// The cluster's in `folder`.
  package init(folder: String) { self.init(path: "\(folder)/postmaster.pid") }

  /// The one beside a socket looks the same.
  init(path: String) { self.path = path }

  func read() -> Content? {
    guard let text = readText(path) else { return nil }
    let lines = text.lines
    guard let first = lines.first, let process = pid_t(first), process > 0 else { return nil }
    return Content(process: process, state: lines.count < 8 ? "" : String(lines[7].prefix { $0 != " " }))
  }
}
