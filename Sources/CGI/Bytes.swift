// Comparing and naming stretches of bytes without making a String of each.

import Glibc
import Text

extension Span<UInt8> {
  /// Whether these are exactly the bytes of `text`.
  @inlinable
  package func equals(_ text: StaticString) -> Bool {
    guard count == text.utf8CodeUnitCount else { return false }
    return withUnsafeBytes { bytes in bytes.baseAddress.map { memcmp($0, text.utf8Start, count) == 0 } ?? true }
  }

  /// Whether these are the bytes of `text`, ASCII letters compared without their case.
  package func equalsIgnoringCase(_ text: StaticString) -> Bool {
    guard count == text.utf8CodeUnitCount else { return false }
    for index in indices where self[index].asciiLowercased != text.utf8Start[index].asciiLowercased { return false }
    return true
  }

  /// Whether `segment` stands at the beginning, and then nothing or a slash.
  package func begins(withSegment segment: String) -> Bool {
    var at = 0
    for byte in segment.utf8 {
      guard at < count, self[at] == byte else { return false }
      at += 1
    }
    return at == count || self[at] == UInt8(ascii: "/")
  }

  /// Without the blanks and tabs around it.
  package var trimmed: Span<UInt8> {
    @_lifetime(copy self)
    get {
      var (start, end) = (0, count)
      while start < end, self[start].isBlank { start += 1 }
      while end > start, self[end - 1].isBlank { end -= 1 }
      return extracting(start..<end)
    }
  }

  /// Of what is used as an id, in bytes.
  package static var longestWord: Int { 128 }

  /// Whether these are letters, digits, `.`, `_` and `-` alone, at least one of them and at most `longestWord`. Eight at a time:
  /// each request has one.
  var isPlainWord: Bool {
    guard count > 0, count <= Self.longestWord else { return false }
    return withUnsafeBytes { bytes in
      var at = 0
      while bytes.count - at >= 8 {
        guard bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self).isPlainWord else { return false }
        at += 8
      }
      if at == bytes.count { return true }
      if at > 0 { return bytes.loadUnaligned(fromByteOffset: bytes.count - 8, as: UInt64.self).isPlainWord }
      var word = UInt64.max / 255 &* UInt64(UInt8(ascii: "-"))
      for byte in bytes { word = word << 8 | UInt64(byte) }
      return word.isPlainWord
    }
  }

  /// Whether these are visible ASCII characters alone, and at least one.
  package var isVisible: Bool {
    for index in indices where self[index] &- 0x21 >= 0x5E { return false }
    return !isEmpty
  }

  /// What is not UTF-8 becomes U+FFFD.
  package var text: UTF8Text { UTF8Text(repairing: self) }

  /// A whole number of digits alone; nil if it is none, or more than 63 bits hold.
  package var decimal: Int64? {
    if isEmpty { return nil }
    var value: Int64 = 0
    for index in indices {
      let digit = self[index] &- 0x30
      guard digit < 10 else { return nil }
      let (product, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, carry) = product.addingReportingOverflow(Int64(digit))
      if overflow || carry { return nil }
      value = sum
    }
    return value
  }
}

extension [UInt8] {
  mutating func append(_ literal: StaticString) {
    append(contentsOf: UnsafeBufferPointer(start: literal.utf8Start, count: literal.utf8CodeUnitCount))
  }

  /// A number divided by 10^`decimals`, with as many decimals.
  mutating func append(decimal value: UInt64, decimals: Int = 0) {
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 24) { digits in
      var (rest, first) = (value, digits.count)
      let point = decimals > 0 ? digits.count - decimals - 1 : 0
      repeat {
        first -= 1
        if first == point, decimals > 0 {
          digits[first] = UInt8(ascii: ".")
          first -= 1
        }
        digits[first] = 0x30 + UInt8(truncatingIfNeeded: rest % 10)
        rest /= 10
      } while rest > 0 || (decimals > 0 && first >= point)
      append(contentsOf: UnsafeBufferPointer(rebasing: digits[first...]))
    }
  }

  /// All sixteen hexadecimal digits of a number.
  mutating func append(hexadecimal value: UInt64) {
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 16) { digits in
      for index in digits.indices {
        let digit = UInt8(truncatingIfNeeded: value >> UInt64(60 - 4 * index) & 15)
        digits[index] = digit < 10 ? 0x30 + digit : 0x57 + digit
      }
      append(contentsOf: UnsafeBufferPointer(digits))
    }
  }

  /// Nanoseconds as milliseconds with three decimals.
  mutating func append(milliseconds nanoseconds: UInt64) { append(decimal: nanoseconds / 1_000, decimals: 3) }
}

extension UInt64 {
  /// Whether each of its eight bytes is a letter, a digit, `.`, `_` or `-`.
  fileprivate var isPlainWord: Bool {
    let ones = UInt64.max / 255
    let highest = ones << 7
    // The highest bit of each byte that is from `first` to `last`; no sum goes over into the next, as all are below 0x80.
    func isIn(_ word: UInt64, _ first: UInt8, _ last: UInt8) -> UInt64 {
      (word &+ ones &* UInt64(0x80 - first)) & ~(word &+ ones &* UInt64(0x7F - last))
    }
    let letters = isIn(self | ones << 5, UInt8(ascii: "a"), UInt8(ascii: "z"))
    let others = isIn(self, UInt8(ascii: "-"), UInt8(ascii: ".")) | isIn(self, UInt8(ascii: "_"), UInt8(ascii: "_"))
    let plain = letters | isIn(self, UInt8(ascii: "0"), UInt8(ascii: "9")) | others
    return self & highest == 0 && plain & highest == highest
  }
}

extension UInt8 {
  var isBlank: Bool { self == 0x20 || self == 0x09 }
  var asciiLowercased: UInt8 { self &- 0x41 < 26 ? self | 0x20 : self }
}
