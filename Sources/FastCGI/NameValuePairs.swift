// Name-value pairs (FastCGI 1.0 §3.4), as PARAMS and management records carry them.

/// Where a pair's name and value stand in the bytes that were walked over.
package struct NameValuePair: Equatable {
  package let name: Range<Int>
  package let value: Range<Int>
}

/// A walk over complete content, bounds checked at every step.
package struct NameValuePairs {
  /// The bytes end in the middle of a pair.
  package struct Truncated: Error, Equatable {}

  private var position = 0

  package init() {}

  /// The next pair of `bytes`; nil at their end.
  package mutating func next(_ bytes: Span<UInt8>) throws(Truncated) -> NameValuePair? {
    if position == bytes.count { return nil }
    let nameLength = try length(bytes)
    let valueLength = try length(bytes)
    guard nameLength <= bytes.count - position, valueLength <= bytes.count - position - nameLength else {
      throw Truncated()
    }
    let name = position..<position + nameLength
    let value = name.upperBound..<name.upperBound + valueLength
    position = value.upperBound
    return NameValuePair(name: name, value: value)
  }

  /// One byte up to 127, or four with the highest bit set.
  private mutating func length(_ bytes: Span<UInt8>) throws(Truncated) -> Int {
    guard position < bytes.count else { throw Truncated() }
    let first = Int(bytes[position])
    guard first >= 0x80 else {
      position += 1
      return first
    }
    guard bytes.count - position >= 4 else { throw Truncated() }
    let length =
      (first & 0x7F) << 24 | Int(bytes[position + 1]) << 16 | Int(bytes[position + 2]) << 8 | Int(bytes[position + 3])
    position += 4
    return length
  }

  /// Appends a pair in its shortest form.
  package static func append(_ name: some Collection<UInt8>, _ value: some Collection<UInt8>, to bytes: inout [UInt8]) {
    for count in [name.count, value.count] {
      if count < 0x80 {
        bytes.append(UInt8(count))
      } else {
        bytes += [
          UInt8(count >> 24 & 0x7F) | 0x80, UInt8(count >> 16 & 0xFF), UInt8(count >> 8 & 0xFF), UInt8(count & 0xFF),
        ]
      }
    }
    bytes += name
    bytes += value
  }
}
