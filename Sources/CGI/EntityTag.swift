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
  package func isIn(_ list: Span<UInt8>) -> Bool { isIn(list, comparingWeakly: true) }

  /// Whether `list`, the value of an `If-Match`, names it (§13.1.1, strong comparison).
  package func isStronglyIn(_ list: Span<UInt8>) -> Bool { isIn(list, comparingWeakly: false) }

  private func isIn(_ list: Span<UInt8>, comparingWeakly: Bool) -> Bool {
    let own = opaque
    var found = false
    Self.forEach(in: list) { member, isWeak in
      if member.equals("*") { found = true }
      guard comparingWeakly || !isWeak, let tag = Self.opaque(member) else { return }
      if tag.equals(own.span) || Self.withoutCoding(tag).equals(own.span) { found = true }
    }
    return found
  }

  /// Without its quotes.
  package var opaque: [UInt8] {
    var bytes: [UInt8] = []
    write(to: &bytes)
    return Array(bytes.dropFirst().dropLast())
  }

  /// The tags in the value of an `If-Match` that a state may have, without their quotes; nil for `*` (§13.1.1, strong
  /// comparison). What can't be one of ours is left out.
  package static func strong(in list: Span<UInt8>) -> [UTF8Text]? {
    var tags: [UTF8Text] = []
    var isAny = false
    forEach(in: list) { member, isWeak in
      if member.equals("*") { isAny = true }
      guard !isWeak, let whole = opaque(member) else { return }
      let tag = withoutCoding(whole)
      guard !tag.isEmpty, tag.count < 68 else { return }
      if tag.indices.allSatisfy({ tag[$0] &- 0x30 < 10 || tag[$0] &- 0x61 < 6 }) { tags.append(tag.text) }
    }
    return isAny ? nil : tags
  }

  /// Whether there is anything in a list.
  package static func hasMembers(_ list: Span<UInt8>) -> Bool {
    var count = 0
    forEach(in: list) { _, _ in count += 1 }
    return count > 0
  }

  /// Whether a list is what it should be: `*`, or tags with commas between them.
  package static func isWellFormed(_ list: Span<UInt8>) -> Bool {
    if list.trimmed.equals("*") { return true }
    var at = 0
    while at < list.count {
      var end = at
      var isQuoted = false
      while end < list.count, isQuoted || list[end] != UInt8(ascii: ",") {
        if list[end] == UInt8(ascii: "\"") { isQuoted.toggle() }
        end += 1
      }
      let member = list.extracting(at..<end).trimmed
      let prefix = member.extracting(first: 2).equals("W/") ? 2 : 0
      if !member.isEmpty, !isTag(member.extracting(droppingFirst: prefix)) { return false }
      at = end + 1
    }
    return true
  }

  private static func isTag(_ member: Span<UInt8>) -> Bool {
    guard let tag = opaque(member) else { return false }
    return tag.indices.allSatisfy { tag[$0] > 0x20 && tag[$0] != UInt8(ascii: "\"") && tag[$0] != 0x7F }
  }

  /// A member of a list without its quotes; nil if it has none.
  @_lifetime(copy member)
  private static func opaque(_ member: Span<UInt8>) -> Span<UInt8>? {
    guard member.count > 1, member[0] == UInt8(ascii: "\""), member[member.count - 1] == UInt8(ascii: "\"") else {
      return nil
    }
    return member.extracting(1..<(member.count - 1))
  }

  /// The codings that servers name at the end of a tag, behind one or two of `-`, `;`, `:`, `+`, `.` and `_`: Apache, Caddy and
  /// lighttpd write `-gzip`, Jetty `--gzip`, some caches `;gzip`. No tag of ours ends so. What was compressed twice has two.
  private static let codings: [StaticString] = [
    "gzip", "x-gzip", "br", "brotli", "zstd", "deflate", "compress", "x-compress", "bzip2", "identity", "dcb", "dcz",
    "df",
  ]

  /// Without what compressing servers have put at its end, each what it has done.
  @_lifetime(copy tag)
  private static func withoutCoding(_ tag: Span<UInt8>) -> Span<UInt8> {
    var rest = tag
    while let coding = codings.first(where: { rest.endsAfterMark(with: $0) }) {
      rest = rest.extracting(droppingLast: coding.utf8CodeUnitCount + 1)
      if let last = rest.indices.last, rest[last].isMark { rest = rest.extracting(droppingLast: 1) }
    }
    return rest
  }

  /// The members of a list, without the space around them and the `W/` before them. A quoted tag may hold commas.
  private static func forEach(in list: Span<UInt8>, _ body: (Span<UInt8>, _ isWeak: Bool) -> Void) {
    var at = 0
    while at < list.count {
      if list[at] == UInt8(ascii: ",") || list[at].isBlank {
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
      body(list.extracting(start..<at).trimmed, isWeak)
    }
  }
}

extension Span<UInt8> {
  fileprivate func equals(_ other: Span<UInt8>) -> Bool {
    count == other.count && indices.allSatisfy { self[$0] == other[$0] }
  }

  fileprivate func endsAfterMark(with coding: StaticString) -> Bool {
    let rest = count - coding.utf8CodeUnitCount
    return rest > 0 && extracting(droppingFirst: rest).equalsIgnoringCase(coding) && self[rest - 1].isMark
  }
}

extension UInt8 {
  fileprivate var isMark: Bool {
    switch self {
    case UInt8(ascii: "-"), UInt8(ascii: ";"), UInt8(ascii: ":"), UInt8(ascii: "+"), UInt8(ascii: "."),
      UInt8(ascii: "_"):
      true
    default: false
    }
  }
}
