// Text from outside, divided at single bytes. A Swift `Character` is no byte: CRLF is one Character, and so is a comma with an
// accent behind it. Whoever splits such text does it with these.

extension StringProtocol {
  /// The lines, which end with LF or CRLF. Empty ones count, but for what is behind the last end of a line.
  package var lines: [Substring] {
    var lines = parts(by: "\n", keepsEmpty: true).map { $0.utf8.last == UInt8(ascii: "\r") ? $0.dropLast() : $0 }
    if lines.last?.isEmpty == true { lines.removeLast() }
    return lines
  }

  /// What stands between separators of one ASCII character.
  package func parts(by separator: Unicode.Scalar, keepsEmpty: Bool = false, most: Int = .max) -> [Substring] {
    Substring(self).utf8
      .split(separator: UInt8(ascii: separator), maxSplits: most - 1, omittingEmptySubsequences: !keepsEmpty)
      .map(Substring.init)
  }

  /// What stands before the first separator, and what behind it; nil if there is none.
  package func halves(by separator: Unicode.Scalar) -> (Substring, Substring)? {
    let text = Substring(self)
    guard let place = text.utf8.firstIndex(of: UInt8(ascii: separator)) else { return nil }
    return (text[..<place], text[text.utf8.index(after: place)...])
  }
}
