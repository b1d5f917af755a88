// What belongs to which resource: here the compiler asks for what a new one lacks.

import CGI
import JSON
import Postgres

extension Resource {
  /// What is to be said of those that are one row each; nil: orders.
  var row: (any RowResource.Type)? {
    switch self {
    case .contact: Contact.self
    case .product: Product.self
    case .tag: Tag.self
    case .order: nil
    }
  }

  var description: ResourceDescription { row?.description ?? Order.description }

  /// The tables of those that are one row each.
  static let rowStatements = allCases.compactMap { $0.row?.statements }

  /// Writes one row as an object; an order has more than one row and its own way.
  @inline(__always)
  func write(_ rows: ResultSet, row: Int, to writer: inout JSONWriter) {
    switch self {
    case .contact: Contact.write(rows, row: row, to: &writer)
    case .product: Product.write(rows, row: row, to: &writer)
    case .tag: Tag.write(rows, row: row, to: &writer)
    case .order: break
    }
  }
}

extension Resource {
  private var rows: RowStatements? { row?.statements }

  func list(_ filters: Order.Filters) -> Statement { rows?.list ?? Order.list(filters) }
  var item: Statement { rows?.item ?? Order.item }
  var insert: Statement { rows?.insert ?? Order.insert }
  var insertOnce: Statement { rows?.insertOnce ?? Order.insertOnce }
  /// What an earlier request with the same key has made, and nothing new.
  var repeatOnly: Statement { rows?.repeatOnly ?? Order.repeatOnly }
  var update: Statement { rows?.update ?? Order.update }
  var delete: Statement { rows?.delete ?? Order.delete }

  /// How many columns a row has before its version.
  private var width: Int { rows.map { $0.columns.count + 1 } ?? 7 }

  /// Which state of the one object the rows show; nil if they don't say.
  func entityTag(_ rows: ResultSet) -> EntityTag? {
    let width = width
    var digest: UInt64 = 0
    for row in 0..<rows.rowCount {
      let version = rows.bytes(row, width)
      if version.isEmpty { return nil }
      digest &+= UInt64(bitPattern: rows.integer(row, width))
    }
    return EntityTag(digest: digest)
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
    Resource.rowStatements.flatMap(\.all) + Order.lists
    + [
      Order.item, Order.insert, Order.insertOrTell, Order.insertOnce, Order.repeatOnly, Order.update, Order.delete,
      health,
    ]
}
