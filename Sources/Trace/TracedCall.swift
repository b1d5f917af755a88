// A system call as strace tells it, in a line of `strace -ttt -T -yy -s 1` that holds nothing of another process.

import Platform

/// A system call that was traced. Times are microseconds since 1970, as the system clock has them.
package struct TracedCall: Equatable, Sendable {
  package let name: String
  package let arguments: [String]
  /// All that stands behind the equals sign: `12`, `-1 EAGAIN (Resource temporarily unavailable)`, `9<TCP:[…]>`. Nil: it has not
  /// returned.
  package let result: String?
  package let began: Int64
  package let took: Int64?

  /// Nil for a line that is about something else: a signal, the end of the process.
  package init?(_ line: some StringProtocol) {
    guard let (time, text) = line.halves(by: " "), let began = Self.microseconds(time) else { return nil }
    guard let (name, rest) = text.halves(by: "("), !name.isEmpty, name.utf8.allSatisfy(Self.isOfName) else {
      return nil
    }
    self.began = began
    let (arguments, behind) = Self.arguments(rest)
    // What waits and was interrupted, here by strace itself, may be taken up again: `restart_syscall(<... resuming interrupted
    // poll ...>)`.
    let interrupted = arguments.first.flatMap { $0.hasPrefix("<... resuming interrupted ") ? $0.parts(by: " ") : nil }
    if let interrupted, interrupted.count > 3 {
      self.name = String(interrupted[3])
      self.arguments = []
    } else {
      self.name = String(name)
      self.arguments = arguments.map(String.init)
    }
    guard let (_, told) = behind.halves(by: "="), let (_, value) = told.halves(by: " ") else {
      (result, took) = (nil, nil)
      return
    }
    // The duration is last, in angle brackets; a descriptor that was returned has such brackets, too.
    guard let open = value.utf8.lastIndex(of: UInt8(ascii: "<")), value.utf8.last == UInt8(ascii: ">"),
      let took = Self.microseconds(value[value.utf8.index(after: open)...].dropLast())
    else {
      (result, took) = (String(value), nil)
      return
    }
    var result = value[..<open]
    while result.utf8.last == UInt8(ascii: " ") { result = result.dropLast() }
    self.result = String(result)
    self.took = took
  }

  /// What was returned, where that is a decimal number.
  package var value: Int? {
    result.flatMap { Int(Substring($0.utf8.prefix { (0x30...0x39).contains($0) || $0 == UInt8(ascii: "-") })) }
  }

  /// The error's name, where it failed.
  package var error: String? {
    guard value == -1, let result else { return nil }
    let words = result.parts(by: " ")
    return words.count > 1 ? String(words[1]) : nil
  }

  /// When it returned; nil if it has not.
  package var ended: Int64? { took.map { began + $0 } }

  private static func isOfName(_ byte: UInt8) -> Bool {
    UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
      || byte == UInt8(ascii: "_")
  }

  /// Seconds with six decimals.
  private static func microseconds(_ text: Substring) -> Int64? {
    guard let (whole, decimals) = text.halves(by: "."), decimals.utf8.count == 6, let seconds = Int64(whole),
      let rest = Int64(decimals), 0...(.max / 1_000_000 - 1) ~= seconds, rest >= 0
    else { return nil }
    return seconds * 1_000_000 + rest
  }

  /// The arguments in front of the parenthesis that closes them, and what stands behind it. Commas in strings, brackets and
  /// what is told of a descriptor are no separators.
  private static func arguments(_ text: Substring) -> (arguments: [Substring], behind: Substring) {
    let bytes = text.utf8
    var found: [Substring] = []
    var depth = 0
    var isQuoted = false
    var start = bytes.startIndex
    var place = bytes.startIndex
    func take(upTo end: Substring.Index) {
      let argument = Substring(bytes[start..<end].drop { $0 == UInt8(ascii: " ") })
      if !argument.isEmpty { found.append(argument) }
    }
    while place < bytes.endIndex {
      let byte = bytes[place]
      let next = bytes.index(after: place)
      if isQuoted {
        if byte == UInt8(ascii: "\""), !text[..<place].hasSuffix("\\") { isQuoted = false }
      } else {
        switch byte {
        case UInt8(ascii: "\""): isQuoted = true
        case UInt8(ascii: "("), UInt8(ascii: "["), UInt8(ascii: "{"): depth += 1
        case UInt8(ascii: ")") where depth == 0:
          take(upTo: place)
          return (found, text[next...])
        case UInt8(ascii: ")"), UInt8(ascii: "]"), UInt8(ascii: "}"): depth -= 1
        case UInt8(ascii: ",") where depth == 0:
          take(upTo: place)
          start = next
        default: break
        }
      }
      place = next
    }
    // It has not returned: `epoll_wait(8<anon_inode:[eventpoll]>,  <detached ...>`.
    take(upTo: bytes.endIndex)
    return (found, text[bytes.endIndex...])
  }
}
