// A `.env` file, read as docker compose reads it (compose-go, dotenv/parser.go). What compose would take for something that
// nobody can have meant, or would fill in from elsewhere, is refused with a line that says where, and shows no value.

/// `NAME=value` lines: `#` comments, an optional `export`, values bare or in quotes, `NAME: value` as in YAML.
package struct EnvFile: Equatable, Sendable {
  package private(set) var values: [String: String] = [:]
  /// Where each of them was said last.
  package private(set) var lines: [String: Int] = [:]

  package init() {}

  package init(_ bytes: [UInt8]) throws(SettingsError) {
    // Some editors put a byte order mark at the beginning.
    let bytes = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? bytes.dropFirst(3) : bytes[...]
    try Self.check(bytes)
    var reader = EnvReader(rest: bytes)
    while reader.skipToName() {
      let line = reader.line
      let name = try reader.name()
      values[name] = try reader.value(of: name)
      lines[name] = line
    }
  }

  /// Refuses what is no text, or ends its lines in a way that nobody reads.
  private static func check(_ bytes: ArraySlice<UInt8>) throws(SettingsError) {
    let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    for (index, line) in lines.enumerated() {
      if String(validating: line, as: UTF8.self) == nil { throw .inFile(index + 1, "this is no UTF-8 text") }
      let isEnded = index + 1 < lines.count
      for byte in isEnded && line.last == UInt8(ascii: "\r") ? line.dropLast() : line where isControl(byte) {
        let name = byte == UInt8(ascii: "\r") ? "a carriage return that ends no line" : "a control character"
        throw .inFile(index + 1, "there is \(name)")
      }
    }
  }

  private static func isControl(_ byte: UInt8) -> Bool { byte < 0x20 && byte != UInt8(ascii: "\t") || byte == 0x7F }
}

extension SettingsError {
  fileprivate static func inFile(_ line: Int, _ what: String) -> SettingsError {
    SettingsError(".env, line \(line): \(what)")
  }
}

/// Goes through the bytes of a `.env` file.
private struct EnvReader {
  var rest: ArraySlice<UInt8>
  var line = 1

  private static let newline = UInt8(ascii: "\n")

  /// Passes over blanks, empty lines and comments. False at the end of the file.
  mutating func skipToName() -> Bool {
    while true {
      skipBlanks()
      guard let byte = rest.first else { return false }
      if byte == UInt8(ascii: "#") {
        _ = takeLine()
      } else if byte == Self.newline {
        rest.removeFirst()
        line += 1
      } else {
        return true
      }
    }
  }

  /// The name, with what separates it from its value.
  mutating func name() throws(SettingsError) -> String {
    let export = Array("export".utf8)
    if rest.starts(with: export), rest.dropFirst(export.count).first.map(Self.isBlank) ?? false {
      rest = rest.dropFirst(export.count)
      skipBlanks()
    }
    let end = rest.firstIndex { $0 == UInt8(ascii: "=") || $0 == UInt8(ascii: ":") || $0 == Self.newline }
    guard let end, rest[end] != Self.newline, rest[end] == UInt8(ascii: "=") || isFollowedByBlank(end) else {
      // Not shown: it may be the rest of a value.
      throw .inFile(line, "not of the form NAME=value")
    }
    var name = rest[..<end]
    while let last = name.last, Self.isBlank(last) { name.removeLast() }
    guard !name.isEmpty, name.allSatisfy(Self.isOfName) else {
      throw .inFile(line, "what stands before the '\(rest[end] == UInt8(ascii: "=") ? "=" : ":")' is no name")
    }
    rest = rest[(end + 1)...]
    return String(decoding: name, as: UTF8.self)
  }

  /// The value, with the rest of its line.
  mutating func value(of name: String) throws(SettingsError) -> String {
    let start = rest.startIndex
    skipBlanks()
    switch rest.first {
    case UInt8(ascii: "\""), UInt8(ascii: "'"): return try quotedValue(of: name)
    case UInt8(ascii: "#") where rest.startIndex > start:
      throw .inFile(line, "docker compose takes the comment behind \(name)= for its value: remove it, or use quotes")
    default: break
    }
    let line = line
    var bytes = takeLine()
    // A comment begins with a blank and a #.
    if let comment = bytes.indices.dropLast().first(where: { bytes[$0] == 0x20 && bytes[$0 + 1] == UInt8(ascii: "#") })
    {
      bytes = bytes[..<comment]
    }
    var text = Substring(String(decoding: try Self.filledIn(Array(bytes), name, line), as: UTF8.self)).unicodeScalars
    while let last = text.last, last.properties.isWhitespace { text.removeLast() }
    return String(text)
  }

