// JSON that came in, as values. `JSONReader` makes them; whoever knows what should be there takes them apart.

/// A JSON value. Objects keep their members in the order they were sent, repeated names included, and numbers keep every
/// digit: neither is to be lost before somebody has judged it.
package enum JSONValue: Equatable, Sendable {
  case null
  case bool(Bool)
  case number(ExactDecimal)
  case string(String)
  case array([JSONValue])
  case object([Member])

  package struct Member: Equatable, Sendable {
    package let name: String
    package let value: JSONValue

    package init(name: String, value: JSONValue) {
      self.name = name
      self.value = value
    }
  }

  /// The kind of value in a reader's words.
  package var kind: String {
    switch self {
    case .null: "null"
    case .bool: "a boolean"
    case .number: "a number"
    case .string: "a string"
    case .array: "an array"
    case .object: "an object"
    }
  }
}

/// A JSON Pointer (RFC 6901).
package struct JSONPointer: Equatable, Sendable, CustomStringConvertible {
  package private(set) var description = ""

  /// The whole document.
  package init() {}

  /// The member `name` of what this points to.
  package func member(_ name: String) -> JSONPointer {
    var pointer = self
    pointer.description += "/"
    for character in name.unicodeScalars {
      switch character {
      case "~": pointer.description += "~0"
      case "/": pointer.description += "~1"
      default: pointer.description.unicodeScalars.append(character)
      }
    }
    return pointer
  }

  /// The element at `index` of what this points to, counted from 0.
  package func element(_ index: Int) -> JSONPointer {
    var pointer = self
    pointer.description += "/\(index)"
    return pointer
  }
}
