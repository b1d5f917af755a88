// A contact: whom orders are for.

import JSON
import Postgres
import Text

/// `{name, email}` as a client sends it; what a merge patch leaves out is nil.
struct ContactInput: Sendable {
  static let longestEmail = 320

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
}

extension UTF8Text {
  fileprivate static let emailKey: UTF8Text = "email"
}

enum Contact {
  static let statements = RowStatements("contact", columns: ["name", "email"])

  /// Columns id, name, email.
  static func write(_ rows: ResultSet, row: Int, to writer: inout JSONWriter) {
    writer.raw(#"{"id":"#)
    writer.raw(rows.bytes(row, 0))
    writer.raw(#","name":"#)
    writer.text(rows, row, 1)
    writer.raw(#","email":"#)
    writer.text(rows, row, 2)
    writer.raw("}")
  }
}
