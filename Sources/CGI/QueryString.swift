// The query string's pairs, percent-decoded (WHATWG URL, application/x-www-form-urlencoded parsing, but strict).

import Text

/// Names and values of a query string, in order.
package enum QueryString {
  /// A `%` without two hexadecimal digits, or bytes that are not UTF-8.
  package struct Undecodable: Error, Equatable {}

  package struct Pair: Equatable {
    package let name: UTF8Text
    package let value: UTF8Text
  }

  /// `a=1&b=x%20y`; empty pieces are passed over, a piece without `=` has an empty value, `+` is a space.
  package static func pairs(_ query: Span<UInt8>) throws(Undecodable) -> [Pair] {
    var pairs: [Pair] = []
    var start = 0
    while start < query.count {
      var end = start
      var equals: Int?
      while end < query.count, query[end] != UInt8(ascii: "&") {
        if equals == nil, query[end] == UInt8(ascii: "=") { equals = end }
        end += 1
      }
      if end > start {
        let name = try decoded(query.extracting(start..<(equals ?? end)))
        let value = try equals.map { equals throws(Undecodable) in try decoded(query.extracting((equals + 1)..<end)) }
        pairs.append(Pair(name: name, value: value ?? ""))
      }
      start = end + 1
    }
    return pairs
  }

  /// `text` percent-encoded, all but the unreserved characters (RFC 3986 §2.3).
  package static func encoded(_ text: UTF8Text) -> String { text.withBytes { encoded($0, keeping: "") } }

  /// A query that was sent, with what no URI may have in it percent-encoded (RFC 3986 §3.4); the rest as it is.
  package static func asURI(_ query: Span<UInt8>) -> String { encoded(query, keeping: "%!$&'()*+,;=:@/?") }

  /// `text` percent-encoded, all but the unreserved characters and `others`.
  static func encoded(_ text: Span<UInt8>, keeping others: String) -> String {
    var bytes: [UInt8] = []
    for index in text.indices {
      switch text[index] {
      case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x7E: bytes.append(text[index])
      case let byte where others.utf8.contains(byte): bytes.append(byte)
      case let byte:
        bytes.append(UInt8(ascii: "%"))
        for digit in [byte >> 4, byte & 15] { bytes.append(digit < 10 ? 0x30 + digit : 0x37 + digit) }
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func decoded(_ text: Span<UInt8>) throws(Undecodable) -> UTF8Text {
    var index = 0
    while index < text.count, text[index] != UInt8(ascii: "%"), text[index] != UInt8(ascii: "+") { index += 1 }
    // Nearly always nothing is encoded.
    if index == text.count { return try validated(text) }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.count)
    index = 0
    while index < text.count {
      switch text[index] {
      case UInt8(ascii: "+"): bytes.append(UInt8(ascii: " "))
      case UInt8(ascii: "%"):
        guard text.count - index > 2, let high = hex(text[index + 1]), let low = hex(text[index + 2]) else {
          throw Undecodable()
        }
        bytes.append(high << 4 | low)
        index += 2
      case let byte: bytes.append(byte)
      }
      index += 1
    }
    return try validated(bytes.span)
  }

  private static func validated(_ bytes: Span<UInt8>) throws(Undecodable) -> UTF8Text {
    guard let text = UTF8Text(validating: bytes) else { throw Undecodable() }
    return text
  }

  private static func hex(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x41...0x46: byte - 0x37
    case 0x61...0x66: byte - 0x57
    default: nil
    }
  }
}
