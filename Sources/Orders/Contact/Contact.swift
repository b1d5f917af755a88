// A contact: whom orders are for.

import JSON
import Postgres
import Text

/// `{name, email}` as a client sends it; what a merge patch leaves out is nil.
struct Contact: RowResource {
  static let statements = RowStatements("contact", columns: ["name", "email"])

  private static let longestEmail = 320

  let name: UTF8Text?
  let email: UTF8Text?

  init?(_ value: JSONValue, _ validation: inout Validation) {
    let root = JSONPointer.root
    guard let object = validation.object(value, root, keys: [.nameKey, .emailKey]) else { return nil }
    name = validation.name(object)
    email = validation.text(object, .emailKey, root, longest: Self.longestEmail)
    if let email, !Self.isAddress(email) {
      validation.report(root.member(.emailKey), .malformed, "email must have one @ with something on both sides.")
    }
  }

  private static func isAddress(_ text: UTF8Text) -> Bool {
    text.withBytes { bytes in
      let places = bytes.indices.filter { bytes[$0] == UInt8(ascii: "@") }
      return places.count == 1 && places[0] > 0 && places[0] < bytes.count - 1
    }
  }

  func append(to parameters: inout Parameters) {
    parameters.append(name)
    parameters.append(email)
  }

  static func write(_ rows: ResultSet, row: Int, to writer: inout JSONWriter) {
    writer.raw(#"{"id":"#)
    writer.raw(rows.bytes(row, 0))
    writer.raw(#","name":"#)
    writer.text(rows, row, 1)
    writer.raw(#","email":"#)
    writer.text(rows, row, 2)
    writer.raw("}")
  }

  static let description = ResourceDescription(
    fields: [
      "name": OpenAPI.name,
      "email": [
        "type": "string", "maxLength": OpenAPI.number(longestEmail), "pattern": #"^[^@\u0000]+@[^@\u0000]+$"#,
        "description": "One @ with something on both sides, and without U+0000.",
      ],
    ], required: ["name", "email"],
    input: ["name": "Ann", "email": "ann@example.org"], patch: ["email": "ann@example.com"], isReferredTo: true)
}

extension UTF8Text {
  fileprivate static let emailKey: UTF8Text = "email"
}
