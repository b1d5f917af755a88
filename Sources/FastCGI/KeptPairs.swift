// What is kept of a header that nobody wants to read: enough to answer it as every other request is answered.

/// A walk over PARAMS as they come, in pieces cut anywhere, of which only a few short pairs are kept.
struct KeptPairs {
  /// How the request is to be answered, and by which id it is known.
  private static let names: [StaticString] = [
    "REQUEST_METHOD", "HTTP_X_REQUEST_ID", "UNIQUE_ID", "REQUEST_ID", "HTTP_TRACEPARENT",
  ]
  /// The longest name with a value that is of use.
  private static let longest = 320

  /// Whole pairs, as they came; each name once.
  private(set) var params: [UInt8] = []
  /// The lengths of the next pair, and then the pair itself if it is short.
  private var gathered: [UInt8] = []
  /// Bytes of a pair that is not kept.
  private var skipped = 0

  init(of params: [UInt8]) { take(params.span) }

  mutating func take(_ bytes: Span<UInt8>) {
    var at = 0
    while at < bytes.count {
      if skipped > 0 {
        let count = min(skipped, bytes.count - at)
        (skipped, at) = (skipped - count, at + count)
        continue
      }
      gathered.append(bytes[at])
      at += 1
      guard let (lengths, name, value) = Self.lengths(gathered.span) else { continue }
      if lengths == gathered.count, name + value > Self.longest {
        gathered.removeAll(keepingCapacity: true)
        skipped = name + value
      } else if gathered.count == lengths + name + value {
        if isOfUse(gathered.span.extracting(lengths..<lengths + name)) { params += gathered }
        gathered.removeAll(keepingCapacity: true)
      }
    }
  }

  private func isOfUse(_ name: Span<UInt8>) -> Bool {
    var isKnown = false
    for known in Self.names where name.isEqual(known) { isKnown = true }
    guard isKnown else { return false }
    var walk = NameValuePairs()
    while let pair = try? walk.next(params.span) {
      let other = params.span.extracting(pair.name)
      if other.count == name.count, other.indices.allSatisfy({ other[$0] == name[$0] }) { return false }
    }
    return true
  }

  /// How many bytes the two lengths of a pair take, and what they are; nil while they have not come (§3.4).
  private static func lengths(_ bytes: Span<UInt8>) -> (Int, name: Int, value: Int)? {
    var at = 0
    var found: (Int, Int) = (0, 0)
    for index in 0..<2 {
      guard at < bytes.count else { return nil }
      var length = Int(bytes[at])
      if length >= 0x80 {
        guard bytes.count - at >= 4 else { return nil }
        length =
          (length & 0x7F) << 24 | Int(bytes[at + 1]) << 16 | Int(bytes[at + 2]) << 8 | Int(bytes[at + 3])
        at += 3
      }
      at += 1
      if index == 0 { found.0 = length } else { found.1 = length }
    }
    return (at, found.0, found.1)
  }
}

extension Span<UInt8> {
  fileprivate func isEqual(_ text: StaticString) -> Bool {
    count == text.utf8CodeUnitCount && indices.allSatisfy { self[$0] == text.utf8Start[$0] }
  }
}
