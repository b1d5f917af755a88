// Comparing and naming stretches of bytes without making a String of each.

extension Span<UInt8> {
  /// Whether these are exactly the bytes of `text`.
  @inlinable
  package func equals(_ text: StaticString) -> Bool {
    guard count == text.utf8CodeUnitCount else { return false }
    for index in indices where self[unchecked: index] != text.utf8Start[index] { return false }
    return true
  }

  /// Whether these are the bytes of `text`, ASCII letters compared without their case.
  package func equalsIgnoringCase(_ text: StaticString) -> Bool {
    guard count == text.utf8CodeUnitCount else { return false }
    for index in indices where self[index].asciiLowercased != text.utf8Start[index].asciiLowercased { return false }
    return true
  }

  /// As text; what is not UTF-8 becomes U+FFFD.
  package var string: String { withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) } }
}

extension [UInt8] {
  mutating func append(_ literal: StaticString) {
    append(contentsOf: UnsafeBufferPointer(start: literal.utf8Start, count: literal.utf8CodeUnitCount))
  }

  /// A number's digits in `base`, with at least `width` of them.
  mutating func append(decimal value: UInt64, width: Int = 1, base: UInt64 = 10) {
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 20) { digits in
      var (rest, first) = (value, digits.count)
      while rest > 0 || first > digits.count - width {
        let digit = UInt8(truncatingIfNeeded: rest % base)
        first -= 1
        digits[first] = digit < 10 ? 0x30 + digit : 0x57 + digit
        rest /= base
      }
      append(contentsOf: digits[first...])
    }
  }

  /// Nanoseconds as milliseconds with three decimals.
  mutating func append(milliseconds nanoseconds: UInt64) {
    append(decimal: nanoseconds / 1_000_000)
    append(UInt8(ascii: "."))
    append(decimal: nanoseconds / 1_000 % 1_000, width: 3)
  }
}

extension UInt8 {
  var asciiLowercased: UInt8 { self &- 0x41 < 26 ? self | 0x20 : self }
}
