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

/// A JSON Pointer (RFC 6901). Made for each value that is looked at and read where something is wrong: so it becomes text only
/// then.
package indirect enum JSONPointer: Equatable, Sendable, CustomStringConvertible {
  /// The whole document.
  case root
  case child(of: JSONPointer, name: String)
  case item(of: JSONPointer, index: Int)

  /// The member `name` of what this points to.
  package func member(_ name: String) -> JSONPointer { .child(of: self, name: name) }

  /// The element at `index` of what this points to, counted from 0.
  package func element(_ index: Int) -> JSONPointer { .item(of: self, index: index) }

  package var description: String {
    switch self {
    case .root: ""
    case .child(let parent, let name): "\(parent)/\(Self.escaped(name))"
    case .item(let parent, let index): "\(parent)/\(index)"
    }
  }

  /// By scalar: a character may be a slash and what combines with it.
  private static func escaped(_ name: String) -> String {
    var text = ""
    for scalar in name.unicodeScalars {
      switch scalar {
      case "~": text += "~0"
      case "/": text += "~1"
      default: text.unicodeScalars.append(scalar)
      }
    }
    return text
  }
}
