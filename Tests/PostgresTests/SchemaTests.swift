import Testing

@testable import Orders
@testable import Postgres

@Suite("Migrations")
struct MigrationTests {
  private let one = Migration(1, "one", "create table a (id int)")
  private let two = Migration(2, "two", "create table b (id int)")

  @Test("apply once, in order, and record it")
  func once() throws {
    try withDatabase { info in
      let connection = try Connection.connect(to: info, options)
      #expect(try Migrations([two, one]).run(on: connection).map(\.number) == [1, 2])
      #expect(try Migrations([one, two]).run(on: connection).isEmpty)
      #expect(
        try connection.execute("select number, name from schema_migration order by 1").table == [
          ["1", "one"], ["2", "two"],
        ])
    }
  }

  @Test("leave nothing of a step that failed, and can go on from there")
  func failure() throws {
    try withDatabase { info in
      let connection = try Connection.connect(to: info, options)
      let broken = Migration(2, "broken", "create table b (id int); select nonsense")
      #expect(throws: MigrationError.self) { try Migrations([one, broken]).run(on: connection) }
      #expect(try connection.execute("select to_regclass('a')::text, to_regclass('b')::text").table == [["a", nil]])
      #expect(try Migrations([one, two]).run(on: connection).map(\.number) == [2])
    }
  }

  @Test("refuse a database that is newer than the program")
  func newer() throws {
    try withDatabase { info in
      let connection = try Connection.connect(to: info, options)
      _ = try Migrations([one, two]).run(on: connection)
      let error = #expect(throws: MigrationError.self) { try Migrations([one]).run(on: connection) }
      guard case .databaseIsNewer(database: 2, program: 1) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
    }
  }

  @Test("wait for each other when several programs start at once")
  func concurrently() async throws {
    try withDatabase { info in
      let first = try Connection.connect(to: info, options)
      _ = try Schema.migrations.run(on: first)
      #expect(try Schema.migrations.run(on: Connection.connect(to: info, options)).isEmpty)
    }
  }
}

@Suite("Schema")
struct SchemaTests {
  private func withOrders(_ body: (Connection) throws -> Void) throws {
    try withDatabase { info in
      let connection = try Connection.connect(to: info, options)
      _ = try Schema.migrations.run(on: connection)
      try body(connection)
    }
  }

  @Test("takes every statement of the application")
  func statements() throws {
    try withOrders { connection in for statement in Orders.statements { try connection.prepare(statement) } }
  }

  @Test(
    "holds the ranges by itself, whoever writes",
    arguments: [
      ("insert into contact (name, email) values ('', 'a@b')", "23514"),
      ("insert into contact (name, email) values ('a', 'b')", "23514"),
      ("insert into contact (name, email) values ('a', 'a@b@c')", "23514"),
      ("insert into tag (name) values (repeat('x', 256))", "23514"),
      ("insert into tag (name) values ('t'), ('t')", "23505"),
      ("insert into \"order\" (name, contact_id) values ('a', 1)", "23503"),
      ("insert into order_line (order_id, product_id, quantity, price) values (1, 1, 0, 1)", "23514"),
      ("insert into order_line (order_id, product_id, quantity, price) values (1, 1, 1, -1)", "23514"),
      ("insert into order_line (order_id, product_id, quantity, price) values (1, 1, 1, 10000000000)", "22003"),
    ])
  func ranges(_ sql: String, _ state: String) throws {
    try withOrders { connection in
      let error = #expect(throws: PostgresError.self) { try connection.execute(sql) }
      guard case .statement(let fault) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      #expect(fault.state.rawValue == state)
    }
  }

  private let newOrder = "select kind, id from order_insert('a', 1, '{1,2}', '{1,1}', '{1,1}', '{1,2}') order by 1, 2"

