// The look that a start and `--check` take at the database: short, and by a process of its own, so that neither a silent host nor
// a resolver that hangs keeps anybody.

import CLinux
import Glibc
import Orders
import Platform
import Postgres
import ProcessPool

enum DatabaseCheck {
  /// For how long it may look, in milliseconds.
  private static let limit: UInt64 = 2_000
  private static let refusal = UInt8(ascii: "-")
  private static let objection = UInt8(ascii: "!")

  /// What is not as it should be, a line each. Throws if the database can't be used at all. Nothing where it is away, which may
  /// change. A database that refuses the settings fails a check, and with it a reload; a start goes on, since the database or its
  /// role may be made later, as where all services of a machine start together.
  static func remarks(
    _ info: ConnectionInfo, _ options: Connection.Options, for application: ServedApplication, isCheck: Bool
  ) throws -> [String] {
    // The check before a reload has told it.
    if Invocation.isContinued { return [] }
    var lines: [String] = []
    for line in look(info, options, application).split(separator: UInt8(ascii: "\n")) {
      let text = String(decoding: line.dropFirst(), as: UTF8.self)
      if line.first == refusal { throw CommandFailure(description: text) }
      if line.first == objection, isCheck { throw SettingsError(text) }
      lines.append(text)
    }
    return lines
  }

  /// Shows the remarks of a check. Before a reload only what goes to standard error is seen.
  static func show(_ remarks: [String]) {
    for remark in remarks {
      var line = "\(Rehearsal.isBeforeReload ? "forkloop: " : "")\(remark)\n"
      let output = Rehearsal.isBeforeReload ? STDERR_FILENO : STDOUT_FILENO
      line.withUTF8 { _ = write(output, $0.baseAddress, $0.count) }
    }
  }

  private static func look(
    _ info: ConnectionInfo, _ options: Connection.Options, _ application: ServedApplication
  ) -> [UInt8] {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { return [] }
    let here = Descriptor(owning: ends[0])
    let there = Descriptor(owning: ends[1])
    let child = try? ChildProcess.fork(parentDeathSignal: SIGKILL) {
      let report = DatabaseReport(of: info, options, needsSchema: application == .orders)
      let lines =
        (report.refusal.map { ["-\($0)"] } ?? []) + (report.objection.map { ["!\($0)"] } ?? [])
        + report.remarks.map { " \($0)" }
      let bytes = Array(lines.joined(separator: "\n").utf8)
      return write(there.number, bytes, bytes.count) == bytes.count ? 0 : 1
    }
    _ = consume there
    guard let child else { return [] }
    let told = read(from: here.number, until: MonotonicClock.now + limit * 1_000_000)
    kill(child, SIGKILL)
    _ = ChildProcess.wait(for: child)
    return told
  }

  private static func read(from number: Int32, until deadline: UInt64) -> [UInt8] {
    var told: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while true {
      let now = MonotonicClock.now
      guard now < deadline else { return [] }
      var watched = pollfd(fd: number, events: Int16(POLLIN), revents: 0)
      guard poll(&watched, 1, Int32((deadline - now) / 1_000_000) + 1) > 0 else { continue }
      let count = Glibc.read(number, &chunk, chunk.count)
      if count <= 0 { return told }
      told += chunk[..<count]
    }
  }
}
