// One thing that is wrong with what a client sent, and where.

import JSON

/// An entry of a 422's `errors`.
struct Fault: Equatable, Sendable {
  enum Place: Equatable, Sendable {
    case pointer(JSONPointer)
    case parameter(String)
    case header(String)
  }

  /// What kind of wrong it is: for programs.
  enum Code: String, Sendable, CaseIterable {
    case missing
    case unknown
    case duplicateKey = "duplicate_key"
    case wrongType = "wrong_type"
    case blank
    case tooLong = "too_long"
    case nulCharacter = "nul_character"
    case malformed
    case outOfRange = "out_of_range"
    case tooManyDecimals = "too_many_decimals"
    case tooManyItems = "too_many_items"
    case repeated
    case notFound = "not_found"
    case reused
  }

  let place: Place
  let code: Code
  /// For people.
  let detail: String

  init(_ pointer: JSONPointer, _ code: Code, _ detail: String) {
    place = .pointer(pointer)
    self.code = code
    self.detail = detail
  }

  init(parameter: String, _ code: Code, _ detail: String) {
    place = .parameter(parameter)
    self.code = code
    self.detail = detail
  }

  init(header: String, _ code: Code, _ detail: String) {
    place = .header(header)
    self.code = code
    self.detail = detail
  }

  static func unknownParameter(_ name: String) -> Fault {
    Fault(parameter: name, .unknown, "There is no such parameter here.")
  }

  func write(to writer: inout JSONWriter) {
    switch place {
    case .pointer(let pointer):
      writer.raw(#"{"pointer":"#)
      writer.string(pointer.description)
    case .parameter(let name):
      writer.raw(#"{"parameter":"#)
      writer.string(name)
    case .header(let name):
      writer.raw(#"{"header":"#)
      writer.string(name)
    }
    writer.raw(#","code":"#)
    writer.string(code.rawValue)
    writer.raw(#","detail":"#)
    writer.string(detail)
    writer.raw("}")
  }
}
