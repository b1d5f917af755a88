// The SQL of resources that are one row each.
//
// An entity tag is made of what the row shows and of the transaction that wrote it (xmin): it changes with every change, whoever
// makes it, and costs no column. Whoever writes has a function of the schema do it, which answers what the table then holds; where
// it has a condition, its last value are the tags that the row may have, or NULL for no condition. A row that another transaction
// changed meanwhile is looked at again before it is written (PostgreSQL §13.2.1), so that of many with one tag the first wins.
//
// A column may have another type than ours, as long as that can be cast: each is read as a text.

import Postgres

/// A table's statements. Their rows are the id, the columns and the version; a list's have no version.
final class RowStatements: Sendable {
  let table: String
  let columns: [String]

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
  /// $1 id, $2 … the columns, NULL for those that stay, and the condition. A row of NULLs if it does not meet the
  /// condition.
  let update: Statement
  /// $1 id, $2 the condition. The id, and whether it was deleted.
  let delete: Statement

  init(_ table: String, columns: [String]) {
    self.table = table
    self.columns = columns
    let texts = columns.map { "\($0)::text" }.joined(separator: ", ")
    let version = columns.reduce("xmin::text::bigint") { "text_version(\($1)::text, \($0))" }
    func function(_ name: String, values: Int) -> String {
      "select * from \(table)_\(name)(\((1...values).map { "$\($0)" }.joined(separator: ", ")))"
    }
    let insertion = function("insert", values: columns.count)

    list = Statement(
      "\(table)_list", readOnly: true, "select id, \(texts) from \(table) where id > $1 order by id limit $2")
    item = Statement("\(table)_item", readOnly: true, "select id, \(texts), \(version) from \(table) where id = $1")
    insert = Statement("\(table)_insert", readOnly: false, insertion)
    func once(_ condition: String = "") -> String {
      Idempotency.once(
        columns: [("id", "bigint")] + columns.map { ($0, "text") } + [("version", "bigint")], values: columns.count
      ) { gate in "\(insertion) where \(gate)\(condition)" }
    }
    insertOnce = Statement("\(table)_insert_once", readOnly: false, once())
    repeatOnly = Statement("\(table)_repeat_only", readOnly: false, once(" and false"))
    update = Statement("\(table)_update", readOnly: false, function("update", values: columns.count + 2))
    delete = Statement("\(table)_delete", readOnly: false, function("delete", values: 2))
  }

  var all: [Statement] { [list, item, insert, insertOnce, repeatOnly, update, delete] }
}
