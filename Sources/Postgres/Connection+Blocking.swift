// The conversation with the server, waiting inside libpq: for the prefork workers, migrations and commands.

import CPostgres

extension Connection {
  /// Connects and waits for it: without our settings where a pooler refuses them, with `options` told so for the next time.
  package static func connect(to info: ConnectionInfo, _ options: inout Options) throws(PostgresError) -> Connection {
    do throws(PostgresError) {
      return try ConnectionPlan(info, options).connect()
    } catch {
      guard options.sendsSettings, error.isRefusedParameter else { throw error }
      options.sendsSettings = false
      return try ConnectionPlan(info, options).connect()
    }
  }

  package static func connect(to info: ConnectionInfo, _ options: Options) throws(PostgresError) -> Connection {
    var options = options
    return try connect(to: info, &options)
  }

  /// By the name that `Preparations` gives it; by its own where there are none.
  package func prepare(_ statement: Statement, as name: String? = nil) throws(PostgresError) {
    let result = (name ?? statement.preparedName).withCString { PQprepare(handle, $0, statement.sql, 0, nil) }
    _ = try outcome(owning: result).get()
  }

  /// Lets the server forget a prepared statement, if it knows it.
  package func deallocate(_ name: String) { _ = try? execute("deallocate \(quoted(identifier: name))") }

  /// Executes a prepared statement and waits for its rows.
  package func execute(
    _ statement: Statement, as name: String? = nil, _ parameters: Parameters
  ) -> Result<ResultSet, PostgresError> {
    defer { dropNotifications() }
    let result = parameters.withPointers { values in
      (name ?? statement.preparedName).withCString {
        PQexecPrepared(handle, $0, Int32(parameters.count), values, nil, nil, 0)
      }
    }
    return outcome(owning: result)
  }

  /// Executes a statement without preparing it first, and waits for its rows.
  package func executeUnprepared(
    _ statement: Statement, _ parameters: Parameters
  ) -> Result<ResultSet, PostgresError> {
    outcome(
      owning: parameters.withPointers {
        PQexecParams(handle, statement.sql, Int32(parameters.count), nil, $0, nil, nil, 0)
      })
  }

  /// Executes SQL as it is, several statements allowed if there are no parameters.
  @discardableResult
  package func execute(_ sql: String, _ parameters: Parameters = Parameters()) throws(PostgresError) -> ResultSet {
    let result: OpaquePointer? =
      parameters.count == 0
      ? PQexec(handle, sql)
      : parameters.withPointers { PQexecParams(handle, sql, Int32(parameters.count), nil, $0, nil, nil, 0) }
    return try outcome(owning: result).get()
  }

  /// Reads what the server has sent unasked while the connection was idle: its last message, when it is stopped.
  /// Does not wait. Whether the connection is still good.
  package func stillAliveAfterReading() -> Bool {
    defer { dropNotifications() }
    return PQconsumeInput(handle) == 1 && isAlive
  }

  /// `name` as an SQL identifier, quoted.
  package func quoted(identifier name: String) -> String {
    guard let quoted = PQescapeIdentifier(handle, name, name.utf8.count) else { return "" }
    defer { PQfreemem(quoted) }
    return String(cString: quoted)
  }

  /// `text` as an SQL literal, quoted.
  package func quoted(literal text: String) -> String {
    guard let quoted = PQescapeLiteral(handle, text, text.utf8.count) else { return "" }
    defer { PQfreemem(quoted) }
    return String(cString: quoted)
  }
}
