// The SQL of resources that are one row each: contacts, products and tags.
//
// An entity tag is made of what the row shows and of the transaction that wrote it (xmin): it changes with every change, whoever
// makes it, and costs no column. Where a statement has a condition, its last value are the tags that the row may have, or NULL for no condition;
// a row that another transaction changed meanwhile is looked at again before it is written (PostgreSQL §13.2.1), so that
// of many with one tag the first wins.

import Postgres

/// A table's statements. Their rows are the id, the columns and the version; a list's have no version.
struct RowStatements: Sendable {
  /// $1 after, $2 limit + 1.
  let list: Statement
  /// $1 id.
  let item: Statement
  /// $1 … the columns.
  let insert: Statement
  /// The same, once for a key: see `Idempotency`.
  let insertOnce: Statement
  /// The same values; what the key has made before, and nothing new.
  let repeatOnly: Statement
  /// $1 id, $2 … the columns, NULL for those that stay, and the condition. A row of NULLs beside its id is one that does not
  /// meet the condition.
  let update: Statement
  /// $1 id, $2 the condition. The id, and whether it was deleted.
  let delete: Statement

  init(_ table: String, columns: [String]) {
    let names = columns.joined(separator: ", ")
    let values = columns.indices.map { "$\($0 + 1)" }.joined(separator: ", ")
    let nulls = columns.map { _ in "null" }.joined(separator: ", ")
    let assignments = columns.enumerated().map { "\($1) = coalesce($\($0 + 2), \($1))" }.joined(separator: ", ")
    let version = columns.reduce("xmin::text::bigint") { "text_version(\($1), \($0))" }
    func meets(_ condition: String) -> String {
      "(\(condition)::text[] is null or entity_tag(\(version)) = any (\(condition)))"
    }
    func insertion(_ gate: String) -> String {
      "insert into \(table) (\(names)) select \(values) where \(gate) returning id, \(names), \(version) as tag"
    }

    list = Statement(
      "\(table)_list", readOnly: true, "select id, \(names) from \(table) where id > $1 order by id limit $2")
    item = Statement("\(table)_item", readOnly: true, "select id, \(names), \(version) from \(table) where id = $1")
    insert = Statement("\(table)_insert", readOnly: false, insertion("true"))
    func once(_ condition: String = "") -> String {
      Idempotency.once(
        columns: [("id", "bigint")] + columns.map { ($0, "text") } + [("tag", "bigint")], values: columns.count
      ) { gate in "made as (\(insertion(gate + condition)))" }
    }
    insertOnce = Statement("\(table)_insert_once", readOnly: false, once())
    repeatOnly = Statement("\(table)_repeat_only", readOnly: false, once(" and false"))
    update = Statement(
      "\(table)_update", readOnly: false,
      """
      with changed as (
        update \(table) set \(assignments) where id = $1 and \(meets("$\(columns.count + 2)"))
        returning id, \(names), \(version) as tag)
      select * from changed
      union all select id, \(nulls), null from \(table) where id = $1 and not exists (select from changed)
      """)
    delete = Statement(
      "\(table)_delete", readOnly: false,
      """
      with gone as (delete from \(table) where id = $1 and \(meets("$2")) returning id)
      select id, true from gone
      union all select id, false from \(table) where id = $1 and not exists (select from gone)
      """)
  }

  var all: [Statement] { [list, item, insert, insertOnce, repeatOnly, update, delete] }
}
