// What processes have used, from /proc: time, context switches, memory.

import CLinux
import Glibc
import House
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

/// All processes at a moment, and who is whose child.
package struct ProcessTable {
  private struct Entry {
    var parent: pid_t
    /// Of its children that have ended and were waited for, in clock ticks.
    var childTicks: Int
  }

  private var entries: [pid_t: Entry] = [:]
  private static let ticksPerSecond = Double(sysconf(Int32(_SC_CLK_TCK)))

  package init() {
    guard let folder = opendir("/proc") else { return }
    defer { closedir(folder) }
    while let entry = readdir(folder) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      guard let process = pid_t(name), let stat = readText("/proc/\(name)/stat"),
        let end = stat.lastIndex(of: ")")
      else { continue }
      // Behind the name (proc(5)): state, parent …, utime 12th, stime, cutime 14th, cstime.
      let fields = stat[stat.index(after: end)...].split(separator: " ")
      guard fields.count > 15, let parent = pid_t(fields[1]) else { continue }
      entries[process] = Entry(parent: parent, childTicks: (13...14).reduce(0) { $0 + (Int(fields[$1]) ?? 0) })
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

  /// What a family has used since its processes began; those that have ended count if they were waited for, but for their
  /// switches.
  package func usage(of root: pid_t) -> Usage {
    var usage = Usage()
    for process in family(of: root) {
      usage.cpu += Self.ownSeconds(of: process) + Double(entries[process]?.childTicks ?? 0) / Self.ticksPerSecond
      usage.switches += Self.switches(of: process)
    }
    return usage
  }

  /// Of all its threads, to the nanosecond: ticks would lose most of a short run.
  private static func ownSeconds(of process: pid_t) -> Double {
    guard let folder = opendir("/proc/\(process)/task") else { return 0 }
    defer { closedir(folder) }
    var nanoseconds = 0
    while let entry = readdir(folder) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      guard name.first != ".", let text = readText("/proc/\(process)/task/\(name)/schedstat") else { continue }
      nanoseconds += text.split(separator: " ").first.flatMap { Int($0) } ?? 0
    }
    return Double(nanoseconds) / 1e9
  }

  private static func switches(of process: pid_t) -> Int {
    (readText("/proc/\(process)/status") ?? "").split(separator: "\n")
      .filter { $0.contains("ctxt_switches") }
      .compactMap { Int($0.split(whereSeparator: \.isWhitespace).last ?? "") }
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
    (readText("/proc/\(process)/smaps_rollup") ?? "").split(separator: "\n").reduce(0) { sum, line in
      let fields = line.split(whereSeparator: \.isWhitespace)
      guard fields.count > 1, names.contains(String(fields[0])) else { return sum }
      return sum + (Int(fields[1]) ?? 0) * 1024
    }
  }
}
