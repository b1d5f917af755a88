// Log lines: one write(2) each to standard error, so that lines of several processes never mix. `LogOutput` says where they go,
// and that nobody waits for it; `RepeatedLines` how often one and the same is told.

import CLinux
import Glibc
import Logging

/// Writes `2026-01-31T12:00:00.123Z warning sync[4711]: text key=value`.
///
/// Of warnings with the same text there is one line a second, and the next says how many were left out: under overload each
/// request would else cost a line. Errors are told one by one, each with its request.
package struct LineLog: LogHandler {
  package var logLevel: Logger.Level = .info
  package var metadata: Logger.Metadata = [:]
  private let label: String

  package init(label: String) { self.label = label }

  package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  package func log(event: LogEvent) {
    var text = "\(event.level) \(label)[\(getpid())]: \(event.message)"
    var leftOut = 0
    if event.level == .warning {
      guard let count = RepeatedLines.tell(text, now: MonotonicClock.now) else { return }
      leftOut = count
    }
    for (key, value) in metadata.merging(event.metadata ?? [:], uniquingKeysWith: { $1 }).sorted(by: { $0.key < $1.key }
    ) {
      text += " \(key)=\(value)"
    }
    if leftOut > 0 { text += RepeatedLines.note(leftOut) }
    Self.write(text)
  }

  /// Tells of the lines that were left out or could not be written, and that no other has told of. To be called now and then,
  /// once a second or so.
  package static func tellLeftOut() {
    tellLost { timestamp() + " " }
    for (text, count) in RepeatedLines.takeLeftOut(now: MonotonicClock.now) { write(text + RepeatedLines.note(count)) }
  }

  private static func write(_ text: String) {
    let prefix = timestamp() + " "
    tellLost { prefix }
    var bytes = Array(prefix.utf8)
    // A line stays one line, whatever a client or a server put into it.
    bytes += text.utf8.lazy.map { $0 < 0x20 || $0 == 0x7F ? UInt8(ascii: " ") : $0 }
    if bytes.count >= LogOutput.longestLine { bytes.removeLast(bytes.count - LogOutput.longestLine + 1) }
    bytes.append(UInt8(ascii: "\n"))
    if !LogOutput.write(bytes) { LogOutput.countLost() }
  }

  private static func tellLost(at prefix: () -> String) {
    let lost = LogOutput.takeLost()
    guard lost > 0 else { return }
    let note = "\(prefix())warning log[\(getpid())]: \(lost) lines before this one could not be written\n"
    if !LogOutput.write(Array(note.utf8)) { LogOutput.countLost(lost) }
  }

  /// Now in UTC, RFC 3339 with milliseconds.
  private static func timestamp() -> String {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    var parts = tm()
    gmtime_r(&now.tv_sec, &parts)
    func padded(_ value: Int, _ width: Int) -> String {
      let digits = String(value)
      return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
    let date = "\(Int(parts.tm_year) + 1900)-\(padded(Int(parts.tm_mon) + 1, 2))-\(padded(Int(parts.tm_mday), 2))"
    let time = "\(padded(Int(parts.tm_hour), 2)):\(padded(Int(parts.tm_min), 2)):\(padded(Int(parts.tm_sec), 2))"
    return "\(date)T\(time).\(padded(now.tv_nsec / 1_000_000, 3))Z"
  }
}
