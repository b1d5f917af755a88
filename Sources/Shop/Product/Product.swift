// A product: what order lines sell.

import JSON
import Postgres

/// `{name}` as a client sends it.
struct ProductInput: Sendable {
  let name: String

  init?(_ value: JSONValue, _ validation: inout Validation) {
    guard let object = validation.object(value, JSONPointer(), keys: ["name"]), let name = validation.name(object)
    else {
      return nil
    }
    self.name = name
  }

  var insert: Operation {
    var parameters = Parameters()
    parameters.append(name)
    return Operation(statement: Product.insert, parameters: parameters, reply: .created(.product), isHead: false)
  }
}

enum Product {
  static let list = Statement(
    "product_list", readOnly: true, "select id, name from product where id > $1 order by id limit $2")
  static let item = Statement("product_item", readOnly: true, "select id, name from product where id = $1")
  static let insert = Statement(
    "product_insert", readOnly: false, "insert into product (name) values ($1) returning id, name")
}
