// What a setup takes over, grants and takes away in the database, and what it then finds.

extension DatabaseSetup {
  // MARK: What there is already

  /// What belonged to the application's role in this database, whose rows it goes on using.
  struct Former {
    var tables: [String] = []
    var sequences: [String] = []
    var routines: [String] = []
  }

  /// What belongs to the application's role becomes the owner's: in this database, and the database itself.
  func takeOver(_ session: SetupSession, _ changes: inout [String]) throws(SetupError) -> Former {
    let text = session.literal(role)
    var former = Former()
    guard try session.isTrue("exists (\(belongings(session)))") else { return former }
    let others = try session.texts(Self.othersOnTheServer(of: text))
    let own = "relowner = (select oid from pg_roles where rolname = \(text))"
    former.tables = try session.texts(
      "select c.oid::regclass from pg_class c where relkind in ('r', 'p', 'v', 'm', 'f') and \(own)")
    former.sequences = try session.texts("select c.oid::regclass from pg_class c where relkind = 'S' and \(own)")
    former.routines = try session.texts(
      """
      select p.oid::regprocedure from pg_proc p where proowner = (select oid from pg_roles where rolname = \(text))
      """)
    let didJoin = try session.join(role)
    let (roleName, ownerName) = (session.name(role), session.name(owner))
    try session.execute("reassign owned by \(roleName) to \(ownerName)")
    // Which takes what is outside of databases along, other databases for one.
    for kind in ["database", "tablespace"] {
      let name = kind == "database" ? "datname" : "spcname"
      for name in try session.texts(
        """
        select \(name) from pg_\(kind) o where '\(kind) ' || o.oid = any (\(session.array(others)))
        """)
      {
        try session.execute("alter \(kind) \(session.name(name)) owner to \(roleName)")
      }
    }
    guard try session.texts(Self.othersOnTheServer(of: text)) == others else {
      throw SetupError(
        "\"\(role)\" owns something outside of this database that would have another owner, perhaps a subscription: "
          + "give it to somebody else first, or choose another role (--role)")
    }
    if didJoin { try session.execute("revoke \(roleName) from current_user") }
    changes.append("what the role \"\(role)\" owned is \"\(owner)\"'s now")
    return former
  }

  /// A query for what the application's role owns in this database, or of it.
  private func belongings(_ session: SetupSession) -> String {
    let here = "(select oid from pg_database where datname = current_database())"
    return """
      select from pg_shdepend where refclassid = 'pg_authid'::regclass and deptype = 'o'
        and refobjid = (select oid from pg_roles where rolname = \(session.literal(role)))
        and (dbid = \(here) or classid = 'pg_database'::regclass and objid = \(here))
      """
  }

  /// A query for what else it owns that is in no database.
  private static func othersOnTheServer(of role: String) -> String {
    """
    select substr(classid::regclass::text, 4) || ' ' || objid from pg_shdepend
    where refclassid = 'pg_authid'::regclass and deptype = 'o' and dbid = 0
      and refobjid = (select oid from pg_roles where rolname = \(role))
      and not (classid = 'pg_database'::regclass and objid = (select oid from pg_database where datname = current_database()))
    order by 1
    """
  }

  /// So does what the migrations have made, whoever ran them; and nothing else, whosever it is.
  func takeOver(
    _ migrations: Migrations, _ session: SetupSession, _ schema: String, _ changes: inout [String]
  ) throws(SetupError) {
    let tables = session.tables(migrations.tables, schema)
    // Without the list they are of another application.
    guard try session.isTrue("exists (select from (\(tables)) t where name = \(session.literal(Migrations.list)))")
    else { return }
    var formers: [String] = []
    for (kind, type, list) in [
      ("table", "regclass", tables), ("routine", "regprocedure", session.routines(migrations.routines, schema)),
    ] {
      let others = try session.execute(
        "select oid::\(type), owner from (\(list)) o where owner <> \(session.literal(owner)) order by o.oid")
      for row in 0..<others.rowCount {
        try session.execute("alter \(kind) \(others.string(row, 0)) owner to \(session.name(owner))")
        if !formers.contains(others.string(row, 1)) { formers.append(others.string(row, 1)) }
      }
    }
    for former in formers { changes.append("the schema, which was \"\(former)\"'s, is \"\(owner)\"'s now") }
  }

  // MARK: Rights

  /// The owner may create, and nobody else: PostgreSQL lets everybody make temporary tables, and before version 15 others, too.
  func allow(_ session: SetupSession, _ schema: String, isWanted: Bool) throws(SetupError) {
    let everybody = "public"
    for (who, right, isDatabase, isToHave) in [
      (everybody, "temporary", true, false), (everybody, "create", true, false), (everybody, "create", false, false),
      (role, "temporary", true, false), (role, "create", true, false), (role, "create", false, false),
      (owner, "connect", true, true), (owner, "temporary", true, true), (owner, "usage", false, true),
      (owner, "create", false, true),
      (role, "connect", true, true), (role, "usage", false, true),
    ] where isToHave == isWanted {
      let kind = isDatabase ? "database" : "schema"
      let name = isDatabase ? database : schema
      let has = try session.isTrue(
        "has_\(kind)_privilege(\(session.literal(who)), \(session.literal(name)), \(session.literal(right)))")
      guard has != isWanted else { continue }
      let grantee = who == everybody ? who : session.name(who)
      try session.execute(
        "\(isWanted ? "grant" : "revoke") \(right) on \(kind) \(session.name(name)) \(isWanted ? "to" : "from") \(grantee)"
      )
    }
  }

