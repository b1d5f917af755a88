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

  /// How many columns a row has before its entity tag.
  private var width: Int {
    switch self {
    case .contact: 3
    case .product, .tag: 2
    case .order: 7
    }
  }

  /// Which state of the one object the rows show.
  func entityTag(_ rows: ResultSet) -> EntityTag {
    guard self == .order else { return .row(UInt64(clamping: rows.integer(0, width))) }
    var (order, parts, sum): (UInt64, UInt64, UInt64) = (0, 0, 0)
    for row in 0..<rows.rowCount {
      let tag = UInt64(clamping: rows.integer(row, width))
      if rows.bytes(row, 1).equals("0") {
        order = tag
      } else {
        parts += 1
        sum &+= tag
      }
    }
    return .rows(order, parts: parts, sum: sum)
  }

  /// Writes one row as an object; an order has more than one row and its own way.
  func write(_ rows: ResultSet, row: Int, to writer: inout JSONWriter) {
    switch self {
    case .contact: Contact.write(rows, row: row, to: &writer)
    case .product, .tag:
      writer.raw(#"{"id":"#)
      writer.raw(rows.bytes(row, 0))
      writer.raw(#","name":"#)
      writer.string(rows.bytes(row, 1))
      writer.raw("}")
    case .order: break
    }
  }
}

extension Shop {
  /// Whether the database can be reached, and nothing else.
  static let health = Statement("health", readOnly: true, "select")

  /// Reads of next to nothing: they are fast, unless something holds them up.
  package static let lightReads = Resource.allCases.map(\.item) + [health]

  /// Every statement that `begin` can ask for, but those of the bench hooks.
  package static let statements: [Statement] =
    Contact.statements.all + Product.statements.all + Tag.statements.all + Order.lists
    + [
      Order.item, Order.insert, Order.insertOrTell, Order.insertOnce, Order.repeatOnly, Order.update, Order.delete,
      health,
    ]
}
