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

  /// Whether `list`, the value of an `If-None-Match`, names it: a `*` names all (§13.1.2, weak comparison). Nil if it is no list.
  package func isIn(_ list: Span<UInt8>) -> Bool? { isIn(list, comparingWeakly: true) }

  /// Whether `list`, the value of an `If-Match`, names it (§13.1.1, strong comparison). Nil if it is no list.
  package func isStronglyIn(_ list: Span<UInt8>) -> Bool? { isIn(list, comparingWeakly: false) }

  private func isIn(_ list: Span<UInt8>, comparingWeakly: Bool) -> Bool? {
    let own = opaque
    var found = false
    let form = Self.read(list) { tag, isWeak in
      guard comparingWeakly || !isWeak else { return }
      if tag.equals(own.span) || Self.withoutCoding(tag).equals(own.span) { found = true }
    }
    switch form {
    case .malformed: return nil
    case .any: return true
    case .tags, .empty: return found
    }
  }

  /// Without its quotes.
  package var opaque: [UInt8] {
    var bytes: [UInt8] = []
    write(to: &bytes)
    return Array(bytes.dropFirst().dropLast())
  }

  /// What an `If-Match` asks for (§13.1.1).
  package enum Wanted: Equatable {
    /// One of these tags, without their quotes (strong comparison). What can't be one of ours is left out.
    case oneOf([UTF8Text])
    case any
    /// Nobody knows: it is no list.
    case unclear
  }

  package static func wanted(by list: Span<UInt8>) -> Wanted {
    var tags: [UTF8Text] = []
    let form = read(list) { whole, isWeak in
      if isWeak { return }
      let tag = withoutCoding(whole)
      guard !tag.isEmpty, tag.count < 68 else { return }
      if tag.indices.allSatisfy({ tag[$0] &- 0x30 < 10 || tag[$0] &- 0x61 < 6 }) { tags.append(tag.text) }
    }
    switch form {
    case .malformed: return .unclear
    case .any: return .any
    case .tags, .empty: return .oneOf(tags)
    }
  }

  /// Whether a list is one that has nothing in it.
  package static func isEmpty(_ list: Span<UInt8>) -> Bool { read(list) { _, _ in } == .empty }

  private enum Form {
    case any, tags, empty, malformed
  }

  /// The one reader of an `If-Match` and of an `If-None-Match`: `*`, or tags with commas between them, of which there may be more
  /// than it takes (§13.1.1, §5.6.1.2). `take` gets each tag without its quotes; of a list that is malformed some.
  private static func read(_ list: Span<UInt8>, _ take: (Span<UInt8>, _ isWeak: Bool) -> Void) -> Form {
    if list.trimmed.equals("*") { return .any }
    var form = Form.empty
    var at = 0
    while at < list.count {
      if list[at] == UInt8(ascii: ",") || list[at].isBlank {
        at += 1
        continue
      }
      let isWeak = list.extracting(droppingFirst: at).extracting(first: 2).equals("W/")
      let quote = isWeak ? at + 2 : at
      guard quote < list.count, list[quote] == UInt8(ascii: "\"") else { return .malformed }
      var end = quote + 1
      while end < list.count, list[end].isOfTag { end += 1 }
      guard end < list.count, list[end] == UInt8(ascii: "\"") else { return .malformed }
      take(list.extracting(quote + 1..<end), isWeak)
      form = .tags
      at = end + 1
      while at < list.count, list[at].isBlank { at += 1 }
      guard at == list.count || list[at] == UInt8(ascii: ",") else { return .malformed }
    }
    return form
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
  /// `etagc` (§8.8.3).
  fileprivate var isOfTag: Bool { self > 0x20 && self != UInt8(ascii: "\"") && self != 0x7F }

  fileprivate var isMark: Bool {
    switch self {
    case UInt8(ascii: "-"), UInt8(ascii: ";"), UInt8(ascii: ":"), UInt8(ascii: "+"), UInt8(ascii: "."),
      UInt8(ascii: "_"):
      true
    default: false
    }
  }
}