  /// A value in quotes may hold line breaks.
  private mutating func quotedValue(of name: String) throws(SettingsError) -> String {
    let first = line
    let quote = rest.removeFirst()
    var bytes: [UInt8] = []
    while let byte = rest.popFirst() {
      if byte == Self.newline { line += 1 }
      if byte == quote {
        skipBlanks()
        guard let next = rest.first, next != Self.newline, next != UInt8(ascii: "#") else {
          _ = takeLine()
          return String(
            decoding: quote == UInt8(ascii: "'") ? bytes : try Self.filledIn(bytes, name, first), as: UTF8.self)
        }
        throw .inFile(line, "there is text behind the quote that ends \(name)'s value")
      }
      guard byte == UInt8(ascii: "\\"), let next = rest.first else {
        bytes.append(byte)
        continue
      }
      if next == quote {
        bytes.append(rest.removeFirst())
      } else if quote == UInt8(ascii: "'") {
        bytes.append(byte)
        // Of two, the second hides nothing.
        if next == byte { bytes.append(rest.removeFirst()) }
      } else {
        bytes += try Self.unescaped(next, name, line)
        if Self.escapes[next] != nil || next == UInt8(ascii: "$") { rest.removeFirst() }
      }
    }
    throw .inFile(first, "the quote before \(name)'s value is not closed")
  }

  private static let escapes: [UInt8: UInt8] = [
    UInt8(ascii: "a"): 7, UInt8(ascii: "b"): 8, UInt8(ascii: "f"): 12, UInt8(ascii: "n"): 10, UInt8(ascii: "r"): 13,
    UInt8(ascii: "t"): 9, UInt8(ascii: "v"): 11, UInt8(ascii: "\\"): UInt8(ascii: "\\"),
  ]

  /// What a backslash and `next` mean in double quotes; the backslash alone where they mean nothing.
  private static func unescaped(_ next: UInt8, _ name: String, _ line: Int) throws(SettingsError) -> [UInt8] {
    if next == UInt8(ascii: "0") {
      throw .inFile(line, "\(name)'s value has the escape \\0, which is not understood here")
    }
    // As two, which mean one below.
    if next == UInt8(ascii: "$") { return [next, next] }
    return [escapes[next] ?? UInt8(ascii: "\\")]
  }

  /// `$$` is a dollar sign. Compose would put other variables' values in for names behind one.
  private static func filledIn(_ bytes: [UInt8], _ name: String, _ line: Int) throws(SettingsError) -> [UInt8] {
    var result: [UInt8] = []
    var rest = bytes[...]
    while let byte = rest.popFirst() {
      result.append(byte)
      guard byte == UInt8(ascii: "$"), let next = rest.first else { continue }
      if next == byte {
        rest.removeFirst()
      } else if next == UInt8(ascii: "{") || next == UInt8(ascii: "_") || isLetter(next) {
        throw .inFile(
          line, "docker compose would fill in a variable for the $ in \(name)'s value: put the value into single quotes"
        )
      }
    }
    return result
  }

  /// What is left of the line, without its end.
  private mutating func takeLine() -> ArraySlice<UInt8> {
    let taken = rest.prefix { $0 != Self.newline }
    rest = rest[taken.endIndex...].dropFirst()
    line += 1
    return taken
  }

  private mutating func skipBlanks() {
    while let byte = rest.first {
      if Self.isBlank(byte) {
        rest.removeFirst()
      } else if rest.starts(with: [0xC2, 0xA0]) {
        // U+00A0, which looks like a space.
        rest.removeFirst(2)
      } else {
        return
      }
    }
  }

  private func isFollowedByBlank(_ index: Int) -> Bool {
    rest[(index + 1)...].first.map { Self.isBlank($0) || $0 == Self.newline } ?? true
  }

  private static func isBlank(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") || byte == UInt8(ascii: "\r")
  }

  private static func isLetter(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
  }

  private static func isOfName(_ byte: UInt8) -> Bool {
    isLetter(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || "_.-[]".utf8.contains(byte)
  }
}
