// Log lines: one write(2) each to standard error, so that lines of several processes never mix.

import CLinux
import Glibc
import Logging

/// Writes `2026-01-31T12:00:00.123Z warning sync[4711]: text key=value`.
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
    var line = "\(Self.timestamp()) \(event.level) \(label)[\(getpid())]: \(event.message)"
    for (key, value) in metadata.merging(event.metadata ?? [:], uniquingKeysWith: { $1 }).sorted(by: { $0.key < $1.key }
    ) {
      line += " \(key)=\(value)"
    }
    // A line stays one line, whatever a client or a server put into it.
    var bytes = line.utf8.map { $0 < 0x20 || $0 == 0x7F ? UInt8(ascii: " ") : $0 }
    bytes.append(UInt8(ascii: "\n"))
    _ = bytes.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
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

/// Where a daemon's standard output and error go.
package enum LogFile {
  /// Appends both to `path` from now on. Again after the file was moved away, and a new one is begun.
  package static func open(_ path: String) throws(SystemError) {
    let descriptor = Descriptor(owning: try syscall("open") { clinux_open_append(path, 0o640) })
    for number in [STDOUT_FILENO, STDERR_FILENO] { try syscall("dup2") { dup2(descriptor.number, number) } }
  }
}
