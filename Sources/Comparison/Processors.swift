// Who runs on which processors.

import LocalStack
import Platform

/// Processors, by the kernel's numbers. Where there are cores for it, the load generator has some to itself, so that what it
/// takes is not taken from what it measures.
package struct Processors: Sendable, Equatable {
  /// What the web server, the responder and the database run on.
  package let servers: [Int]
  /// What the generator runs on: a quarter of them, or all where there are fewer than four.
  package let generator: [Int]

  /// Divides the processors that this process may run on.
  package init(allowed: [Int]) {
    let own = allowed.count / 4
    servers = Array(allowed.dropLast(own))
    generator = own == 0 ? allowed : Array(allowed.suffix(own))
  }

  /// As the kernel has it (proc(5), Cpus_allowed_list).
  static func current() -> Processors {
    let line = (readText("/proc/self/status") ?? "").lines.first { $0.hasPrefix("Cpus_allowed_list:") }
    let allowed = parse(line?.parts(by: ":").last ?? "")
    return Processors(allowed: allowed.isEmpty ? [0] : allowed)
  }

  /// A list such as `0-3,8`; empty if it is none.
  package static func parse(_ list: some StringProtocol) -> [Int] {
    var numbers: [Int] = []
    for part in list.split(whereSeparator: { $0 == "," || $0.isWhitespace }) {
      let ends = part.parts(by: "-", keepsEmpty: true).map { Int($0) }
      guard ends.count <= 2, let first = ends.first ?? nil, let last = ends.last ?? nil, 0 <= first, first <= last,
        last < 1 << 16
      else { return [] }
      numbers += first...last
    }
    return numbers
  }

  package var count: Int { areDivided ? servers.count + generator.count : servers.count }
  package var areDivided: Bool { servers != generator }
}

extension Tools {
  /// `arguments` to be run on some processors only. taskset(1) becomes the program, so the process is its.
  func on(_ processors: [Int], _ arguments: [String]) -> [String] {
    guard let taskset else { return arguments }
    return [taskset, "-c", processors.map(String.init).joined(separator: ",")] + arguments
  }

  /// The same, where the processors are divided.
  func divided(_ own: [Int], _ arguments: [String]) -> [String] {
    processors.areDivided ? on(own, arguments) : arguments
  }
}
