// An order's statements. Each reads orders, lines and tags in one snapshot, or writes them in one transaction.
//
// Their rows are of several kinds, told apart by the second column and in no promised order:
//
//   id        kind       position  text  a           b         c      tag
//   order     0 order    0         name  contact_id                   of the order's row
//   order     1 line     line id         product_id  quantity  price  of the line's
//   order     2 tag      tag id    name                               of the tag's and the link's
//   missing   3 contact, 4 product, 5 tag that a write refers to and that does not exist
//   order     6 the order does not meet the condition that it is written under
//   0         7 name     tag id    name
//
// Lists give the name of each tag once, in a row of kind 7, and none with the links: orders share their tags, and a join
// looks the same name up for each of them, which costs a fifth of the whole. Sorting is left to the reader of the rows: in
// SQL it costs a quarter. The column `tag` is the row's version, for entity tags; lists, whose tag is their body's, do not have
// it.
//
// A page ends where its lines come to `Order.mostLines`, or its links to `Order.mostLinks`. Of both the database reads one more,
// in the order of their orders, and what else the order has that this one belongs to. So the first order is always whole, and where
// it is another one the reader of the rows knows which does not fit. Summing up in SQL costs a page of 20 small orders a seventh
// more.

import Postgres

enum Order {
  private static let columns =
    "id, 0 as kind, 0::bigint as position, name::text, contact_id as a, null::int as b, null::numeric as c"

  /// How many lines the orders of a page have together at most, and how many links to tags, unless it has one order only.
  static let mostLines = 20_000
  static let mostLinks = 10_000
  /// A page also ends with the order that brings its JSON to so many bytes: a tag's name may have 1,530.
  static let longestPage = 2 << 20

  /// Ends the reading of lines or links with the order of the first that does not fit.
  private static func end(by order: String, atMost most: Int) -> String {
    "order by \(order) fetch first \(most + 1) rows with ties"
  }

  /// What lists can be narrowed to; the values follow $2 in this order.
  struct Filters: OptionSet, Hashable, Sendable {
    let rawValue: Int
    static let contact = Filters(rawValue: 1)
    static let product = Filters(rawValue: 2)
    static let tag = Filters(rawValue: 4)
  }

  /// The list for a set of filters: $1 after, $2 limit + 1.
  static func list(_ filters: Filters) -> Statement { lists[filters.rawValue] }

  static let lists = (0..<8).map { $0 == 0 ? list : filteredList(Filters(rawValue: $0)) }

  /// The row beyond the limit only tells that there is more: its lines and tags are not read.
  private static let list = Statement(
    "order_list", readOnly: true,
    """
    with page as materialized (select id, name, contact_id from "order" where id > $1 order by id limit $2),
    ends as (
      select (select id from page limit 1) as first,
        coalesce((select id from page offset $2::bigint - 2 limit 1), 9223372036854775807) as last),
    links as (
      select order_id, tag_id from order_tag_rel
      where order_id >= (select first from ends) and order_id <= (select last from ends)
      \(end(by: "order_id", atMost: mostLinks)))
    select \(columns) from page
    union all
    (select order_id, 1, id, null, product_id, whole_number(quantity), price::numeric from order_line
      where order_id >= (select first from ends) and order_id <= (select last from ends)
      \(end(by: "order_id", atMost: mostLines)))
    union all
    select order_id, 2, tag_id, null, null, null, null from links
    union all
    select 0, 7, id, name::text, null, null, null from tag where id = any (array(select tag_id from links))
    """)

