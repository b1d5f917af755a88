// Makes a database ready for a program: who owns it, who uses it, and what each may do.

/// Why a database could not be made ready; the text says what to do.
package struct SetupError: Error, CustomStringConvertible {
  package let description: String
  package init(_ description: String) { self.description = description }
}

/// Two roles on one database: the owner of all that is in it, and the application's, which reads and writes rows and nothing else.
/// Whoever takes the application over can't create, change or drop anything, nor become anybody else.
///
/// Running it twice changes nothing. A schema that somebody else has made, the application's role itself perhaps, is taken over.
package struct DatabaseSetup: Sendable {
  package var database: String
  package var owner: String
  package var role: String
  /// nil: a password stays as it is, and a new role has none.
  package var ownerPassword: String?
  package var rolePassword: String?
  /// Of the application's sessions, in milliseconds: see `SessionSettings`.
  package var statementTimeout = Connection.Options.defaultStatementTimeout

  package init(database: String = Self.database, owner: String = Self.owner, role: String = Self.role) {
    self.database = database
    self.owner = owner
    self.role = role
  }

  package static let database = "forkloop"
  package static let owner = "forkloop_owner"
  package static let role = "forkloop"

  /// Any number, but always the same: two that set one database up wait for each other.
  private static let lock: Int64 = 0x666F_726B_7365_7475

  /// Connects as `administrator`, does it, and tells `say` what has changed. The connection that is returned acts as the owner.
  /// `name` is for pg_stat_activity.
  package func run(
    as administrator: ConnectionInfo, name: String, _ migrations: Migrations, say: (String) -> Void
  ) throws(SetupError) -> Connection {
    guard owner != role else {
      throw SetupError("the owner and the application's role can't both be \"\(role)\" (--owner, --role)")
    }
    let (session, isNew) = try connect(administrator, name, say)
    // Waiting for another one is no statement gone wrong.
    try session.execute("set statement_timeout = 0; select pg_advisory_lock(\(Self.lock))")
    let schema = try session.text("select current_schema()")
    guard !schema.isEmpty else { throw SetupError("the database has no schema to make tables in (search_path)") }
    try makeRoles(session, say)
    if isNew { try session.execute("alter database \(session.name(database)) owner to \(session.name(owner))") }
    try allow(session, schema, isWanted: true)
    try takeOver(session, say)
    try takeOverTables(session, schema, say)
    try allow(session, schema, isWanted: false)
    // What the owner had as everybody has gone with that.
    try allow(session, schema, isWanted: true)
    try session.execute("set role \(session.name(owner))")
    do throws(MigrationError) {
      for migration in try migrations.run(on: session.connection) {
        say("applied migration \(migration.number): \(migration.name)")
      }
    } catch {
      throw SetupError("\(error)")
    }
    try grant(session, schema)
    try check(session)
    try session.execute("select pg_advisory_unlock(\(Self.lock))")
    return session.connection
  }

  // MARK: The database and its roles

  private func connect(
    _ administrator: ConnectionInfo, _ name: String, _ say: (String) -> Void
  ) throws(SetupError) -> (SetupSession, isNew: Bool) {
    var info = administrator
    info.keywords["dbname"] = database
    let failure: SetupError
    do throws(SetupError) { return (try SetupSession(info, name), false) } catch { failure = error }
    // Perhaps there is none: another one tells.
    info.keywords["dbname"] = "postgres"
    guard let other = try? SetupSession(info, name),
      try other.isTrue("not exists (select from pg_database where datname = \(other.literal(database)))")
    else { throw failure }
    // The template that can be copied into any encoding.
    try other.execute("create database \(other.name(database)) template template0 encoding 'UTF8'")
    say("made the database \"\(database)\"")
    info.keywords["dbname"] = database
    return (try SetupSession(info, name), true)
  }

  private func makeRoles(_ session: SetupSession, _ say: (String) -> Void) throws(SetupError) {
    let (role, roleText) = (session.name(role), session.literal(role))
    guard try session.isTrue("current_user <> \(roleText)") else {
      throw SetupError(
        "\(role) is the application's role: connect as somebody who may make roles, or choose another (--role)")
    }
    for (name, password) in [(owner, ownerPassword), (self.role, rolePassword)] {
      let text = session.literal(name)
      if try session.isTrue("not exists (select from pg_roles where rolname = \(text))") {
        try session.execute("create role \(session.name(name)) login")
        say("made the role \"\(name)\"")
      } else if try session.isTrue("(select not rolcanlogin from pg_roles where rolname = \(text))") {
        try session.execute("alter role \(session.name(name)) login")
      }
      if let password {
        // The server gets, and logs, nothing to log in with.
        let verifier = try session.verifier(of: password, for: name)
        try session.execute("alter role \(session.name(name)) password \(session.literal(verifier))")
      }
    }
    guard try session.isTrue("(select oid <> 10 from pg_roles where rolname = \(roleText))") else {
      throw SetupError("\(role) is the server's first superuser, and has to stay one: choose another role (--role)")
    }
    let powers = try session.texts(
      """
      select power from pg_roles, lateral (values ('superuser', rolsuper), ('createdb', rolcreatedb),
        ('createrole', rolcreaterole), ('replication', rolreplication), ('bypassrls', rolbypassrls)) v (power, has)
      where rolname = \(roleText) and has
      """)
    if !powers.isEmpty {
      try session.execute("alter role \(role) \(powers.map { "no\($0)" }.joined(separator: " "))")
      say("took from the role \"\(self.role)\": \(powers.joined(separator: ", "))")
    }
    if try session.isTrue("pg_has_role(\(roleText), \(session.literal(owner)), 'member')") {
      try session.execute("revoke \(session.name(owner)) from \(role)")
    }
    try session.join(owner)
    do throws(PostgresError) {
      _ = try SessionSettings.set(forRole: self.role, statementTimeout: statementTimeout, on: session.connection)
    } catch {
      throw SetupError("\(error)")
    }
  }

  // MARK: What there is already

  /// What belongs to the application's role becomes the owner's, the database included.
  private func takeOver(_ session: SetupSession, _ say: (String) -> Void) throws(SetupError) {
    guard try session.isTrue("exists (\(Self.belongings(of: session.literal(role))))") else { return }
    let didJoin = try session.join(role)
    try session.execute("reassign owned by \(session.name(role)) to \(session.name(owner))")
    if didJoin { try session.execute("revoke \(session.name(role)) from current_user") }
    say("what the role \"\(role)\" owned is \"\(owner)\"'s now")
  }

  private static func belongings(of role: String) -> String {
    """
    select from pg_shdepend where refclassid = 'pg_authid'::regclass and deptype = 'o'
      and refobjid = (select oid from pg_roles where rolname = \(role))
      and dbid in (0, (select oid from pg_database where datname = current_database()))
    """
  }

  /// So does a schema that somebody else has migrated: all that the owner of the list of migrations has beside it.
  private func takeOverTables(
    _ session: SetupSession, _ schema: String, _ say: (String) -> Void
  ) throws(SetupError) {
    let former = try session.text(
      """
      select rolname from pg_class join pg_roles r on r.oid = relowner
      where relnamespace = (select oid from pg_namespace where nspname = \(session.literal(schema))) and relname = 'schema_migration'
      """)
    guard !former.isEmpty, former != owner else { return }
    for (kind, list) in [
      ("table", session.relations(of: former, schema)), ("routine", session.routines(of: former, schema)),
    ] {
      for name in try session.texts(list) {
        try session.execute("alter \(kind) \(name) owner to \(session.name(owner))")
      }
    }
    say("the schema, which was \"\(former)\"'s, is \"\(owner)\"'s now")
  }

  // MARK: Rights

  /// The owner may create, and nobody else: PostgreSQL lets everybody make temporary tables, and before version 15 others, too.
  private func allow(_ session: SetupSession, _ schema: String, isWanted: Bool) throws(SetupError) {
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

  /// What the routes need, of all tables that there are and of those to come. Identity columns need no right to their sequences, but
  /// other defaults do.
  private func grant(_ session: SetupSession, _ schema: String) throws(SetupError) {
    let (role, schemaName) = (session.name(role), session.name(schema))
    let tables = try session.texts(session.relations(of: owner, schema, kinds: "rpvmf")).joined(separator: ", ")
    let routines = try session.texts(session.routines(of: owner, schema)).joined(separator: ", ")
    let rows = "select, insert, update, delete"
    try session.execute(
      """
      begin;
      revoke all on table \(tables) from \(role);
      grant \(rows) on table \(tables) to \(role);
      revoke insert, update, delete on table \(schemaName).schema_migration from \(role);
      \(routines.isEmpty ? "" : "grant execute on routine \(routines) to \(role);")
      alter default privileges in schema \(schemaName) grant \(rows) on tables to \(role);
      alter default privileges in schema \(schemaName) grant usage on sequences to \(role);
      alter default privileges in schema \(schemaName) grant execute on routines to \(role);
      commit
      """)
  }

  /// Looks at what came of it: somebody else may have given the role more than we know how to take.
  private func check(_ session: SetupSession) throws(SetupError) {
    let text = session.literal(role)
    let left = try session.texts(
      """
      select 'it is a member of ' || roleid::regrole from pg_auth_members where member = (select oid from pg_roles where rolname = \(text))
      union all
      select 'it may create in the schema ' || nspname from pg_namespace
        where has_schema_privilege(\(text), oid, 'create') and nspname !~ '^pg_'
      union all
      select 'it may create in the database' where has_database_privilege(\(text), current_database(), 'create, temporary')
      union all
      select 'it owns something' where exists (\(Self.belongings(of: text)))
      """)
    guard left.isEmpty else {
      throw SetupError(
        "the role \"\(role)\" can do more than an application should: \(left.joined(separator: ", ")); "
          + "take that from it, or choose another (--role)")
    }
  }
}
