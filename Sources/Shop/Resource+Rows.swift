// Which statements and which JSON belong to a resource.

import JSON
import Postgres

extension Resource {
  var listStatement: Statement {
    switch self {
    case .contact: Contact.list
    case .product: Product.list
    case .tag: Tag.list
    case .order: Order.list
    }
  }

  var itemStatement: Statement {
    switch self {
    case .contact: Contact.item
    case .product: Product.item
    case .tag: Tag.item
    case .order: Order.item
    }
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
  /// Every statement that `begin` can ask for, to be prepared on each connection.
  package static let statements: [Statement] = [
    Contact.list, Contact.item, Contact.insert,
    Product.list, Product.item, Product.insert,
    Tag.list, Tag.item, Tag.insert,
    Order.list, Order.item, Order.insert,
  ]
}
