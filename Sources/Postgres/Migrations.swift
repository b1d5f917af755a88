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

  /// Applies what is missing, each step in a transaction of its own, and returns what it applied.
  package func run(on connection: Connection) throws(MigrationError) -> [Migration] {
    do throws(PostgresError) {
      // Waiting for another program's migration, or building an index, is no statement gone wrong.
      try connection.execute("set statement_timeout = 0")
      try connection.execute("select pg_advisory_lock(\(Self.lock))")
      // Who may not create, but has nothing to apply either, is not to be stopped by this.
      if try connection.execute("select to_regclass('schema_migration')").isNull(0, 0) {
        try connection.execute(
          """
          create table schema_migration (
            number integer primary key, name text not null, applied_at timestamptz not null default now())
          """)
      }
    } catch {
      throw .database(error)
    }
    defer { _ = try? connection.execute("select pg_advisory_unlock(\(Self.lock))") }
    let current = try Self.current(of: connection)
    if let newest = steps.last, current > newest.number {
      throw .databaseIsNewer(database: current, program: newest.number)
    }
    let missing = steps.filter { $0.number > current }
    for step in missing {
      var record = Parameters()
      record.append(Int64(step.number))
      record.append(step.name)
      do throws(PostgresError) {
        try connection.execute("begin")
        try connection.execute(step.sql)
        try connection.execute("insert into schema_migration (number, name) values ($1, $2)", record)
        try connection.execute("commit")
      } catch {
        _ = try? connection.execute("rollback")
        throw .failed(step, error)
      }
    }
    return missing
  }

  private static func current(of connection: Connection) throws(MigrationError) -> Int {
    do throws(PostgresError) {
      return Int(try connection.execute("select coalesce(max(number), 0) from schema_migration").integer(0, 0))
    } catch {
      throw .database(error)
    }
  }
}
