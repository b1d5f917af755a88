// What strace says of a descriptor (`-yy`): a number, and in angle brackets what it stands for.

import Platform

/// A descriptor as an argument or as a result.
package struct TracedDescriptor: Equatable, Sendable {
  package enum Kind: Equatable, Sendable {
    case tcp(local: String, peer: String?)
    /// A Unix socket: its inode, that of the other end where it is connected, and the path that it is bound to.
    case unix(inode: String, peer: String?, path: String?)
    /// `eventpoll`, `eventfd`, `signalfd` and their like.
    case anonymous(String)
    /// A file's path, or what else the kernel calls it.
    case other(String)
  }

  package let number: Int
  package let kind: Kind

  /// Nil for what is no descriptor.
  package init?(_ text: String) {
    guard text.utf8.last == UInt8(ascii: ">"), let (digits, rest) = text.halves(by: "<"), let number = Int(digits)
    else {
      return nil
    }
    self.number = number
    let name = Substring(rest.utf8.dropLast())
    if let inside = Self.inside(name, of: "anon_inode:[") {
      kind = .anonymous(String(inside))
    } else if let inside = Self.inside(name, of: "TCP:[") ?? Self.inside(name, of: "TCPv6:[") {
      let ends = Self.ends(inside)
      kind = .tcp(local: ends.one, peer: ends.other)
    } else if let inside = Self.inside(name, of: "UNIX-STREAM:[") {
      let parts = inside.halves(by: ",")
      let ends = Self.ends(parts?.0 ?? inside)
      // In quotes.
      kind = .unix(
        inode: ends.one, peer: ends.other, path: parts.map { String(Substring($0.1.utf8.dropFirst().dropLast())) })
    } else {
      kind = .other(String(name))
    }
  }

  /// What stands between a beginning and a closing bracket.
  private static func inside(_ text: Substring, of beginning: String) -> Substring? {
    guard text.hasPrefix(beginning), text.utf8.last == UInt8(ascii: "]") else { return nil }
    return Substring(text.utf8.dropFirst(beginning.utf8.count).dropLast())
  }

  /// `one->other`, or one alone.
  private static func ends(_ text: Substring) -> (one: String, other: String?) {
    guard let (one, rest) = text.halves(by: ">"), one.utf8.last == UInt8(ascii: "-") else { return (String(text), nil) }
    return (String(one.dropLast()), String(rest))
  }
}
