// An order's statements. Each reads or writes orders, lines and tags in one: one snapshot, one transaction.
//
// Their rows are of several kinds, told apart by the second column and in no promised order:
//
//   id        kind       position  text  a           b         c
//   order     0 order    0         name  contact_id
//   order     1 line     line id         product_id  quantity  price
//   order     2 tag      tag id    name
//   missing   3 contact, 4 product, 5 tag that the insert refers to and that does not exist
//
// Sorting is left to the reader of the rows: in SQL it costs a quarter of the whole.

import Postgres

enum Order {
  private static let columns =
    "id, 0 as kind, 0::bigint as position, name, contact_id as a, null::int as b, null::numeric as c"

  /// $1 after, $2 limit + 1. The row beyond the limit only tells that there is more: its lines and tags are not read.
  static let list = Statement(
    "order_list", readOnly: true,
    """
    with page as materialized (select id, name, contact_id from "order" where id > $1 order by id limit $2),
    last as (select coalesce((select id from page offset $2::bigint - 2 limit 1), 9223372036854775807) as id)
    select \(columns) from page
    union all
    select order_id, 1, id, null, product_id, quantity, price from order_line
      where order_id > $1 and order_id <= (select id from last)
    union all
    select r.order_id, 2, r.tag_id, t.name, null, null, null from order_tag_rel r join tag t on t.id = r.tag_id
      where r.order_id > $1 and r.order_id <= (select id from last)
    """)

  /// $1 id.
  static let item = Statement(
    "order_item", readOnly: true,
    """
    select \(columns) from "order" where id = $1
    union all
    select order_id, 1, id, null, product_id, quantity, price from order_line where order_id = $1
    union all
    select r.order_id, 2, r.tag_id, t.name, null, null, null from order_tag_rel r join tag t on t.id = r.tag_id
      where r.order_id = $1
    """)

  /// $1 name, $2 contact, $3 products, $4 quantities and $5 prices of the lines, $6 tags. Writes nothing if anything that
  /// it refers to is missing, and says what.
  static let insert = Statement(
    "order_insert", readOnly: false,
    """
    with sent as (
      select * from unnest($3::bigint[], $4::int[], $5::numeric[]) with ordinality s (product_id, quantity, price, n)),
    missing as materialized (
      select $2::bigint as id, 3 as kind where not exists (select from contact where id = $2)
      union all
      select p, 4 from (select distinct product_id from sent) s (p) where not exists (select from product where id = p)
      union all
      select t, 5 from unnest($6::bigint[]) t where not exists (select from tag where id = t)),
    o as (
      insert into "order" (name, contact_id) select $1, $2 where not exists (select from missing)
      returning id, name, contact_id),
    l as (
      insert into order_line (order_id, product_id, quantity, price)
      select o.id, s.product_id, s.quantity, s.price from o, sent s order by s.n
      returning order_id, id, product_id, quantity, price),
    t as (
      insert into order_tag_rel (order_id, tag_id) select o.id, tag_id from o, unnest($6::bigint[]) tag_id
      returning order_id, tag_id)
    select \(columns) from o
    union all
    select order_id, 1, id, null, product_id, quantity, price from l
    union all
    select t.order_id, 2, t.tag_id, tag.name, null, null, null from t join tag on tag.id = t.tag_id
    union all
    select id, kind, 0, null, null, null, null from missing
    """)
}
