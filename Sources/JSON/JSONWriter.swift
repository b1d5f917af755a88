// Writes JSON as bytes (RFC 8259), with no tree in between. Rows of a database go through here on the hot path.

import Text

/// A growing buffer that JSON is written into piece by piece. It keeps its memory between answers: `take()` copies the
/// bytes out and empties it.
@usableFromInline
package struct JSONWriter: ~Copyable {
  @usableFromInline var start: UnsafeMutablePointer<UInt8>
  @usableFromInline var capacity: Int
  @usableFromInline var used = 0

  /// What a value may have that JSON can't say.
  @usableFromInline
  package enum Flaw: Sendable {
    case text, number
  }

  /// What has been written since the last `take()` is no JSON, or does not say what it should.
  package private(set) var flaw: Flaw?

  /// What is kept of the buffer after a very large answer, in bytes.
  private static let mostKept = 256 << 10

  package init(capacity: Int = 4096) {
    self.capacity = max(capacity, 64)
    start = .allocate(capacity: self.capacity)
  }

  deinit { start.deallocate() }

  /// Bytes written since the last `take()`.
  package var count: Int { used }

  /// Makes space for at least `more` further bytes.
  @inlinable
  package mutating func reserve(_ more: Int) {
    if used &+ more > capacity { grow(by: more) }
  }

  @usableFromInline
  mutating func grow(by more: Int) {
    capacity = max(capacity * 2, used + more)
    let larger = UnsafeMutablePointer<UInt8>.allocate(capacity: capacity)
    larger.update(from: start, count: used)
    start.deallocate()
    start = larger
  }

  /// Copies `bytes` as they are: punctuation, or a value that already is JSON.
  @inlinable
  package mutating func raw(_ bytes: Span<UInt8>) {
    let count = bytes.count
    reserve(count)
    bytes.withUnsafeBufferPointer { source in
      if let base = source.baseAddress { (start + used).update(from: base, count: count) }
    }
    used &+= count
  }

  /// Copies a literal as it is.
  @inlinable @inline(__always)
  package mutating func raw(_ literal: StaticString) {
    let count = literal.utf8CodeUnitCount
    reserve(count)
    (start + used).update(from: literal.utf8Start, count: count)
    used &+= count
  }

  @inlinable
  package mutating func byte(_ byte: UInt8) {
    reserve(1)
    start[used] = byte
    used &+= 1
  }

  /// What was to be written next can't be.
  @usableFromInline
  package mutating func reject(_ flaw: Flaw) { self.flaw = flaw }

  /// A JSON string: quotes, and escapes for `"`, `\` and the control characters (RFC 8259 §7). It is a flaw if it is not UTF-8.
  @inlinable
  package mutating func string(_ text: Span<UInt8>) {
    let count = text.count
    reserve(count &* 6 &+ 2)
    var out = start + used
    out.pointee = UInt8(ascii: "\"")
    out += 1
    text.withUnsafeBufferPointer { source in
      let plain = JSONWriter.plainPrefix(source)
      if let base = source.baseAddress { out.update(from: base, count: plain) }
      out += plain
      if plain < count { escape(source, from: plain, to: &out) }
    }
    out.pointee = UInt8(ascii: "\"")
    used = out - start + 1
  }

  /// What is left of a string that is not plain ASCII. Apart from the rest, as most strings are that.
  @usableFromInline
  mutating func escape(_ text: UnsafeBufferPointer<UInt8>, from plain: Int, to out: inout UnsafeMutablePointer<UInt8>) {
    let bytes = UnsafeRawBufferPointer(text)
    var index = plain
    while index &+ 8 <= bytes.count {
      let word = bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)
      guard JSONWriter.needsNoEscape(word) else { break }
      UnsafeMutableRawPointer(out).storeBytes(of: word, as: UInt64.self)
      out += 8
      index &+= 8
    }
    while index < text.count {
      JSONWriter.escape(text[index], to: &out)
      index &+= 1
    }
    do throws(UTF8.ValidationError) { _ = try UTF8Span(validating: text.span) } catch { reject(.text) }
  }

  package mutating func string(_ text: String) {
    var text = text
    text.withUTF8 { string(Span(_unsafeElements: $0)) }
  }

  package mutating func string(_ text: UTF8Text) { text.withBytes { string($0) } }

  /// An unsigned number's digits.
  package mutating func unsigned(_ value: UInt64) {
    reserve(20)
    var rest = value
    var length = 1
    while rest >= 10 {
      rest /= 10
      length += 1
    }
    rest = value
    for index in stride(from: used + length - 1, through: used, by: -1) {
      start[index] = 0x30 + UInt8(truncatingIfNeeded: rest % 10)
      rest /= 10
    }
    used += length
  }

  package mutating func integer(_ value: some BinaryInteger) { raw(String(value).utf8.span) }

  /// A number's text as PostgreSQL writes it, where a column may have something else. It is a flaw if it is NULL, infinite or no
  /// number: those that JSON has end in a digit.
  @inlinable @inline(__always)
  package mutating func number(_ text: Span<UInt8>) {
    if text.count == 0 || text[unchecked: text.count &- 1] &- 0x30 > 9 { reject(.number) }
    raw(text)
  }

  /// A decimal's text without the zeros that close its fraction: `1.2500` becomes `1.25`, `3.00` becomes `3`.
  @inlinable
  package mutating func decimal(_ text: Span<UInt8>) {
    var end = text.count
    text.withUnsafeBufferPointer { digits in
      if digits.contains(UInt8(ascii: ".")) {
        while digits[end &- 1] == UInt8(ascii: "0") { end &-= 1 }
        if digits[end &- 1] == UInt8(ascii: ".") { end &-= 1 }
      }
    }
    raw(text.extracting(first: end))
  }

  /// The bytes written, and an empty writer.
  package mutating func take() -> [UInt8] {
    let bytes = [UInt8](UnsafeBufferPointer(start: start, count: used))
    used = 0
    flaw = nil
    if capacity > Self.mostKept {
      start.deallocate()
      capacity = 4096
      start = .allocate(capacity: capacity)
    }
    return bytes
  }

  /// How many bytes at the start are ASCII that needs no escape, looked at eight at a time, the last eight once more where fewer
  /// are left.
  @inlinable
  static func plainPrefix(_ text: UnsafeBufferPointer<UInt8>) -> Int {
    let bytes = UnsafeRawBufferPointer(text)
    var index = 0
    if bytes.count >= 8 {
      let last = bytes.count &- 8
      while index < last, isPlain(bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)) { index &+= 8 }
      if index >= last, isPlain(bytes.loadUnaligned(fromByteOffset: last, as: UInt64.self)) { return bytes.count }
    }
    while index < bytes.count, bytes[index] < 0x80, !needsEscape(bytes[index]) { index &+= 1 }
    return index
  }

  /// The classic test for a zero byte, on the word with quotes and backslashes made zero, and for a byte below 0x20, of ASCII.
  @inlinable @inline(__always)
  static func isPlain(_ word: UInt64) -> Bool {
    let (ones, highs): (UInt64, UInt64) = (0x0101_0101_0101_0101, 0x8080_8080_8080_8080)
    let quote = word ^ (ones &* 0x22)
    let backslash = word ^ (ones &* 0x5C)
    return ((quote &- ones) | (backslash &- ones) | (word &- ones &* 0x20) | word) & highs == 0
  }

  /// The same of any bytes.
  static func needsNoEscape(_ word: UInt64) -> Bool {
    let (ones, highs): (UInt64, UInt64) = (0x0101_0101_0101_0101, 0x8080_8080_8080_8080)
    let quote = word ^ (ones &* 0x22)
    let backslash = word ^ (ones &* 0x5C)
    let found =
      ((quote &- ones) & ~quote) | ((backslash &- ones) & ~backslash) | ((word &- ones &* 0x20) & ~word)
    return found & highs == 0
  }

  @inlinable @inline(__always)
  static func needsEscape(_ byte: UInt8) -> Bool {
    byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\")
  }

  @usableFromInline
  static func escape(_ byte: UInt8, to out: inout UnsafeMutablePointer<UInt8>) {
    func put(_ byte: UInt8) {
      out.pointee = byte
      out += 1
    }
    guard needsEscape(byte) else { return put(byte) }
    put(UInt8(ascii: "\\"))
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"): put(byte)
    case 0x08: put(UInt8(ascii: "b"))
    case 0x09: put(UInt8(ascii: "t"))
    case 0x0A: put(UInt8(ascii: "n"))
    case 0x0C: put(UInt8(ascii: "f"))
    case 0x0D: put(UInt8(ascii: "r"))
    default:
      for character in "u00".utf8 { put(character) }
      for nibble in [byte >> 4, byte & 15] { put(nibble < 10 ? 0x30 + nibble : 0x57 + nibble) }
    }
  }
}
