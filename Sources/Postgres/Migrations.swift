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

  package init(_ steps: [Migration]) { self.steps = steps.sorted { $0.number < $1.number } }

  /// Any number, but always the same: two programs that migrate one database wait for each other.
  private static let lock: Int64 = 0x666F_726B_6C6F_6F70

  /// Until the end of the transaction: a pooler may give the next one another session.
  static func lock(on connection: Connection) throws(PostgresError) {
    // Waiting for another program's migration, or building an index, is no statement gone wrong.
    try connection.execute("set local statement_timeout = 0")
    try connection.execute("select pg_advisory_xact_lock(\(lock))")
  }

  /// Applies what is missing, each step in a transaction of its own, and returns what it applied.
  package func run(on connection: Connection) throws(MigrationError) -> [Migration] {
    var applied: [Migration] = []
    while let step = try applyNext(on: connection) { applied.append(step) }
    return applied
  }

  /// Applies the next step; nil if there is none.
  private func applyNext(on connection: Connection) throws(MigrationError) -> Migration? {
    var step: Migration?
    var refusal: MigrationError?
    do throws(PostgresError) {
      try connection.execute("begin isolation level read committed")
      try Self.lock(on: connection)
      let current = try Self.current(on: connection)
      if let newest = steps.last, current > newest.number {
        refusal = .databaseIsNewer(database: current, program: newest.number)
      }
      step = steps.first { $0.number > current }
      if let step {
        try connection.execute(step.sql)
        var record = Parameters()
        record.append(Int64(step.number))
        record.append(step.name)
        try connection.execute("insert into schema_migration (number, name) values ($1, $2)", record)
      }
      try connection.execute("commit")
    } catch {
      _ = try? connection.execute("rollback")
      if let step { throw .failed(step, error) }
      throw .database(error)
    }
    if let refusal { throw refusal }
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
