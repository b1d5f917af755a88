// Which lines of the log have just been told, so that the same one is not told a thousand times a second.

import Synchronization

/// One line a second for each text, and how many of it were left out since.
package enum RepeatedLines {
  private struct Entry {
    var since: UInt64
    var leftOut = 0
  }

  /// Texts that are kept in mind; when there are more, a new one is told as it is.
  private static let most = 64
  private static let interval: UInt64 = 1_000_000_000

  /// By their bytes: a text may quote a client's or a server's.
  private static let entries = Mutex<[[UInt8]: Entry]>([:])

  /// Whether a text is to be told now: how many of it were left out before it. nil: it is one of those that are left out.
  package static func tell(_ text: String, now: UInt64) -> Int? {
    let key = Array(text.utf8)
    return entries.withLock { entries in
      guard let entry = entries[key] else {
        if entries.count >= most {
          entries = entries.filter { $0.value.leftOut > 0 || now - $0.value.since < interval }
        }
        if entries.count < most { entries[key] = Entry(since: now) }
        return 0
      }
      guard now - entry.since >= interval else {
        entries[key]?.leftOut += 1
        return nil
      }
      entries[key] = Entry(since: now)
      return entry.leftOut
    }
  }

  /// The texts whose second is over, and how many of each were left out, which are forgotten.
  package static func takeLeftOut(now: UInt64) -> [(text: String, count: Int)] {
    entries.withLock { entries in
      let over = entries.filter { now - $0.value.since >= interval }
      for key in over.keys { entries[key] = nil }
      return over.compactMap {
        $0.value.leftOut > 0 ? (String(decoding: $0.key, as: UTF8.self), $0.value.leftOut) : nil
      }
    }
  }

  /// Whether any were left out that nobody has told of.
  package static var areLeftOut: Bool { entries.withLock { $0.values.contains { $0.leftOut > 0 } } }

  static func note(_ count: Int) -> String { " (and \(count) more like this)" }
}