  /// What the routes need; the rows of what has been the role's own, which triggers may use; and the rows of tables that the owner makes
  /// later. Identity columns need no right to their sequences, but other defaults do.
  func grant(
    _ former: Former, _ migrations: Migrations, _ session: SetupSession, _ schema: String
  ) throws(SetupError) {
    let (role, schemaName) = (session.name(role), session.name(schema))
    let rows = "select, insert, update, delete"
    let beyond = Self.beyondRows(session).joined(separator: ", ")
    func list(_ query: String, _ type: String) throws(SetupError) -> [String] {
      try session.texts("select oid::\(type) from (\(query)) o")
    }
    func grant(_ right: String, _ kind: String, _ names: [String]) throws(SetupError) {
      guard !names.isEmpty else { return }
      try session.execute("grant \(right) on \(kind) \(names.joined(separator: ", ")) to \(role)")
    }
    try grant(rows, "table", former.tables)
    try grant("usage", "sequence", former.sequences)
    try grant("execute", "routine", former.routines)
    let tables = try list(session.tables(migrations.tables, schema), "regclass")
    let all = tables.joined(separator: ", ")
    try session.execute(
      """
      revoke all on table \(all) from \(role);
      revoke \(beyond) on table \(all) from public;
      revoke insert, update, delete on table \(schemaName).\(Migrations.list) from public
      """)
    try grant(rows, "table", tables)
    try session.execute("revoke insert, update, delete on table \(schemaName).\(Migrations.list) from \(role)")
    try grant("execute", "routine", list(session.routines(migrations.routines, schema), "regprocedure"))
    try session.execute(
      """
      alter default privileges revoke \(beyond) on tables from \(role), public;
      alter default privileges in schema \(schemaName) revoke \(beyond) on tables from \(role), public;
      alter default privileges in schema \(schemaName) grant \(rows) on tables to \(role);
      alter default privileges in schema \(schemaName) grant usage on sequences to \(role);
      alter default privileges in schema \(schemaName) grant execute on routines to \(role)
      """)
  }

  /// What there is to be granted on a table that is not about reading and writing its rows.
  private static func beyondRows(_ session: SetupSession) -> [String] {
    ["truncate", "trigger", "references"] + (session.connection.serverVersion < 170_000 ? [] : ["maintain"])
  }

  /// Looks at what came of it, as it is for the role: somebody else may have given it more than we know how to take, or may have taken
  /// what it needs.
  func check(_ migrations: Migrations, _ session: SetupSession, _ schema: String) throws(SetupError) {
    let text = session.literal(role)
    let tables = "(\(session.tables(migrations.tables, schema))) t"
    let routines = "(\(session.routines(migrations.routines, schema))) r"
    let list = session.literal(Migrations.list)
    let writes = "unnest(array['insert', 'update', 'delete']) p"
    func has(_ right: String) -> String { "has_table_privilege(\(text), t.oid, \(right))" }
    func hasColumn(_ right: String) -> String { "has_any_column_privilege(\(text), t.oid, \(right))" }
    let tooMuch = try session.texts(
      """
      select 'it is a member of ' || roleid::regrole from pg_auth_members where member = (select oid from pg_roles where rolname = \(text))
      union all
      select 'it may create in the schema ' || nspname from pg_namespace
        where has_schema_privilege(\(text), oid, 'create') and nspname !~ '^pg_'
      union all
      select 'it may create in the database' where has_database_privilege(\(text), current_database(), 'create, temporary')
      union all
      select 'it owns something' where exists (\(belongings(session)))
      union all
      select format('it may use %s on the table %s', p, name) from \(tables), unnest(\(session.array(Self.beyondRows(session)))) p
        where case p when 'references' then \(hasColumn("p")) else \(has("p")) end
      union all
      select format('it may %s rows of the table %s', p, name) from \(tables), \(writes)
        where name = \(list) and case p when 'delete' then \(has("p")) else \(hasColumn("p")) end
      """)
    guard tooMuch.isEmpty else {
      throw SetupError(
        "the role \"\(role)\" can do more than an application should: \(tooMuch.joined(separator: ", ")); "
          + "take that from it, or choose another (--role)")
    }
    let readOnly = try session.setting("default_transaction_read_only", of: role) ?? "off"
    let tooLittle = try session.texts(
      """
      select 'it may have no connections (alter role … connection limit -1)' from pg_roles where rolname = \(text) and rolconnlimit = 0
      union all
      select 'nobody can log in as it any more (alter role … valid until ''infinity'')' from pg_roles
        where rolname = \(text) and rolvaliduntil <= now()
      union all
      select 'the database takes no connections (alter database … allow_connections true connection limit -1)' from pg_database
        where datname = current_database() and (datconnlimit = 0 or not datallowconn)
      union all
      select 'its transactions are read-only (default_transaction_read_only)'
        where \(session.literal(readOnly)) in ('on', 'true', 'yes', '1')
      union all
      select 'it can''t ' || p || ' the database' from unnest(array['connect']) p
        where not has_database_privilege(\(text), current_database(), p)
      union all
      select 'it can''t use the schema ' || nspname from pg_namespace
        where nspname = \(session.literal(schema)) and not has_schema_privilege(\(text), oid, 'usage')
      union all
      select format('it can''t %s rows of the table %s', p, name) from \(tables), unnest(array['select', 'insert', 'update', 'delete']) p
        where (name <> \(list) or p = 'select') and not \(has("p"))
      union all
      select 'it can''t call the function ' || name from \(routines) where not has_function_privilege(\(text), r.oid, 'execute')
      """)
    guard tooLittle.isEmpty else {
      throw SetupError("the role \"\(role)\" can't do what the responders need: \(tooLittle.joined(separator: ", "))")
    }
  }
}
