// Text that came from outside: what a client, a peer or a row has in it.

import Glibc

/// UTF-8 that somebody else has written: compared, ordered and hashed by its bytes, and by nothing else.
///
/// `String` normalizes for each `==`, hash, `switch`, `contains` and `hasPrefix` (canonical equivalence, Unicode §3.7). The
/// time that takes is quadratic in the length of a run of combining marks out of order, so that one key of a megabyte keeps a
/// process busy for minutes; and it takes different keys, in NFC and in NFD, for one. Here both costs no more than a look at
/// each byte. What was sent becomes a `String` by `string` alone, to be written out and never to be compared.
package struct UTF8Text: Sendable {
  /// Nothing but a place for the bytes: up to 15 of them need no memory of their own.
  @usableFromInline let storage: String

  /// Of the program's own text, or of text that is to be treated like somebody else's.
  @inlinable
  package init(_ string: String) { storage = string }

  /// Nil if the bytes are not UTF-8.
  package init?(validating bytes: Span<UInt8>) {
    do throws(UTF8.ValidationError) {
      storage = String(copying: try UTF8Span(validating: bytes))
    } catch {
      return nil
    }
  }

  /// What is not UTF-8 becomes U+FFFD.
  package init(repairing bytes: Span<UInt8>) {
    storage = bytes.withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) }
  }

  @inlinable
  package var bytes: Span<UInt8> {
    @_lifetime(borrow self) get { storage.utf8Span.span }
  }

  /// Bytes.
  @inlinable
  package var count: Int { storage.utf8.count }

  @inlinable
  package var isEmpty: Bool { count == 0 }

  /// Code points, as PostgreSQL and JSON Schema count a text's length.
  package var codePointCount: Int { storage.unicodeScalars.count }

  package var isBlank: Bool { storage.unicodeScalars.allSatisfy(\.properties.isWhitespace) }

  package func contains(_ byte: UInt8) -> Bool { storage.utf8.contains(byte) }

  /// For writing out. Whoever compares it has the fault that this type is there against.
  package var string: String { storage }

  /// At most `most` bytes of it, none of them half a code point.
  package func prefix(_ most: Int) -> UTF8Text {
    if count <= most { return self }
    var end = max(most, 0)
    let bytes = bytes
    while end > 0, bytes[end] & 0xC0 == 0x80 { end -= 1 }
    return UTF8Text(repairing: bytes.extracting(first: end))
  }
}

extension UTF8Text: Hashable, Comparable {
  @inlinable
  package static func == (left: UTF8Text, right: UTF8Text) -> Bool {
    left.count == right.count && left.comparison(right) == 0
  }

  package static func < (left: UTF8Text, right: UTF8Text) -> Bool {
    let comparison = left.comparison(right)
    return comparison == 0 ? left.count < right.count : comparison < 0
  }

  /// Of as many bytes as both have.
  @usableFromInline
  func comparison(_ other: UTF8Text) -> Int32 {
    bytes.withUnsafeBytes { bytes in
      other.bytes.withUnsafeBytes { others in
        guard let base = bytes.baseAddress, let other = others.baseAddress else { return 0 }
        return memcmp(base, other, min(bytes.count, others.count))
      }
    }
  }

  package func hash(into hasher: inout Hasher) {
    hasher.combine(count)
    bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
  }
}

extension UTF8Text: ExpressibleByStringInterpolation {
  @inlinable
  package init(stringLiteral value: String) { storage = value }
}

extension UTF8Text: CustomStringConvertible {
  package var description: String { storage }
}
