// What sessions of ours need of the server's settings, and where it is said: at the start of a connection, and for the role, which
// holds where a pooler lets nothing be said.

/// The settings of a session.
///
/// Plans are made once, perhaps while the tables are empty, and kept while they grow: our statements have no values that would
/// change them, and a scan of the whole table is never to be among them, not for a foreign key's check either. They are never
/// compiled (JIT costs more than such statements take). An abandoned statement can't hold locks for long.
package enum SessionSettings {
  /// Asks for the session's time limit for a statement, in milliseconds; 0: none. Who decides it may be the user: `options` of a URL,
  /// PGOPTIONS, the role.
  package static let timeLimitQuery =
    "select (extract(epoch from current_setting('statement_timeout')::interval) * 1000)::bigint"

  private static let planning = [("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off"), ("jit", "off")]

  /// The functions that write count on it, so it is no matter of taste: whatever somebody has set for the role or the database, or
  /// says in `options`, this is what a session has.
  private static let isolation = ("default_transaction_isolation", "read committed")

  static func wanted(statementTimeout: Int) -> [(name: String, value: String)] {
    [("statement_timeout", String(statementTimeout))] + planning + [isolation]
  }

  /// SQL that lets the statements behind it in the same transaction take so long at most, and no longer than they might anyway. That
  /// holds behind a pooler, too, whichever session the transaction has there, and leaves nothing behind in it.
  package static func limiting(to milliseconds: Int) -> String {
    """
    select set_config('statement_timeout', least(\(max(1, milliseconds)),
      nullif((extract(epoch from current_setting('statement_timeout')::interval) * 1000)::bigint, 0))::text, true)
    """
  }

  /// As libpq's `options`, around what the user says in them: the last word counts. A space in a value needs a backslash.
  static func startupOptions(statementTimeout: Int, around said: String?) -> String {
    let words = wanted(statementTimeout: statementTimeout).map { name, value in
      "-c \(name)=\(value.replacing(" ", with: #"\ "#))"
    }
    return (words.dropLast() + (said.map { [$0] } ?? []) + words.suffix(1)).joined(separator: " ")
  }

  /// Sets them for a role in the database of the connection, but for those that somebody has set already, for the role or for the
  /// database: these stay as they are, except for the isolation level. Sessions that begin later have them. `role` is nil for the
  /// connection's own, which needs no right for it; where another role has them, that is the application's, and nothing is done.
  /// Returns what was set.
  package static func set(
    forRole role: String? = nil, statementTimeout: Int, on connection: Connection
  ) throws(PostgresError) -> [String] {
    do throws(PostgresError) {
      try connection.execute("begin isolation level read committed")
      let set = try set(forRole: role, statementTimeout: statementTimeout, inTransactionOf: connection)
      try connection.execute("commit")
      return set
    } catch {
      _ = try? connection.execute("rollback")
      throw error
    }
  }

  /// The same in the transaction that the connection is in.
  static func set(
    forRole role: String?, statementTimeout: Int, inTransactionOf connection: Connection
  ) throws(PostgresError) -> [String] {
    var parameters = Parameters()
    parameters.append(role)
    var set: [String] = []
    try Migrations.lock(on: connection)
    for (name, value) in wanted(statementTimeout: statementTimeout) {
      var parameters = parameters
      parameters.append(name)
      parameters.append(value)
      let command = try connection.execute(
        """
        select format('alter role %I in database %I set %I = %L', r.rolname, d.datname, $2::text, $3::text)
        from pg_roles r, pg_database d
        where r.rolname = coalesce($1::text, current_user) and d.datname = current_database() and not exists (
          select from pg_db_role_setting s, unnest(s.setconfig) c
          where case when $2 = '\(isolation.0)' then s.setrole = r.oid and s.setdatabase = d.oid and c = $2 || '=' || $3
              else s.setrole in (0, r.oid) and s.setdatabase in (0, d.oid) and c like $2 || '=%' end
            or $1 is null and s.setrole not in (0, r.oid) and s.setdatabase = d.oid and c like 'plan_cache_mode=%')
        """, parameters)
      guard command.rowCount > 0 else { continue }
      try connection.execute(command.string(0, 0))
      set.append("\(name) = \(value)")
    }
    return set
  }

  /// The limit that the role has where a pooler lets nothing be set, in milliseconds, if it is shorter than what is wanted.
  package static func shorterLimit(
    on connection: Connection, to info: ConnectionInfo, _ options: Connection.Options
  ) throws(PostgresError) -> Int64? {
    guard !options.sendsSettings, !Connection.Options.sayTimeLimit(info) else { return nil }
    let limit = try connection.execute(timeLimitQuery).integer(0, 0)
    return limit > 0 && limit < options.statementTimeout ? limit : nil
  }

  /// What is not as it should be in the session that the connection has: where a pooler has let nothing be said, and the role has
  /// nothing set. What the user says in `options` is meant.
  package static func missing(on connection: Connection, to info: ConnectionInfo) throws(PostgresError) -> [String] {
    let said = info.effective()["options"] ?? ""
    let rows = try connection.execute(
      """
      select name, setting from pg_settings
      where name in ('statement_timeout', \((planning + [isolation]).map { "'\($0.0)'" }.joined(separator: ", "))) order by name
      """)
    let wanted = Dictionary(uniqueKeysWithValues: planning + [isolation])
    return (0..<rows.rowCount).compactMap { row in
      let (name, setting) = (rows.string(row, 0), rows.string(row, 1))
      let isMissing = wanted[name].map { $0 != setting } ?? (setting == "0")
      return isMissing && (name == isolation.0 || !said.contains(name)) ? name : nil
    }
  }
}
