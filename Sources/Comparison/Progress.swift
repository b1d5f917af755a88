// What a person at the terminal sees meanwhile: what is being run, and how long it will take.

import Glibc
import Platform

/// Told to standard error: on a terminal one line that changes, elsewhere a line a scenario.
package final class Progress {
  private let isTerminal = isatty(STDERR_FILENO) == 1
  private var planned = 0.0
  private var done = 0.0
  private var began: UInt64 = 0
  private var hasLine = false

  package init() {}

  package func say(_ text: String) {
    clear()
    write(text + "\n")
  }

  /// `cells` are the seconds that one run of each takes at least.
  func begin(_ cells: [Double], passes: Int) {
    planned = cells.reduce(0, +) * Double(passes)
    began = MonotonicClock.now
    say("measuring: \(cells.count) cells, \(passes) times each, at least \(Self.duration(planned))")
  }

  func did(_ seconds: Double) { done += seconds }

  func tell(_ scenario: String, _ model: String, pass: Int, of passes: Int) {
    guard isTerminal else { return }
    let share = planned > 0 ? done / planned : 0
    let elapsed = Double(MonotonicClock.now - began) / 1e9
    let left = share > 0.01 ? ", \(Self.duration(elapsed / share - elapsed)) left" : ""
    var line = "\(Int(share * 100)) %\(left): \(scenario), \(model), \(pass) of \(passes)"
    if line.count > 78 { line = String(line.prefix(77)) + "…" }
    clear()
    write(line)
    hasLine = true
  }

  func finished(_ scenario: String) {
    let share = planned > 0 ? Int(done / planned * 100) : 100
    let elapsed = Double(MonotonicClock.now - began) / 1e9
    let left = done > 0 && share < 100 ? ", \(Self.duration(elapsed * (planned / done - 1))) left" : ""
    if !isTerminal { say("\(share) %\(left): \(scenario)") }
  }

  static func duration(_ seconds: Double) -> String {
    let whole = Int(seconds.rounded())
    if whole < 90 { return "\(whole) s" }
    if whole < 5400 { return "\(Int((seconds / 60).rounded())) min" }
    return "\(whole / 3600) h \(whole % 3600 / 60) min"
  }

  private func clear() {
    if hasLine { write("\r\u{1B}[K") }
    hasLine = false
  }

  private func write(_ text: String) {
    var text = text
    text.withUTF8 { _ = Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
  }
}
