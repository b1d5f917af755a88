// What processes have used, from /proc: time, context switches, memory.

import CLinux
import Glibc
import LocalStack
import Platform

/// Of a group of processes; times in seconds.
package struct Usage: Codable, Sendable, Equatable {
  package var cpu = 0.0
  /// Context switches, asked for or not.
  package var switches = 0

  static func + (_ one: Usage, _ other: Usage) -> Usage {
    Usage(cpu: one.cpu + other.cpu, switches: one.switches + other.switches)
  }

  static func - (_ later: Usage, _ earlier: Usage) -> Usage {
    Usage(cpu: max(0, later.cpu - earlier.cpu), switches: max(0, later.switches - earlier.switches))
  }

  init(cpu: Double = 0, switches: Int = 0) {
    self.cpu = cpu
    self.switches = switches
  }
}

/// A process, which is another if its number is used again.
struct ProcessKey: Hashable {
  var process: pid_t
  /// In clock ticks since the system's start.
  var start: Int
}

/// What a process and everything below it have used since they began. Who has ended counts with what was last seen of it: the
/// system itself keeps that in clock ticks of 10 ms, which is more than a loop needs in a quarter of a second.
package struct Meter {
  private let root: pid_t
  private var alive: [ProcessKey: Usage] = [:]
  private var ended = Usage()

  package init(of root: pid_t) { self.root = root }

  package mutating func read(_ table: ProcessTable) -> Usage {
    update(table.usage(of: root), ended: table.endedSeconds(of: root))
  }

  /// Those who are there, and the seconds of those who have ended and were waited for.
  mutating func update(_ now: [ProcessKey: Usage], ended seconds: Double) -> Usage {
    for (process, last) in alive where now[process] == nil { ended = ended + last }
    // Of those who came and went in between, nothing else is known.
    ended.cpu = max(ended.cpu, seconds)
    alive = now
    return now.values.reduce(ended, +)
  }
}

/// All processes at a moment, and who is whose child.
package struct ProcessTable {
  private struct Entry {
    var parent: pid_t
    /// In clock ticks: its own time, and that of its children that have ended and were waited for.
    var ticks: Int
    var childTicks: Int
    var start: Int
  }

  private var entries: [pid_t: Entry] = [:]
  private static let ticksPerSecond = Double(sysconf(Int32(_SC_CLK_TCK)))

  package init() {
    guard let folder = opendir("/proc") else { return }
    defer { closedir(folder) }
    while let entry = readdir(folder) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      guard let process = pid_t(name), let stat = readText("/proc/\(name)/stat"),
        let end = stat.utf8.lastIndex(of: UInt8(ascii: ")"))
      else { continue }
      // Behind the name (proc(5)): state, parent …, utime 12th, stime, cutime 14th, cstime …, start 20th.
      let fields = stat[stat.utf8.index(after: end)...].parts(by: " ")
      guard fields.count > 19, let parent = pid_t(fields[1]) else { continue }
      func ticks(_ range: ClosedRange<Int>) -> Int { range.reduce(0) { $0 + (Int(fields[$1]) ?? 0) } }
      entries[process] = Entry(parent: parent, ticks: ticks(11...12), childTicks: ticks(13...14), start: ticks(19...19))
    }
  }

  /// A process and everything below it.
  package func family(of root: pid_t) -> [pid_t] {
    var children: [pid_t: [pid_t]] = [:]
    for (process, entry) in entries { children[entry.parent, default: []].append(process) }
    var found: [pid_t] = []
    var next = entries[root] == nil ? [] : [root]
    while let process = next.popLast() {
      found.append(process)
      next += children[process] ?? []
    }
    return found.sorted()
  }

  package func children(of root: pid_t) -> [pid_t] {
    entries.filter { $0.value.parent == root }.map(\.key).sorted()
  }

  /// What each of a family has used since it began.
  func usage(of root: pid_t) -> [ProcessKey: Usage] {
    var usage: [ProcessKey: Usage] = [:]
    for process in family(of: root) {
      guard let entry = entries[process], let switches = Self.switches(of: process) else { continue }
      let seconds = Self.seconds(of: process) ?? Double(entry.ticks) / Self.ticksPerSecond
      usage[ProcessKey(process: process, start: entry.start)] = Usage(cpu: seconds, switches: switches)
    }
    return usage
  }

  /// What those of a family had used who have ended and were waited for, in seconds.
  func endedSeconds(of root: pid_t) -> Double {
    Double(family(of: root).reduce(0) { $0 + (entries[$1]?.childTicks ?? 0) }) / Self.ticksPerSecond
  }

  /// Of all its threads, those that have ended too, to the nanosecond. Nil where the kernel tells nobody but the process itself.
  private static func seconds(of process: pid_t) -> Double? {
    var clock = clockid_t()
    var time = timespec()
    guard clock_getcpuclockid(process, &clock) == 0, clock_gettime(clock, &time) == 0 else { return nil }
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  /// Nil if it has gone.
  private static func switches(of process: pid_t) -> Int? {
    readText("/proc/\(process)/status")?.lines
      .filter { $0.contains("ctxt_switches") }
      .compactMap { Int($0.parts(by: "\t").last ?? "") }
      .reduce(0, +)
  }

  /// Proportional set sizes of a family together, in bytes: shared pages are divided among those who share them.
  package func memory(of root: pid_t) -> Int {
    family(of: root).reduce(0) { $0 + Self.rollup($1, ["Pss:"]) }
  }

  /// What PostgreSQL's servers for a role have of their own, in bytes: what they share belongs to all that has ever been read.
  package func serverMemory(of root: pid_t, role: String) -> Int {
    children(of: root).filter { (readText("/proc/\($0)/cmdline") ?? "").hasPrefix("postgres: \(role) ") }
      .reduce(0) { $0 + Self.rollup($1, ["Private_Clean:", "Private_Dirty:"]) }
  }

  private static func rollup(_ process: pid_t, _ names: [String]) -> Int {
    (readText("/proc/\(process)/smaps_rollup") ?? "").lines.reduce(0) { sum, line in
      let fields = line.parts(by: " ")
      guard fields.count > 1, names.contains(String(fields[0])) else { return sum }
      return sum + (Int(fields[1]) ?? 0) * 1024
    }
  }
}
