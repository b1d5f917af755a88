// Text that came from outside: what a client, a peer or a row has in it.

import Glibc

/// UTF-8 that somebody else has written: compared, ordered and hashed by its bytes, and by nothing else.
///
/// `String` normalizes for each `==`, hash, `switch`, `contains` and `hasPrefix` (canonical equivalence, Unicode §3.7). The
/// time that takes is quadratic in the length of a run of combining marks out of order, so that one key of a megabyte keeps a
/// process busy for minutes; and it takes different keys, in NFC and in NFD, for one. Here both costs no more than a look at
/// each byte. What was sent becomes a `String` by `string` alone, to be written out and never to be compared.
package struct UTF8Text: Sendable {
  /// Most names and words need no memory of their own, and are equal if two words are.
  @usableFromInline
  enum Storage: Sendable {
    /// At most 15 bytes, the first the lowest, zeros behind them, and how many they are in the highest.
    case short(UInt64, UInt64)
    /// More than 15.
    case long([UInt8])
  }

  @usableFromInline static let longestShort = 15
  @usableFromInline let storage: Storage

  @inlinable
  init(storage: Storage) { self.storage = storage }

  /// Of the program's own text, or of text that is to be treated like somebody else's.
  package init(_ string: String) {
    var string = string
    self = string.withUTF8 { UTF8Text(trusting: UnsafeRawBufferPointer($0)) }
  }

  /// Nil if the bytes are not UTF-8.
  package init?(validating bytes: Span<UInt8>) {
    let text = bytes.withUnsafeBytes { bytes -> UTF8Text? in
      if bytes.count > Self.longestShort { return nil }
      let text = UTF8Text(trusting: bytes)
      guard case .short(let low, let high) = text.storage, (low | high) & 0x8080_8080_8080_8080 == 0 else { return nil }
      return text
    }
    if let text {
      self = text
      return
    }
    do throws(UTF8.ValidationError) { _ = try UTF8Span(validating: bytes) } catch { return nil }
    self = bytes.withUnsafeBytes { UTF8Text(trusting: $0) }
  }

  /// What is not UTF-8 becomes U+FFFD.
  package init(repairing bytes: Span<UInt8>) {
    self =
      UTF8Text(validating: bytes) ?? UTF8Text(bytes.withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) })
  }

  /// `bytes` must be UTF-8.
  private init(trusting bytes: UnsafeRawBufferPointer) {
    let count = bytes.count
    guard count <= Self.longestShort else {
      storage = .long(Array(bytes))
      return
    }
    var (low, high): (UInt64, UInt64) = (0, 0)
    if count >= 8 {
      low = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
      let last = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: count - 8, as: UInt64.self))
      // Of the last eight those that are not among the first.
      high = last >> UInt64(8 * (16 - count))
    } else {
      for index in bytes.indices { low |= UInt64(bytes[index]) << UInt64(8 * index) }
    }
    storage = .short(low, high | UInt64(count) << 56)
  }

  /// Hands the bytes over for as long as `body` takes.
  @inlinable
  package func withBytes<Result: ~Copyable>(_ body: (Span<UInt8>) -> Result) -> Result {
    switch storage {
    case .short(let low, let high):
      return withUnsafeBytes(of: (low.littleEndian, high.littleEndian)) {
        body(Span(_unsafeBytes: UnsafeRawBufferPointer(rebasing: $0[..<Int(high >> 56)])))
      }
    case .long(let bytes): return body(bytes.span)
    }
  }

  /// Bytes.
  @inlinable
  package var count: Int {
    switch storage {
    case .short(_, let high): Int(high >> 56)
    case .long(let bytes): bytes.count
    }
  }

  package var isEmpty: Bool { count == 0 }

  package func contains(_ byte: UInt8) -> Bool {
    withBytes { $0.withUnsafeBufferPointer { $0.contains(byte) } }
  }

  /// Code points, as PostgreSQL and JSON Schema count a text's length.
  package var codePointCount: Int {
    withBytes { $0.withUnsafeBufferPointer { $0.count { $0 & 0xC0 != 0x80 } } }
  }

  /// Whether there is nothing but white space (Unicode's property).
  package var isBlank: Bool {
    let isPlain = withBytes { bytes -> Bool? in
      for index in bytes.indices where bytes[index] != 0x20 && bytes[index] &- 9 >= 5 {
        return bytes[index] < 0x80 ? false : nil
      }
      return true
    }
    return isPlain ?? string.unicodeScalars.allSatisfy(\.properties.isWhitespace)
  }

  /// For writing out. Whoever compares it has the fault that this type is there against.
  package var string: String {
    withBytes { $0.withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) } }
  }

  /// At most `most` bytes of it, none of them half a code point.
  package func prefix(_ most: Int) -> UTF8Text {
    if count <= most { return self }
    return withBytes { bytes in
      var end = max(most, 0)
      while end > 0, bytes[end] & 0xC0 == 0x80 { end -= 1 }
      return bytes.extracting(first: end).withUnsafeBytes { UTF8Text(trusting: $0) }
    }
  }
}

extension UTF8Text: Hashable, Comparable {
  @inlinable
  package static func == (left: UTF8Text, right: UTF8Text) -> Bool {
    switch (left.storage, right.storage) {
    case (.short(let low, let high), .short(let otherLow, let otherHigh)): low == otherLow && high == otherHigh
    case (.long(let bytes), .long(let others)): bytes == others
    default: false
    }
  }

  package static func < (left: UTF8Text, right: UTF8Text) -> Bool {
    left.withBytes { bytes in
      right.withBytes { others in
        let shared = min(bytes.count, others.count)
        let order = bytes.withUnsafeBytes { bytes in
          others.withUnsafeBytes { others in
            guard let base = bytes.baseAddress, let other = others.baseAddress else { return 0 as Int32 }
            return memcmp(base, other, shared)
          }
        }
        return order == 0 ? bytes.count < others.count : order < 0
      }
    }
  }

  package func hash(into hasher: inout Hasher) {
    switch storage {
    case .short(let low, let high):
      hasher.combine(low)
      hasher.combine(high)
    case .long(let bytes): bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
    }
  }
}

extension UTF8Text: ExpressibleByStringInterpolation {
  package init(stringLiteral value: String) { self.init(value) }
}

extension UTF8Text: CustomStringConvertible {
  package var description: String { string }
}
