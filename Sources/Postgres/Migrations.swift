// Brings a database's schema up to the program's, one numbered step at a time.

/// A step of the schema.
package struct Migration: Sendable {
  package let number: Int
  package let name: String
  package let sql: String

  package init(_ number: Int, _ name: String, _ sql: String) {
    self.number = number
    self.name = name
    self.sql = sql
  }
}

package enum MigrationError: Error, CustomStringConvertible {
  case database(PostgresError)
  case failed(Migration, PostgresError)
  /// The database is at a step that this program does not know.
  case databaseIsNewer(database: Int, program: Int)

  package var description: String {
    switch self {
    case .database(let error): "\(error)\(Self.hint(error))"
    case .failed(let migration, let error):
      "migration \(migration.number) (\(migration.name)) failed: \(error)\(Self.hint(error))"
    case .databaseIsNewer(let database, let program):
      "the database is at migration \(database), this program knows \(program): use a newer program"
    }
  }
}

extension MigrationError {
  fileprivate static func hint(_ error: PostgresError) -> String {
    guard case .statement(let fault) = error, fault.state == .insufficientPrivilege else { return "" }
    return " (migrate as the owner of the tables, or run 'forkloop setup')"
  }
}

/// Migrations in the order of their numbers.
package struct Migrations: Sendable {
  package let steps: [Migration]
  /// The names of the tables and the functions that they make: what belongs to the application, and nothing else does.
  package let tables: [String]
  package let routines: [String]

  package init(_ steps: [Migration], tables: [String] = [], routines: [String] = []) {
    self.steps = steps.sorted { $0.number < $1.number }
    self.tables = tables + [Self.list]
    self.routines = routines
  }

  /// The table that says which steps have been applied.
  static let list = "schema_migration"

  /// Any number, but always the same: two programs that migrate one database wait for each other.
  private static let lock: Int64 = 0x666F_726B_6C6F_6F70

  /// Until the end of the transaction: a pooler may give the next one another session.
  static func lock(_ key: Int64 = lock, on connection: Connection) throws(PostgresError) {
    // Waiting for another program's migration, or building an index, is no statement gone wrong.
    try connection.execute("set local statement_timeout = 0")
    // How long a table is waited for stays as it is.
    try connection.execute("set local lock_timeout = 0")
    try connection.execute("select pg_advisory_xact_lock(\(key))")
    try connection.execute("set local lock_timeout to default")
  }

  /// Applies what is missing, each step in a transaction of its own, and returns what it applied.
  package func run(on connection: Connection) throws(MigrationError) -> [Migration] {
    var applied: [Migration] = []
    while let step = try applyNext(on: connection) { applied.append(step) }
    return applied
  }

  /// Applies the next step; nil if there is none.
  private func applyNext(on connection: Connection) throws(MigrationError) -> Migration? {
    do throws(MigrationError) {
      try Self.execute("begin isolation level read committed", on: connection)
      let step = try applyNext(inTransactionOf: connection)
      try Self.execute("commit", for: step, on: connection)
      return step
    } catch {
      _ = try? connection.execute("rollback")
      throw error
    }
  }

  private static func execute(
    _ sql: String, for step: Migration? = nil, on connection: Connection
  ) throws(MigrationError) {
    do throws(PostgresError) { try connection.execute(sql) } catch {
      if let step { throw .failed(step, error) }
      throw .database(error)
    }
  }

  /// The same in the transaction that the connection is in.
  func applyNext(inTransactionOf connection: Connection) throws(MigrationError) -> Migration? {
    let current: Int
    do throws(PostgresError) {
      try Self.lock(on: connection)
      current = try Self.current(on: connection)
    } catch {
      throw .database(error)
    }
    if let newest = steps.last, current > newest.number {
      throw .databaseIsNewer(database: current, program: newest.number)
    }
    guard let step = steps.first(where: { $0.number > current }) else { return nil }
    do throws(PostgresError) {
      try connection.execute(step.sql)
      var record = Parameters()
      record.append(Int64(step.number))
      record.append(step.name)
      try connection.execute("insert into schema_migration (number, name) values ($1, $2)", record)
    } catch {
      throw .failed(step, error)
    }
    return step
  }

  /// Which step the database is at. Makes the table that says so, if there is none.
  private static func current(on connection: Connection) throws(PostgresError) -> Int {
    if try connection.execute("select to_regclass('schema_migration')").isNull(0, 0) {
      try connection.execute(
        """
        create table schema_migration (
          number integer primary key, name text not null, applied_at timestamptz not null default now())
        """)
    }
    return Int(try connection.execute("select coalesce(max(number), 0) from schema_migration").integer(0, 0))
  }

  /// What a database at step `current` is to this program; 0: at none.
  package func state(at current: Int64) -> SchemaState {
    let newest = Int64(steps.last?.number ?? 0)
    if current == newest { return .ok }
    return current <= 0 ? .missing : current < newest ? .older : .newer
  }
}

/// How a database's schema fits the program.
package enum SchemaState: String, Sendable, CaseIterable {
  case ok, missing, older, newer
  /// The database does not tell.
  case unknown
}
