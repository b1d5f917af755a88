// Entity tags (RFC 9110 §8.8.3): which state of a thing an answer shows, and whether a client means that one.

import Text

/// A strong entity tag: what all that an answer shows comes to. Of the same path, two answers that differ have the same one by
/// chance only, 1 in 2^64, wherever the database has come from: a number of a version alone would come again after a restore, a
/// failover or a change that was begun before another and ended after it. What is left: who can write to the database and puts
/// his mind to it can find two contents with one digest, as none of those used is made to withstand that.
package struct EntityTag: Equatable, Sendable {
  let digest: UInt64

  package init(digest: UInt64) { self.digest = digest }

  /// Appends it with its quotes.
  package func write(to bytes: inout [UInt8]) {
    bytes.append(UInt8(ascii: "\""))
    bytes.append(hexadecimal: digest)
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
      if opaque.indices.allSatisfy({ opaque[$0] &- 0x30 < 10 || opaque[$0] &- 0x61 < 6 }) {
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
