// A contact: whom orders are for.

import JSON
import Postgres

/// `{name, email}` as a client sends it.
struct ContactInput: Sendable {
  let name: String
  let email: String

  init?(_ value: JSONValue, _ validation: inout Validation) {
    let root = JSONPointer()
    guard let object = validation.object(value, root, keys: ["name", "email"]) else { return nil }
    let name = validation.name(object)
    let email = validation.text(object, "email", root, longest: 320)
    if let email, !Self.isAddress(email) {
      validation.report(root.member("email"), .malformed, "email must have one @ with something on both sides.")
    }
    guard let name, let email else { return nil }
    self.name = name
    self.email = email
  }

  private static func isAddress(_ text: String) -> Bool {
    let parts = text.unicodeScalars.split(separator: "@", omittingEmptySubsequences: false)
    return parts.count == 2 && !parts[0].isEmpty && !parts[1].isEmpty
  }

  var insert: Operation {
    var parameters = Parameters()
    parameters.append(name)
    parameters.append(email)
    return Operation(
      statement: Contact.insert, parameters: parameters, reply: .created(.contact), isHead: false)
  }
}

enum Contact {
  static let list = Statement(
    "contact_list", readOnly: true, "select id, name, email from contact where id > $1 order by id limit $2")
  static let item = Statement("contact_item", readOnly: true, "select id, name, email from contact where id = $1")
  static let insert = Statement(
    "contact_insert", readOnly: false, "insert into contact (name, email) values ($1, $2) returning id, name, email")

  /// Columns id, name, email.
  static func write(_ rows: ResultSet, row: Int, to writer: inout JSONWriter) {
    writer.raw(#"{"id":"#)
    writer.raw(rows.bytes(row, 0))
    writer.raw(#","name":"#)
    writer.string(rows.bytes(row, 1))
    writer.raw(#","email":"#)
    writer.string(rows.bytes(row, 2))
    writer.raw("}")
  }
}
