// What the lists' statements read on a large database, as EXPLAIN ANALYZE tells.

import Orders
import Testing

@testable import Postgres

@Suite("Every list of a million orders")
struct PlanTests {
  /// Orders 1 to 1,000,000, of 20,000 contacts in turn, with two lines each of 1,000 products, and half of them with one of
  /// 100 tags.
  private let data = """
    set session_replication_role = replica;
    insert into contact (name, email) select 'c' || i, 'c@example.org' from generate_series(1, 20000) i;
    insert into product (name) select 'p' || i from generate_series(1, 1000) i;
    insert into tag (name) select 't' || i from generate_series(1, 100) i;
    insert into "order" (name, contact_id) select 'o', 1 + i % 20000 from generate_series(1, 1000000) i;
    insert into order_line (order_id, product_id, quantity, price)
      select o, 1 + (o + l * 7) % 1000, 1, 1 from generate_series(1, 1000000) o, generate_series(0, 1) l;
    insert into order_tag_rel (order_id, tag_id) select o, 1 + o / 2 % 100 from generate_series(2, 1000000, 2) o;
    analyze;
    set session_replication_role = default;
    """

  /// Statement, and the values that follow `after` and `limit + 1`.
  private static let lists: [(name: String, values: String)] = [
    ("contact_list", ""), ("product_list", ""), ("tag_list", ""), ("order_list", ""),
    ("order_list_by_contact", ", 5"), ("order_list_by_product", ", 7"), ("order_list_by_tag", ", 't9'"),
    ("order_list_by_contact_product", ", 5, 5"), ("order_list_by_contact_tag", ", 5, 't3'"),
    ("order_list_by_product_tag", ", 17, 't9'"), ("order_list_by_contact_product_tag", ", 5, 5, 't3'"),
  ]

  @Test("is read by index, and no more of it than the page needs, at its beginning and near its end")
  func plans() throws {
    try withDatabase { info in
      let connection = try Connection.connect(
        to: info, .init(applicationName: "tests", statementTimeout: 600_000))
      _ = try Schema.migrations.run(on: connection)
      try connection.execute(data)
      let statements = Orders.statements.filter { $0.name.contains("_list") }
      #expect(statements.map(\.name).sorted() == Self.lists.map(\.name).sorted())
      for (name, values) in Self.lists {
        let statement = try #require(statements.first { $0.name == name })
        try connection.execute("prepare \(name) as \(statement.sql)")
        for after in [0, 900_000] {
          let plan = try connection.execute(
            "explain (analyze, buffers, timing off, costs off) execute \(name) (\(after), 21\(values))"
          ).table.compactMap(\.[0])
          #expect(
            !plan.contains { $0.contains("Seq Scan on") }, "\(name) after \(after):\n\(plan.joined(separator: "\n"))")
          // Several filters walk the orders of the sparsest of them; by itself a page of 20 orders has 100 rows, each found in
          // four blocks or so.
          let most = name.hasPrefix("order_list_by_") && values.split(separator: ",").count > 1 ? 20_000 : 800
          #expect(blocks(plan) < most, "\(name) after \(after):\n\(plan.joined(separator: "\n"))")
        }
      }
    }
  }

  /// The blocks that the whole plan has read, from its first `Buffers: shared hit=… read=…`.
  private func blocks(_ plan: [String]) -> Int {
    guard let line = plan.first(where: { $0.contains("Buffers:") }) else { return .max }
    return line.split(separator: " ").reduce(0) { sum, word in
      let parts = word.split(separator: "=")
      return sum + (parts.count == 2 && ["hit", "read"].contains(parts[0]) ? Int(parts[1]) ?? 0 : 0)
    }
  }
}
