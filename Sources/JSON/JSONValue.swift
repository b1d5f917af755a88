// JSON that came in, as values. `JSONReader` makes them; whoever knows what should be there takes them apart.

import Text

/// A JSON value. Objects keep their members in the order they were sent, repeated names included, and numbers keep every
/// digit: neither is to be lost before somebody has judged it.
package enum JSONValue: Equatable, Sendable {
  case null
  case bool(Bool)
  case number(ExactDecimal)
  case string(UTF8Text)
  case array([JSONValue])
  case object([Member])

  package struct Member: Equatable, Sendable {
    package let name: UTF8Text
    package let value: JSONValue

    package init(name: UTF8Text, value: JSONValue) {
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
  case child(of: JSONPointer, name: UTF8Text)
  case item(of: JSONPointer, index: Int)

  /// The member `name` of what this points to.
  package func member(_ name: UTF8Text) -> JSONPointer { .child(of: self, name: name) }

  /// The element at `index` of what this points to, counted from 0.
  package func element(_ index: Int) -> JSONPointer { .item(of: self, index: index) }

  package var description: String {
    var bytes: [UInt8] = []
    append(to: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }

  private func append(to bytes: inout [UInt8]) {
    switch self {
    case .root: break
    case .child(let parent, let name):
      parent.append(to: &bytes)
      bytes.append(UInt8(ascii: "/"))
      name.withBytes { name in
        for index in name.indices {
          switch name[index] {
          case UInt8(ascii: "~"): bytes += "~0".utf8
          case UInt8(ascii: "/"): bytes += "~1".utf8
          case let byte: bytes.append(byte)
          }
        }
      }
    case .item(let parent, let index):
      parent.append(to: &bytes)
      bytes += "/\(index)".utf8
    }
  }
}
