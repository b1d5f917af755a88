// A product: what order lines sell.

import JSON
import Postgres
import Text

/// `{name}` as a client sends it; what a merge patch leaves out is nil.
struct Product: RowResource {
  static let statements = RowStatements("product", columns: ["name"])

  let name: UTF8Text?

  init?(_ value: JSONValue, _ validation: inout Validation) {
    guard let object = validation.object(value, JSONPointer.root, keys: [.nameKey]) else { return nil }
    name = validation.name(object)
  }

  func append(to parameters: inout Parameters) { parameters.append(name) }

  @inline(__always)
  static func write(_ rows: ResultSet, row: Int, to writer: inout JSONWriter) {
    writer.raw(#"{"id":"#)
    writer.raw(rows.bytes(row, 0))
    writer.raw(#","name":"#)
    writer.text(rows, row, 1)
    writer.raw("}")
  }

  static let description = ResourceDescription(
    fields: ["name": OpenAPI.name], required: ["name"], input: ["name": "Pen"], patch: ["name": "Fountain pen"],
    isReferredTo: true)
}
