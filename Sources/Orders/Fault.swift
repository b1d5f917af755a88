// One thing that is wrong with what a client sent, and where.

import JSON
import Text

/// An entry of a 422's `errors`.
struct Fault: Sendable {
  enum Place: Sendable {
    case pointer(JSONPointer)
    case parameter(UTF8Text)
    case header(UTF8Text)
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

  init(parameter: UTF8Text, _ code: Code, _ detail: String) {
    place = .parameter(parameter)
    self.code = code
    self.detail = detail
  }

  init(header: UTF8Text, _ code: Code, _ detail: String) {
    place = .header(header)
    self.code = code
    self.detail = detail
  }

  /// Of the names that a client made up, in bytes. Longer ones are told by their length: they would make answers as long as what
  /// was sent.
  static let longestName = 100

  static func unknownParameter(_ name: UTF8Text) -> Fault {
    let detail = "There is no such parameter here."
    if name.count <= longestName { return Fault(parameter: name, .unknown, detail) }
    let shown = UTF8Text("\(name.prefix(longestName))…")
    return Fault(parameter: shown, .unknown, "\(detail) Its name has \(name.count) bytes.")
  }

  /// About the key `name` of the object at `pointer`, or about the object where that is too long to be told.
  static func key(_ name: UTF8Text, of pointer: JSONPointer, _ code: Code, _ detail: String) -> Fault {
    if name.count <= longestName { return Fault(pointer.member(name), code, detail) }
    return Fault(pointer, code, "\(detail) It has \(name.count) bytes.")
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

/// What is wrong with a request: the first faults to be told, all of them counted. A request of nothing but faults must not
/// become an answer of many times its size.
struct Faults: Sendable {
  /// That are told.
  static let most = 300

  private(set) var told: [Fault] = []
  private(set) var count = 0

  var isEmpty: Bool { count == 0 }

  /// `fault` is made only if it is told.
  mutating func report(_ fault: @autoclosure () -> Fault) {
    if told.count < Self.most { told.append(fault()) }
    count += 1
  }
}

extension Faults: ExpressibleByArrayLiteral {
  init(arrayLiteral faults: Fault...) { for fault in faults { report(fault) } }
}