  /// Walks the index of the filter from $1 on and stops at $2. Which of several to walk a function of the schema finds out as
  /// it goes. `offset 0` keeps the planner, which does not know how few orders that will be, from reading whole tables instead.
  private static func filteredList(_ filters: Filters) -> Statement {
    var next = 3
    func value(_ filter: Filters) -> String? {
      guard filters.contains(filter) else { return nil }
      defer { next += 1 }
      return "$\(next)"
    }
    let (contact, product, tag) = (value(.contact), value(.product), value(.tag))
    let found =
      switch (contact, product, tag) {
      case (let contact?, nil, nil):
        "select id from \"order\" where contact_id = \(contact) and id > $1 order by id limit $2"
      case (nil, let product?, nil):
        "select distinct order_id as id from order_line where product_id = \(product) "
          + "and order_id > $1 order by id limit $2"
      case (nil, nil, let tag?):
        "select order_id as id from order_tag_rel where tag_id = (select id from tag where name = \(tag)) "
          + "and order_id > $1 order by id limit $2"
      default:
        "select id from order_ids($1, $2, \(contact ?? "null"), \(product ?? "null"), \(tag ?? "null")) as found (id)"
      }
    let names = ["contact": contact, "product": product, "tag": tag].filter { $0.value != nil }.keys.sorted()
    return Statement(
      "order_list_by_" + names.joined(separator: "_"), readOnly: true,
      """
      with page as materialized (
        select o.* from (\(found)) found
        cross join lateral (select id, name, contact_id from "order" where id = found.id offset 0) o
        order by found.id limit $2),
      shown as (select id from page order by id limit $2::bigint - 1),
      links as (
        select shown.id, l.tag_id from (select id from shown order by id) shown cross join lateral (
          select tag_id from order_tag_rel where order_id = shown.id offset 0) l \(end(by: "shown.id", atMost: mostLinks)))
      select \(columns) from page
      union all
      (select shown.id, 1, l.* from (select id from shown order by id) shown cross join lateral (
        select id, null::text, product_id, whole_number(quantity), price::numeric from order_line where order_id = shown.id offset 0) l
        \(end(by: "shown.id", atMost: mostLines)))
      union all
      select id, 2, tag_id, null, null, null, null from links
      union all
      select 0, 7, id, name::text, null, null, null from tag where id = any (array(select tag_id from links))
      """)
  }

  /// $1 id. A function of the schema, which writes answer by too.
  static let item = Statement("order_item", readOnly: true, "select * from order_rows($1)")

  /// $1 name, $2 contact, $3 products, $4 quantities and $5 prices of the lines, $6 tags.
  ///
  /// It does not look whether all that it refers to is there, which nearly always is work for nothing: foreign keys stop it if
  /// not, and `insertOrTell` finds out what it is.
  static let insert = Statement("order_insert", readOnly: false, "select * from order_insert_unchecked(\(values))")

  /// The same values. Leaves nothing but a gap in the ids if anything is missing, and says what. It costs more: for when the one
  /// above has failed, and for keys.
  static let insertOrTell = Statement("order_insert_or_tell", readOnly: false, "select * from \(insertion)")

  /// That, once for a key: see `Idempotency`. A condition that is about no row is looked at once, before the function is
  /// called (a one-time filter in its plan).
  static let insertOnce = Statement("order_insert_once", readOnly: false, once())

  /// The same values; what the key has made before, and nothing new.
  static let repeatOnly = Statement("order_repeat_only", readOnly: false, once(" and false"))

  private static func once(_ condition: String = "") -> String {
    Idempotency.once(
      columns: [
        ("id", "bigint"), ("kind", "int"), ("position", "bigint"), ("name", "text"), ("a", "bigint"), ("b", "int"),
        ("c", "numeric"), ("version", "bigint"),
      ], values: 6
    ) { gate in "select * from \(insertion) where \(gate)\(condition)" }
  }

  private static let values = "$1, $2, $3, $4, $5, $6"
  private static let insertion = "order_insert(\(values))"

  /// $1 id, then as of the insert, NULL for what stays, and $8 the tags that the order may have, NULL for any. A function of
  /// the schema, since it takes the order's lock before it looks: a single SQL statement sees the lines of the moment when it
  /// began, and not those of whoever it has waited for.
  static let update = Statement(
    "order_update", readOnly: false, "select * from order_update($1, $2, $3, $4, $5, $6, $7, $8)")

  /// $1 id, $2 the condition. The id, and whether it was deleted. A function of the schema, for the same reason.
  static let delete = Statement("order_delete", readOnly: false, "select * from order_delete($1, $2)")
}
