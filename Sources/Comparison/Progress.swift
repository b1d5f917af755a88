// What a person at the terminal sees meanwhile: what is being run, and how long it will take.

import Glibc
import Platform

/// Told to standard error: on a terminal one line that changes, elsewhere a line a scenario, and a minute.
package final class Progress {
  private let isTerminal = isatty(STDERR_FILENO) == 1
  private var planned = 0.0
  private var done = 0.0
  private var began: UInt64 = 0
  private var hasLine = false
  private var lastLine: UInt64 = 0

  package init() {}

  package func say(_ text: String) {
    clear()
    write(text + "\n")
    lastLine = MonotonicClock.now
  }

  /// `cells` are the seconds that one run of each takes at least.
  func begin(_ cells: [Double], passes: Int) {
    planned = cells.reduce(0, +) * Double(passes)
    began = MonotonicClock.now
    say("measuring: \(cells.count) cells, \(passes) times each, at least \(Self.duration(planned))")
  }

  func did(_ seconds: Double) { done += seconds }

  func tell(_ scenario: String, _ model: String, pass: Int, of passes: Int) {
    guard isTerminal || MonotonicClock.now - lastLine > 60_000_000_000 else { return }
    var line = "\(standing): \(scenario), \(model), \(pass) of \(passes)"
    guard isTerminal else { return say(line) }
    if line.count > 78 { line = String(line.prefix(77)) + "…" }
    clear()
    write(line)
    hasLine = true
  }

  func finished(_ scenario: String) { if !isTerminal { say("\(standing): \(scenario)") } }

  /// How far it is, and how long the rest will take.
  private var standing: String {
    let share = planned > 0 ? done / planned : 1
    let elapsed = Double(MonotonicClock.now - began) / 1e9
    let percent = "\(Int((share * 100).rounded())) %"
    guard share > 0.01 && share < 1 else { return percent }
    return "\(percent), \(Self.duration(elapsed / share - elapsed)) left"
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
