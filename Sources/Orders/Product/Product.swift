// A product: what order lines sell.

import JSON
import Postgres
import Text

/// `{name}` as a client sends it; what a merge patch leaves out is nil.
struct ProductInput: Sendable {
  let name: UTF8Text?

  init?(_ value: JSONValue, _ validation: inout Validation) {
    guard let object = validation.object(value, JSONPointer.root, keys: [.nameKey]) else { return nil }
    name = validation.name(object)
  }

  func append(to parameters: inout Parameters) { parameters.append(name) }
}

enum Product {
  static let statements = RowStatements("product", columns: ["name"])
}
