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

  /// Any numbers, but always the same: those who set up wait for each other, on one server while roles and the database are made,
  /// and then in one database.
  private static let serverLock: Int64 = 0x666F_726B_7372_7672
  private static let lock: Int64 = 0x666F_726B_7365_7475

  /// Connects as `administrator`, does it, and tells `say` what has changed. The connection that is returned acts as the owner.
  /// `name` is for pg_stat_activity.
  ///
  /// In the database all is one transaction: what fails, or is interrupted, leaves nothing behind.
  package func run(
    as administrator: ConnectionInfo, name: String, _ migrations: Migrations, say: (String) -> Void
  ) throws(SetupError) -> Connection {
    guard owner != role else {
      throw SetupError("the owner and the application's role can't both be \"\(role)\" (--owner, --role)")
    }
    var info = administrator
    info.keywords["dbname"] = "postgres"
    // Who administers one database only may not get in there. Its lock is held as long as it is connected.
    let server = try? SetupSession(info, name)
    try server?.execute("select pg_advisory_lock(\(Self.serverLock))")
    if let server, try server.isTrue("not exists (select from pg_database where datname = \(server.literal(database)))")
    {
      try server.transaction { changes throws(SetupError) in try makeRoles(server, &changes) }.forEach(say)
      // Of the template that can be copied into any encoding; and the owner's from the beginning, whatever comes next.
      try server.execute(
        """
        create database \(server.name(database)) owner \(server.name(owner)) template template0 encoding 'UTF8'
        """)
      say("made the database \"\(database)\"")
    }
    info.keywords["dbname"] = database
    let session = try SetupSession(info, name)
    try session.transaction { changes throws(SetupError) in
      try session.with { connection throws(PostgresError) in try Migrations.lock(Self.lock, on: connection) }
      try makeRoles(session, &changes)
      let schema = try schema(session)
      try allow(session, schema, isWanted: true)
      let formerly = try takeOver(session, &changes)
      try takeOver(migrations, session, schema, &changes)
      try allow(session, schema, isWanted: false)
      // What the owner had as everybody has gone with that.
      try allow(session, schema, isWanted: true)
      try session.execute("set role \(session.name(owner)); set search_path = \(session.name(schema))")
      try migrate(migrations, session, &changes)
      try grant(formerly, migrations, session, schema)
      try check(migrations, session, schema)
    }.forEach(say)
    _ = consume server
    return session.connection
  }

  private func migrate(
    _ migrations: Migrations, _ session: SetupSession, _ changes: inout [String]
  ) throws(SetupError) {
    do throws(MigrationError) {
      while let step = try migrations.applyNext(inTransactionOf: session.connection) {
        changes.append("applied migration \(step.number): \(step.name)")
      }
    } catch {
      throw SetupError("\(error)")
    }
  }

  // MARK: The roles

  private func makeRoles(_ session: SetupSession, _ changes: inout [String]) throws(SetupError) {
    let (role, roleText) = (session.name(role), session.literal(role))
    guard try session.isTrue("current_user <> \(roleText)") else {
      throw SetupError(
        "\(self.role) is the application's role: connect as an administrator (DB_USER=postgres), or choose another (--role)"
      )
    }
    for (name, password) in [(owner, ownerPassword), (self.role, rolePassword)] {
      let text = session.literal(name)
      if try session.isTrue("not exists (select from pg_roles where rolname = \(text))") {
        try session.execute("create role \(session.name(name)) login")
        changes.append("made the role \"\(name)\"")
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
      changes.append("took from the role \"\(self.role)\": \(powers.joined(separator: ", "))")
    }
    if try session.isTrue("pg_has_role(\(roleText), \(session.literal(owner)), 'member')") {
      try session.execute("revoke \(session.name(owner)) from \(role)")
    }
    try session.join(owner)
    try session.with { connection throws(PostgresError) in
      _ = try SessionSettings.set(
        forRole: self.role, statementTimeout: statementTimeout, inTransactionOf: connection)
    }
  }

  /// Where the tables are: the first schema that there is in the search path of the application's role, which has to be the owner's too.
  /// That of whoever runs this has no say.
  private func schema(_ session: SetupSession) throws(SetupError) -> String {
    let found = (role: try session.schema(of: role), owner: try session.schema(of: owner))
    if let schema = found.role, schema == found.owner { return schema }
    let (who, other) = found.role == nil ? (role, found.owner) : (owner, found.role)
    let wanted = other ?? "public"
    let place = { (schema: String?) in schema.map { "is in the schema \"\($0)\"" } ?? "has no schema" }
    throw SetupError(
      "by its search_path \"\(role)\" \(place(found.role)), and \"\(owner)\" \(place(found.owner)): let both lead to one that "
        + "there is (alter role \(session.name(who)) in database \(session.name(database)) set search_path = "
        + "\(session.name(wanted)))")
  }
}
