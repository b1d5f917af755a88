// What is to be said of a resource whose objects are one row each. All else is made of it, or asked for by the compiler.

import JSON
import Postgres

/// A contact, a product, a tag; a value of it is what a client has sent of one.
protocol RowResource {
  /// Its table, which has the name of the resource, and its columns.
  static var statements: RowStatements { get }
  static var description: ResourceDescription { get }

  /// What a body says. What a merge patch leaves out is nil.
  init?(_ value: JSONValue, _ validation: inout Validation)

  /// Appends the values of the columns, in their order.
  func append(to parameters: inout Parameters)

  /// Writes a row, whose columns are the id and those of the table.
  static func write(_ rows: ResultSet, row: Int, to writer: inout JSONWriter)
}

/// What a resource's part of the description of the API says, beside what is alike for all.
struct ResourceDescription: Sendable {
  /// What GET shows after the id, what POST takes and what PATCH takes: their members' schemas.
  let shown: JSONValue
  let sent: JSONValue
  let patched: JSONValue
  /// What POST must have.
  let required: [String]

  /// Examples: of a POST, of a PATCH, and of what GET shows after each. Those to send succeed on the demo data.
  let input: JSONValue
  let patch: JSONValue
  let made: JSONValue
  let changed: JSONValue

  /// No two have the same name.
  var hasUniqueName = false
  /// It can't be deleted as long as an order refers to it.
  var isReferredTo = false
}

extension ResourceDescription {
  /// Of one row: what is shown is what is sent.
  init(
    fields: JSONValue, required: [String], input: JSONValue, patch: JSONValue, hasUniqueName: Bool = false,
    isReferredTo: Bool = false
  ) {
    let id: JSONValue = ["id": 1]
    self.init(
      shown: fields, sent: fields, patched: fields, required: required, input: input, patch: patch,
      made: id + input, changed: id + input.replacing(patch), hasUniqueName: hasUniqueName, isReferredTo: isReferredTo)
  }
}

extension JSONValue {
  /// An object whose members have other values, where `patch` has one of the same name.
  fileprivate func replacing(_ patch: JSONValue) -> JSONValue {
    guard case .object(let members) = self, case .object(let changes) = patch else { return self }
    return .object(members.map { member in changes.first { $0.name == member.name } ?? member })
  }
}
