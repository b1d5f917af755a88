// Reads JSON strictly (RFC 8259): one value, UTF-8, bounded depth, nothing forgiven.
//
// FoundationEssentials' JSONDecoder would be the library for it, but it drops repeated names without a word and says
// neither where nor what is wrong in terms a caller could use; what it drops can't be got back.

import Text

/// Why bytes are not JSON, and where.
package struct JSONSyntaxError: Error, Equatable, CustomStringConvertible {
  package let reason: String
  /// Bytes before the place.
  package let offset: Int

  package init(reason: String, offset: Int) {
    self.reason = reason
    self.offset = offset
  }

  package var description: String { "\(reason) at byte \(offset)" }
}

/// One pass over the bytes of a document.
package struct JSONReader {
  /// Arrays and objects inside one another.
  package static let deepest = 64
  /// An exponent beyond this many digits can't be told from infinity or zero in any range that is asked for.
  private static let longestExponent = 9

  private let bytes: UnsafeBufferPointer<UInt8>
  private var at = 0

  /// The one value that `bytes` hold.
  package static func read(_ bytes: [UInt8]) throws(JSONSyntaxError) -> JSONValue {
    let outcome: Result<JSONValue, JSONSyntaxError> = bytes.withUnsafeBufferPointer { buffer in
      var reader = JSONReader(bytes: buffer)
      do throws(JSONSyntaxError) {
        let value = try reader.value(depth: 0)
        reader.skipSpace()
        guard reader.at == buffer.count else { throw reader.error("something follows the value") }
        return .success(value)
      } catch {
        return .failure(error)
      }
    }
    return try outcome.get()
  }

  private init(bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

  private func error(_ reason: String) -> JSONSyntaxError { JSONSyntaxError(reason: reason, offset: at) }

  private var next: UInt8? { at < bytes.count ? bytes[at] : nil }

  private mutating func skipSpace() {
    while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { at += 1 }
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    guard next == byte else { return false }
    at += 1
    return true
  }

  private mutating func value(depth: Int) throws(JSONSyntaxError) -> JSONValue {
    skipSpace()
    switch next {
    case nil: throw error("a value is missing")
    case UInt8(ascii: "{"): return try object(depth: depth + 1)
    case UInt8(ascii: "["): return try array(depth: depth + 1)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    default: return .number(try number())
    }
  }

  private mutating func word(_ word: StaticString, _ value: JSONValue) throws(JSONSyntaxError) -> JSONValue {
    for index in 0..<word.utf8CodeUnitCount {
      guard take(word.utf8Start[index]) else { throw error("not a JSON value") }
    }
    return value
  }

  private mutating func object(depth: Int) throws(JSONSyntaxError) -> JSONValue {
    guard depth <= Self.deepest else { throw error("nested more than \(Self.deepest) deep") }
    at += 1
    var members: [JSONValue.Member] = []
    skipSpace()
    if take(UInt8(ascii: "}")) { return .object(members) }
    // As many as the objects have that are read here.
    members.reserveCapacity(4)
    while true {
      skipSpace()
      guard next == UInt8(ascii: "\"") else { throw error("a name in quotes is missing") }
      let name = try string()
      skipSpace()
      guard take(UInt8(ascii: ":")) else { throw error("a colon is missing") }
      members.append(.init(name: name, value: try value(depth: depth)))
      skipSpace()
      if take(UInt8(ascii: "}")) { return .object(members) }
      guard take(UInt8(ascii: ",")) else { throw error("a comma or } is missing") }
    }
  }

  private mutating func array(depth: Int) throws(JSONSyntaxError) -> JSONValue {
    guard depth <= Self.deepest else { throw error("nested more than \(Self.deepest) deep") }
    at += 1
    skipSpace()
    if take(UInt8(ascii: "]")) { return .array([]) }
    var elements = [try value(depth: depth)]
    while true {
      skipSpace()
      if take(UInt8(ascii: "]")) { return .array(elements) }
      guard take(UInt8(ascii: ",")) else { throw error("a comma or ] is missing") }
      elements.append(try value(depth: depth))
    }
  }

  private mutating func number() throws(JSONSyntaxError) -> ExactDecimal {
    let negative = take(UInt8(ascii: "-"))
    var digits = ExactDecimal.Digits()
    func isDigit(_ byte: UInt8?) -> Bool { byte.map { $0 &- 0x30 < 10 } ?? false }
    guard isDigit(next) else { throw error("not a JSON value") }
    if take(0x30) {
      if isDigit(next) { throw error("a number begins with 0") }
    }
    while let byte = next, isDigit(byte) {
      digits.append(byte - 0x30)
      at += 1
    }
    var exponent = 0
    if take(UInt8(ascii: ".")) {
      guard isDigit(next) else { throw error("a digit is missing after the point") }
      while let byte = next, isDigit(byte) {
        digits.append(byte - 0x30)
        exponent -= 1
        at += 1
      }
    }
    if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
      let minus = take(UInt8(ascii: "-"))
      if !minus { _ = take(UInt8(ascii: "+")) }
      guard isDigit(next) else { throw error("a digit is missing in the exponent") }
      var written = 0
      while take(0x30) {}
      var length = 0
      while let byte = next, isDigit(byte) {
        length += 1
        if length <= Self.longestExponent { written = written * 10 + Int(byte - 0x30) }
        at += 1
      }
      if length > Self.longestExponent { written = 1_000_000_000 }
      exponent += minus ? -written : written
    }
    return ExactDecimal(isNegative: negative, digits: digits, exponent: exponent)
  }

  /// A string, its opening quote next.
  private mutating func string() throws(JSONSyntaxError) -> UTF8Text {
    at += 1
    let start = at
    while let byte = next, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 { at += 1 }
    if next == UInt8(ascii: "\"") {
      defer { at += 1 }
      return try utf8(bytes.extracting(start..<at).span, start: start)
    }
    var unescaped = Array(bytes[start..<at])
    while let byte = next {
      switch byte {
      case UInt8(ascii: "\""):
        defer { at += 1 }
        return try utf8(unescaped.span, start: start)
      case UInt8(ascii: "\\"):
        at += 1
        try escape(into: &unescaped)
      case 0..<0x20:
        throw error("a control character stands in a string")
      default:
        unescaped.append(byte)
        at += 1
      }
    }
    throw error("a string is not closed")
  }

  private func utf8(_ bytes: Span<UInt8>, start: Int) throws(JSONSyntaxError) -> UTF8Text {
    guard let text = UTF8Text(validating: bytes) else { throw JSONSyntaxError(reason: "not UTF-8", offset: start) }
    return text
  }

  /// What follows a backslash. A surrogate must come with its other half (RFC 8259 §8.2).
  private mutating func escape(into text: inout [UInt8]) throws(JSONSyntaxError) {
    guard let byte = next else { throw error("a string is not closed") }
    at += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
    case UInt8(ascii: "b"): text.append(0x08)
    case UInt8(ascii: "f"): text.append(0x0C)
    case UInt8(ascii: "n"): text.append(0x0A)
    case UInt8(ascii: "r"): text.append(0x0D)
    case UInt8(ascii: "t"): text.append(0x09)
    case UInt8(ascii: "u"):
      var code = try hex4()
      if code & 0xFC00 == 0xD800 {
        guard take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) else { throw error("half a surrogate pair") }
        let low = try hex4()
        guard low & 0xFC00 == 0xDC00 else { throw error("half a surrogate pair") }
        code = 0x10000 + (code & 0x3FF) << 10 + low & 0x3FF
      }
      guard let scalar = Unicode.Scalar(code), let encoded = UTF8.encode(scalar) else {
        throw error("half a surrogate pair")
      }
      text.append(contentsOf: encoded)
    default:
      throw error("an unknown escape")
    }
  }

  private mutating func hex4() throws(JSONSyntaxError) -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = next else { throw error("a string is not closed") }
      let digit: UInt8
      switch byte {
      case 0x30...0x39: digit = byte - 0x30
      case 0x41...0x46: digit = byte - 0x37
      case 0x61...0x66: digit = byte - 0x57
      default: throw error("four hexadecimal digits are missing")
      }
      code = code << 4 + UInt32(digit)
      at += 1
    }
    return code
  }
}
