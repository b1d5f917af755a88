// Which statements and which JSON belong to a resource.

import CGI
import JSON
import Postgres

extension Resource {
  private var rows: RowStatements? {
    switch self {
    case .contact: Contact.statements
    case .product: Product.statements
    case .tag: Tag.statements
    case .order: nil
    }
  }

  func list(_ filters: Order.Filters) -> Statement { rows?.list ?? Order.list(filters) }
  var item: Statement { rows?.item ?? Order.item }
  var insert: Statement { rows?.insert ?? Order.insert }
  var insertOnce: Statement { rows?.insertOnce ?? Order.insertOnce }
  /// What an earlier request with the same key has made, and nothing new.
  var repeatOnly: Statement { rows?.repeatOnly ?? Order.repeatOnly }
  var update: Statement { rows?.update ?? Order.update }
  var delete: Statement { rows?.delete ?? Order.delete }

  /// How many columns a row has before its version.
  private var width: Int {
    switch self {
    case .contact: 3
    case .product, .tag: 2
    case .order: 7
    }
  }

  /// Which state of the one object the rows show; nil if they don't say.
  func entityTag(_ rows: ResultSet) -> EntityTag? {
    var digest: UInt64 = 0
    for row in 0..<rows.rowCount {
      let version = rows.bytes(row, width)
      if version.isEmpty { return nil }
      digest &+= UInt64(bitPattern: rows.integer(row, width))
    }
    return EntityTag(digest: digest)
  }

  /// Writes one row as an object; an order has more than one row and its own way.
  @inline(__always)
  func write(_ rows: ResultSet, row: Int, to writer: inout JSONWriter) {
    switch self {
    case .contact: Contact.write(rows, row: row, to: &writer)
    case .product, .tag:
      writer.raw(#"{"id":"#)
      writer.raw(rows.bytes(row, 0))
      writer.raw(#","name":"#)
      writer.text(rows, row, 1)
      writer.raw("}")
    case .order: break
    }
  }
}

extension JSONWriter {
  /// A field as a string; null where somebody lets it be NULL.
  @inline(__always)
  mutating func text(_ rows: ResultSet, _ row: Int, _ column: Int) {
    let text = rows.bytes(row, column)
    if text.isEmpty { nothing(rows.isNull(row, column)) } else { string(text) }
  }

  /// Rare, and out of the way of what is common.
  @inline(never)
  private mutating func nothing(_ isNull: Bool) { raw(isNull ? "null" : "\"\"") }
}

extension Orders {
  /// Every statement that `begin` can ask for.
  package static let statements: [Statement] =
    Contact.statements.all + Product.statements.all + Tag.statements.all + Order.lists
    + [
      Order.item, Order.insert, Order.insertOrTell, Order.insertOnce, Order.repeatOnly, Order.update, Order.delete,
      health,
    ]
}
