// Entity tags (RFC 9110 §8.8.3): which state of a thing an answer shows, and whether a client means that one.

import Text

/// A strong entity tag.
package enum EntityTag: Equatable, Sendable {
  /// Of a body: what its bytes come to.
  case digest(UInt64)
  /// Of a row: the transaction that wrote it last.
  case row(UInt64)
  /// Of a row with parts: the same, how many parts there are, and the sum of their transactions, which can only grow.
  case rows(UInt64, parts: UInt64, sum: UInt64)

  /// Appends it with its quotes.
  package func write(to bytes: inout [UInt8]) {
    bytes.append(UInt8(ascii: "\""))
    switch self {
    case .digest(let digest): bytes.append(hexadecimal: digest)
    case .row(let row): bytes.append(decimal: row)
    case .rows(let row, let parts, let sum):
      bytes.append(decimal: row)
      bytes.append(UInt8(ascii: "-"))
      bytes.append(decimal: parts)
      bytes.append(UInt8(ascii: "-"))
      bytes.append(decimal: sum)
    }
    bytes.append(UInt8(ascii: "\""))
  }

  /// Whether `list`, the value of an `If-None-Match`, names it: a `*` names all (§13.1.2, weak comparison).
  package func isIn(_ list: Span<UInt8>) -> Bool {
    var own: [UInt8] = []
    write(to: &own)
    var found = false
    Self.forEach(in: list) { tag, _ in
      if tag.equals("*") || tag.count == own.count && tag.indices.allSatisfy({ tag[$0] == own[$0] }) { found = true }
    }
    return found
  }

  /// The tags in the value of an `If-Match` that a state may have, without their quotes; nil for `*` (§13.1.1, strong
  /// comparison). What can't be one of ours is left out.
  package static func strong(in list: Span<UInt8>) -> [UTF8Text]? {
    var tags: [UTF8Text] = []
    var isAny = false
    forEach(in: list) { tag, isWeak in
      if tag.equals("*") { isAny = true }
      guard !isWeak, tag.count > 2, tag.count < 70, tag[0] == UInt8(ascii: "\""), tag[tag.count - 1] == tag[0] else {
        return
      }
      let opaque = tag.extracting(1..<(tag.count - 1))
      if opaque.indices.allSatisfy({ opaque[$0] == UInt8(ascii: "-") || opaque[$0] &- 0x30 < 10 }) {
        tags.append(opaque.text)
      }
    }
    return isAny ? nil : tags
  }

  /// The members of a list, without the space around them and the `W/` before them. A quoted tag may hold commas.
  private static func forEach(in list: Span<UInt8>, _ body: (Span<UInt8>, _ isWeak: Bool) -> Void) {
    var at = 0
    while at < list.count {
      if list[at] == UInt8(ascii: ",") || list[at] == UInt8(ascii: " ") || list[at] == UInt8(ascii: "\t") {
        at += 1
        continue
      }
      let isWeak = list.extracting(at..<list.count).extracting(first: 2).equals("W/")
      if isWeak { at += 2 }
      let start = at
      if at < list.count, list[at] == UInt8(ascii: "\"") {
        at += 1
        while at < list.count, list[at] != UInt8(ascii: "\"") { at += 1 }
        at = min(at + 1, list.count)
      } else {
        while at < list.count, list[at] != UInt8(ascii: ",") { at += 1 }
      }
      body(list.extracting(start..<at), isWeak)
    }
  }
}
