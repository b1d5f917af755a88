// A PostgreSQL cluster of the house's own, under its state folder, reached by a Unix socket only.

import Glibc
import Platform
import Postgres

/// The cluster in `var/postgres`.
package struct PrivateCluster: Sendable {
  package let folders: Folders
  package let account: Account?
  package let database: String
  package let user: String

  package static let superuser = "postgres"

  /// The names are those that the settings give, so that `DB_NAME` and `DB_USER` mean here what they mean elsewhere.
  package init(_ folders: Folders, account: Account?, database: String?, user: String?) {
    self.folders = folders
    self.account = account
    self.database = database ?? "forkloop"
    self.user = user ?? "forkloop"
  }

  /// Whether there is one.
  package static func exists(in folders: Folders) -> Bool { access("\(folders.postgres)/PG_VERSION", F_OK) == 0 }

  /// How to connect to it.
  package var info: ConnectionInfo {
    ConnectionInfo(["host": folders.run, "port": "5432", "dbname": database, "user": user])
  }

  /// Makes the cluster if there is none: `initdb`.
  package func initialize() throws(HouseError) {
    guard !Self.exists(in: folders) else { return }
    guard let initdb = findProgram("initdb", alsoIn: Self.folders(of: nil)) else { throw Self.notInstalled }
    let log = "\(folders.log)/initdb.log"
    let arguments = [
      initdb, "-D", folders.postgres, "-U", Self.superuser, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8",
      "--no-instructions",
    ]
    var status: Int32 = 0
    do throws(SystemError) {
      let process = try ChildProcess.start(arguments, environment: Self.environment, as: account, log: log)
      try syscall("waitpid") { waitpid(process, &status, 0) }
    } catch {
      throw HouseError("can't run initdb: \(error)")
    }
    guard status == 0 else { throw HouseError("initdb failed; see \(log)") }
  }

  /// The server's command line.
  package func serverArguments(maxConnections: Int = 200) throws(HouseError) -> [String] {
    let version = readText("\(folders.postgres)/PG_VERSION")?.split(whereSeparator: \.isWhitespace).first.map(
      String.init)
    guard let postgres = findProgram("postgres", alsoIn: Self.folders(of: version)) else { throw Self.notInstalled }
    return [
      postgres, "-D", folders.postgres, "-k", folders.run, "-p", "5432", "-c", "listen_addresses=",
      "-c", "max_connections=\(maxConnections)",
    ]
  }

  package static let environment = ["PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"]

  /// Makes the role and the database, once the server answers.
  package func makeDatabase() throws(PostgresError) {
    var info = info
    info.keywords["dbname"] = "postgres"
    info.keywords["user"] = Self.superuser
    let connection = try Connection.connect(to: info, .init(applicationName: "forkloop up"))
    var name = Parameters()
    name.append(user)
    if try connection.execute("select from pg_roles where rolname = $1", name).rowCount == 0 {
      try connection.execute("create role \(connection.quoted(identifier: user)) login")
    }
    name = Parameters()
    name.append(database)
    if try connection.execute("select from pg_database where datname = $1", name).rowCount == 0 {
      let owner = connection.quoted(identifier: user)
      try connection.execute("create database \(connection.quoted(identifier: database)) owner \(owner)")
    }
  }

  private static let notInstalled = HouseError("PostgreSQL's server is not installed: apt-get install postgresql")

  /// Debian's folder of a version's programs, or those of all versions, the newest first.
  private static func folders(of version: String?) -> [String] {
    if let version { return ["/usr/lib/postgresql/\(version)/bin"] }
    return (13...30).reversed().map { "/usr/lib/postgresql/\($0)/bin" }
  }
}
