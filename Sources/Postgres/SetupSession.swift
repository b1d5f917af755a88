// What a setup asks of its connection.

import CPostgres

/// A connection whose failures are a setup's, and the questions that it answers.
struct SetupSession {
  let connection: Connection
  /// The server's search path, for whom nothing is set.
  private let searchPath: String

  init(_ info: ConnectionInfo, _ name: String) throws(SetupError) {
    do throws(PostgresError) {
      connection = try Connection.connect(to: info, .init(applicationName: name))
      let path = try connection.execute(
        """
        select case when source in ('default', 'environment variable', 'configuration file', 'command line') then reset_val else boot_val end
        from pg_catalog.pg_settings where name = 'search_path'
        """)
      searchPath = path.rowCount > 0 ? path.string(0, 0) : ""
      // Nobody's objects come in between. And waiting for another one is no statement gone wrong.
      try connection.execute("set search_path = pg_catalog")
      try connection.execute(
        """
        select set_config(name, '0', false) from pg_settings where name in (
          'statement_timeout', 'lock_timeout', 'transaction_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout')
        """)
    } catch {
      throw SetupError("\(error)")
    }
  }

  /// All of it or nothing. Returns what `body` has changed.
  func transaction(_ body: (inout [String]) throws(SetupError) -> Void) throws(SetupError) -> [String] {
    var changes: [String] = []
    try execute("begin isolation level read committed read write")
    do throws(SetupError) {
      try body(&changes)
    } catch {
      _ = try? connection.execute("rollback")
      throw error
    }
    try execute("commit")
    return changes
  }

  func with(_ body: (Connection) throws(PostgresError) -> Void) throws(SetupError) {
    do throws(PostgresError) { try body(connection) } catch { throw SetupError("\(error)") }
  }

  func name(_ identifier: String) -> String { connection.quoted(identifier: identifier) }
  func literal(_ text: String) -> String { connection.quoted(literal: text) }
  func array(_ texts: [String]) -> String { "array[\(texts.map(literal).joined(separator: ", "))]::text[]" }

  @discardableResult
  func execute(_ sql: String) throws(SetupError) -> ResultSet {
    do throws(PostgresError) {
      return try connection.execute(sql)
    } catch {
      throw SetupError("\(error)")
    }
  }

  func isTrue(_ condition: String) throws(SetupError) -> Bool {
    try text("select (\(condition))::text") == "true"
  }

  /// The first column of every row.
  func texts(_ query: String) throws(SetupError) -> [String] {
    let rows = try execute(query)
    return (0..<rows.rowCount).map { rows.string($0, 0) }
  }

  /// The first of them; empty where there is none.
  func text(_ query: String) throws(SetupError) -> String { try texts(query).first ?? "" }

  /// Sees to it that we can act as `role`; true if we could not before.
  @discardableResult
  func join(_ role: String) throws(SetupError) -> Bool {
    // Since version 16 a member may have the one and not the other.
    let kinds = connection.serverVersion < 160_000 ? ["member", "usage"] : ["set", "usage"]
    let name = literal(role)
    let isMember = kinds.map { "pg_has_role(\(name), '\($0)')" }.joined(separator: " and ")
    if try isTrue(isMember) { return false }
    try execute("grant \(self.name(role)) to current_user")
    return true
  }

  /// What a setting is at the beginning of a role's sessions in this database, where it is set for the role or the database.
  func setting(_ name: String, of role: String) throws(SetupError) -> String? {
    try texts(
      """
      select substr(c, length(\(literal(name))) + 2) from pg_db_role_setting, unnest(setconfig) c
      where setrole in (0, (select oid from pg_roles where rolname = \(literal(role))))
        and setdatabase in (0, (select oid from pg_database where datname = current_database()))
        and split_part(c, '=', 1) = \(literal(name))
      order by setrole <> 0 desc, setdatabase <> 0 desc limit 1
      """
    ).first
  }

  /// The first schema that there is in a role's search path.
  func schema(of role: String) throws(SetupError) -> String? {
    let path = try setting("search_path", of: role) ?? searchPath
    return try texts(
      """
      select nspname from (
          select n, case when m[1] like '"%' then replace(substr(m[1], 2, length(m[1]) - 2), '""', '"') else lower(m[1]) end as name
          from regexp_matches(\(literal(path)), '("(?:[^"]|"")*"|[^",\\s]+)', 'g') with ordinality r (m, n)) p
        join pg_namespace on nspname = case name when '$user' then \(literal(role)) else name end
      order by n limit 1
      """
    ).first
  }

  /// A query for those of some tables, or what is like them, that there are in a schema, with their owners. An extension's is another.
  func tables(_ names: [String], _ schema: String) -> String {
    list("pg_class", "rel", names, schema) + " and relkind in ('r', 'p', 'v', 'm', 'f')"
  }

  /// The same for functions and procedures.
  func routines(_ names: [String], _ schema: String) -> String { list("pg_proc", "pro", names, schema) }

  private func list(_ catalog: String, _ prefix: String, _ names: [String], _ schema: String) -> String {
    """
    select c.oid, \(prefix)name::text as name, rolname::text as owner
    from \(catalog) c join pg_roles r on r.oid = \(prefix)owner join pg_namespace n on n.oid = \(prefix)namespace
    where nspname = \(literal(schema)) and \(prefix)name = any (\(array(names)))
      and not exists (select from pg_depend where classid = '\(catalog)'::regclass and objid = c.oid and deptype = 'e')
    """
  }

  /// What the server keeps of a password, made here.
  func verifier(of password: String, for role: String) throws(SetupError) -> String {
    guard let text = PQencryptPasswordConn(connection.handle, password, role, nil) else {
      throw SetupError("the password of \"\(role)\" can't be used: \(connection.message)")
    }
    defer { PQfreemem(text) }
    return String(cString: text)
  }
}
