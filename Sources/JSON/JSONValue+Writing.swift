// JSON values written in Swift, and written out for people: what a document of the program's own is made of.

import Text

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByStringInterpolation {
  package init(stringLiteral value: String) { self = .string(UTF8Text(value)) }
}

extension JSONValue: ExpressibleByIntegerLiteral {
  package init(integerLiteral value: Int64) { self = .number(ExactDecimal(value)) }
}

extension JSONValue: ExpressibleByBooleanLiteral {
  package init(booleanLiteral value: Bool) { self = .bool(value) }
}

extension JSONValue: ExpressibleByArrayLiteral {
  package init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
}

extension JSONValue: ExpressibleByDictionaryLiteral {
  /// An object with its members in the order in which they stand.
  package init(dictionaryLiteral members: (UTF8Text, JSONValue)...) {
    self = .object(members.map { Member(name: $0.0, value: $0.1) })
  }
}

extension ExactDecimal {
  /// An integer divided by 10^`places`.
  package init(_ integer: some BinaryInteger, places: Int = 0) {
    var digits = Digits()
    for digit in integer.magnitude.description.utf8 { digits.append(digit - 0x30) }
    self.init(isNegative: integer < 0, digits: digits, exponent: -places)
  }
}

extension JSONValue {
  /// The members of an object and of another behind them.
  package static func + (left: JSONValue, right: JSONValue) -> JSONValue {
    guard case .object(let some) = left, case .object(let more) = right else { return left }
    return .object(some + more)
  }
}

extension JSONWriter {
  /// A value with an indentation of two spaces; what fits into a line of 100 characters stands on one.
  package mutating func pretty(_ value: JSONValue, indentation: Int = 0) {
    var line = JSONWriter()
    line.compact(value)
    let bytes = line.take()
    if bytes.count + indentation <= 100 { return raw(bytes.span) }
    let inner = String(repeating: " ", count: indentation + 2)
    func newLine(_ index: Int, _ writer: inout JSONWriter) {
      writer.raw(index > 0 ? ",\n" : "\n")
      writer.raw(inner.utf8.span)
    }
    switch value {
    case .array(let elements):
      raw("[")
      for (index, element) in elements.enumerated() {
        newLine(index, &self)
        pretty(element, indentation: indentation + 2)
      }
      raw("\n")
      raw(inner.dropLast(2).utf8.span)
      raw("]")
    case .object(let members):
      raw("{")
      for (index, member) in members.enumerated() {
        newLine(index, &self)
        string(member.name)
        raw(": ")
        pretty(member.value, indentation: indentation + 2)
      }
      raw("\n")
      raw(inner.dropLast(2).utf8.span)
      raw("}")
    default: raw(bytes.span)
    }
  }

  /// A value on one line, a space behind each comma and colon.
  private mutating func compact(_ value: JSONValue) {
    switch value {
    case .null: raw("null")
    case .bool(let flag): raw(flag ? "true" : "false")
    case .number(let number): raw(number.text.utf8.span)
    case .string(let text): string(text)
    case .array(let elements):
      raw("[")
      for (index, element) in elements.enumerated() {
        if index > 0 { raw(", ") }
        compact(element)
      }
      raw("]")
    case .object(let members):
      raw("{")
      for (index, member) in members.enumerated() {
        if index > 0 { raw(", ") }
        string(member.name)
        raw(": ")
        compact(member.value)
      }
      raw("}")
    }
  }
}