  @Test("makes nothing of an order that refers to something missing, and says what is")
  func missing() throws {
    try withOrders { connection in
      try connection.execute("insert into product (name) values ('p')")
      try connection.execute("insert into tag (name) values ('t')")
      #expect(try connection.execute(newOrder).table == [["3", "1"], ["4", "2"], ["5", "2"]])
      try connection.execute("insert into contact (name, email) values ('a', 'a@b')")
      #expect(try connection.execute(newOrder).table == [["4", "2"], ["5", "2"]])
      try connection.execute("insert into product (name) values ('q')")
      #expect(try connection.execute(newOrder).table == [["5", "2"]])
      let made = "select (select count(*) from \"order\"), (select count(*) from order_line)"
      #expect(try connection.execute(made).table == [["0", "0"]])
      try connection.execute("insert into tag (name) values ('u')")
      #expect(try connection.execute(newOrder).table.map(\.first) == ["0", "1", "1", "2", "2"])
      #expect(try connection.execute(made).table == [["1", "2"]])
    }
  }

  @Test("gives an order up that something else than what is looked for keeps from being made")
  func foreign() throws {
    try withOrders { connection in
      try connection.execute(
        """
        insert into contact (name, email) values ('a', 'a@b');
        create table ledger (name text primary key);
        alter table "order" add foreign key (name) references ledger
        """)
      let error = #expect(throws: PostgresError.self) {
        try connection.execute("select * from order_insert('a', 1, '{}', '{}', '{}', '{}')")
      }
      guard case .statement(let fault) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      #expect(fault.state == .foreignKeyViolation)
    }
  }

  @Test("reads an order by its tables, not by a call of a function, and makes one alike by both ways")
  func rows() throws {
    try withOrders { connection in
      let plan = try connection.execute("explain select * from order_rows(1)").table.map { $0[0] ?? "" }
      #expect(plan.contains { $0.contains("order_pkey") } && !plan.contains { $0.contains("Function Scan") }, "\(plan)")
      try connection.execute(
        """
        insert into contact (name, email) values ('a', 'a@b'); insert into product (name) values ('p'), ('q');
        insert into tag (name) values ('t'), ('u')
        """)
      let plain = try connection.execute(newOrder.replacing("order_insert", with: "order_insert_unchecked")).table
      #expect(try connection.execute(newOrder).table.map(\.first) == plain.map(\.first))
    }
  }

  @Test("sets an optional column, keeps it and removes it")
  func optionalColumn() throws {
    try withOrders { connection in
      try connection.execute(
        "create table place (id bigint generated by default as identity primary key, name text not null, city text); "
          + Schema.rowWrites("place", ["name", "city"], optional: ["city"]))
      for (write, row) in [
        ("insert('a', null)", ["a", nil]), ("update(1, null, 'x', null)", ["a", "x"]),
        ("update(1, 'b', null, null)", ["b", "x"]), ("update(1, null, '', null)", ["b", nil]),
        ("update(1, null, '', null)", ["b", nil]), ("update(1, null, '', '{other}')", [nil, nil]),
      ] as [(String, [String?])] {
        #expect(try connection.execute("select name, city from place_\(write)").table == [row], "\(write)")
      }
    }
  }

  @Test("has an index under every reference")
  func indexes() throws {
    try withOrders { connection in
      let missing = try connection.execute(
        """
        select c.conrelid::regclass::text, c.conname from pg_constraint c
        where c.contype = 'f' and not exists (
          select from pg_index i where i.indrelid = c.conrelid and i.indkey[0] = c.conkey[1])
        """)
      #expect(missing.table == [])
    }
  }

  @Test("loads the demo data once")
  func demoData() throws {
    try withOrders { connection in
      #expect(try DemoData.load(on: connection))
      #expect(try !DemoData.load(on: connection))
      let counts = try connection.execute(
        "select (select count(*) from \"order\"), (select count(*) from order_line) > 12, (select count(*) from order_tag_rel) > 0"
      )
      #expect(counts.table == [["12", "t", "t"]])
    }
  }
}
