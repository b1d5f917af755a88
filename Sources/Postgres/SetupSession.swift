// What a setup asks of its connection.

import CPostgres

/// A connection whose failures are a setup's, and the questions that it answers.
struct SetupSession {
  let connection: Connection

  init(_ info: ConnectionInfo, _ name: String) throws(SetupError) {
    do throws(PostgresError) {
      connection = try Connection.connect(to: info, .init(applicationName: name))
    } catch {
      throw SetupError("\(error)")
    }
  }

  func name(_ identifier: String) -> String { connection.quoted(identifier: identifier) }
  func literal(_ text: String) -> String { connection.quoted(literal: text) }

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

  /// A query for the tables and what is like them, by their kinds in pg_class, that `role` has in a schema. Not those of an
  /// extension, nor what belongs to a column.
  func relations(of role: String, _ schema: String, kinds: String = "rpvmfS") -> String {
    list("pg_class", "rel", "regclass", role, schema) + " and position(relkind in \(literal(kinds))) > 0"
  }

  /// The same for functions and procedures.
  func routines(of role: String, _ schema: String) -> String { list("pg_proc", "pro", "regprocedure", role, schema) }

  private func list(_ catalog: String, _ prefix: String, _ kind: String, _ role: String, _ schema: String) -> String {
    """
    select c.oid::\(kind) from \(catalog) c join pg_roles r on r.oid = \(prefix)owner
      join pg_namespace n on n.oid = \(prefix)namespace
    where rolname = \(literal(role)) and nspname = \(literal(schema))
      and not exists (select from pg_depend where classid = '\(catalog)'::regclass and objid = c.oid and deptype in ('a', 'e', 'i'))
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
