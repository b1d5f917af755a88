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

extension UInt8 {
  var asciiLowercased: UInt8 { self &- 0x41 < 26 ? self | 0x20 : self }
}
