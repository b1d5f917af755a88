// A tag: a word on an order; no two have the same name.

import JSON
import Postgres
import Text

/// `{name}` as a client sends it; what a merge patch leaves out is nil.
struct TagInput: Sendable {
  let name: UTF8Text?

  init?(_ value: JSONValue, _ validation: inout Validation) {
    guard let object = validation.object(value, JSONPointer.root, keys: [.nameKey]) else { return nil }
    name = validation.name(object)
  }

  func append(to parameters: inout Parameters) { parameters.append(name) }
}

enum Tag {
  static let statements = RowStatements("tag", columns: ["name"])
}
