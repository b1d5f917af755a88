// A small believable set of data, for a first look.

import Postgres

package enum DemoData {
  /// Where it may go.
  package enum Place: Sendable {
    /// Nothing is in any table now.
    case empty
    /// Nothing has ever been: no id has been given out. What somebody has deleted does not come back by itself.
    case new
  }

  /// Fills the database if it is what `place` says; else false, and nothing is written.
  package static func load(on connection: Connection, if place: Place = .empty) throws(PostgresError) -> Bool {
    guard try isFit(connection, place) else { return false }
    let rows = try connection.execute(
      """
      with empty as (select where not exists (select from contact) and not exists (select from "order")
        and not exists (select from product) and not exists (select from tag)),
      c as (
        insert into contact (name, email)
        select name, email from empty, (values
          ('Ann Okafor', 'ann@example.org'), ('Bruno Costa', 'bruno@example.org'), ('Chen Wei', 'chen@example.com'),
          ('Dilara Aydın', 'dilara@example.net'), ('Émile Laurent', 'emile@example.org')) v (name, email)
        returning id),
      p as (
        insert into product (name)
        select name from empty, (values
          ('Fountain pen'), ('Notebook, dotted'), ('Desk lamp'), ('Green tea, 100 g'), ('Coffee beans, 1 kg'),
          ('Keyboard'), ('USB-C cable, 2 m'), ('Office chair')) v (name)
        returning id),
      t as (
        insert into tag (name) select name from empty, (values ('shopping'), ('food'), ('IT'), ('urgent')) v (name)
        returning id),
      contacts as (select id, row_number() over (order by id) - 1 as n from c),
      products as (select id, row_number() over (order by id) - 1 as n from p),
      tags as (select id, row_number() over (order by id) - 1 as n from t),
      o as (
        insert into "order" (name, contact_id)
        select 'SO' || lpad(i::text, 3, '0'), contacts.id
        from generate_series(1, 12) i join contacts on contacts.n = i % 5 order by i
        returning id),
      orders as (select id, row_number() over (order by id) as n from o),
      l as (
        insert into order_line (order_id, product_id, quantity, price)
        select orders.id, products.id, 1 + (orders.n + line) % 4, 0.25 + (products.n * 3.45)::numeric(14,4)
        from orders cross join lateral generate_series(1, 1 + orders.n % 3) line
        join products on products.n = (orders.n * 3 + line) % 8 order by orders.id, line
        returning 1),
      r as (
        insert into order_tag_rel (order_id, tag_id)
        select orders.id, tags.id from orders join tags on tags.n in (orders.n % 4, (orders.n + 1) % 4)
        where orders.n % 5 > 0
        returning 1)
      select (select count(*) from orders), (select count(*) from l), (select count(*) from r)
      """)
    return rows.integer(0, 0) > 0
  }

  /// A statement of its own, so that nothing is to be written where nothing is to be done: to a standby, for one.
  private static func isFit(_ connection: Connection, _ place: Place) throws(PostgresError) -> Bool {
    let rows = try connection.execute(
      """
      select (not exists (select from contact) and not exists (select from "order")
          and not exists (select from product) and not exists (select from tag))::int,
        (not exists (select from pg_sequences where last_value is not null
          and format('%I.%I', schemaname, sequencename) in (
            pg_get_serial_sequence('contact', 'id'), pg_get_serial_sequence('product', 'id'),
            pg_get_serial_sequence('tag', 'id'), pg_get_serial_sequence('"order"', 'id'))))::int
      """)
    return rows.integer(0, 0) == 1 && (place == .empty || rows.integer(0, 1) == 1)
  }
}
