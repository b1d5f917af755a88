// Timelines for a terminal: a call a line, two models side by side where there is space for both.

import Platform

/// What is told of a model beside its calls.
package struct TracedRequest: Sendable {
  package let model: TracedModel
  package let timeline: Timeline
  package let status: Int
  /// Of the answer, head and body.
  package let bytes: Int
  /// Milliseconds that the same request took without strace, the median of those before; nil: there was none.
  package let usual: Double?

  /// What it came to, in a line each.
  var summary: [String] {
    let counts = TracedProcess.allCases.map { "\($0.rawValue) \(timeline.count($0))" }.joined(separator: ", ")
    var answer = "\(status), \(bytes) bytes"
    if let usual { answer += "; \(Self.text(usual)) ms without strace" }
    var lines = ["\(timeline.events.count) system calls: \(counts)", answer]
    if timeline.timers > 0 {
      lines.append("left out: woken \(timeline.timers == 1 ? "once" : "\(timeline.timers) times") by a timer")
    }
    return lines
  }

  static func text(_ milliseconds: Double) -> String {
    let hundredths = Int((milliseconds * 100).rounded())
    return "\(hundredths / 100)." + (hundredths % 100 < 10 ? "0" : "") + "\(hundredths % 100)"
  }
}

package enum TimelineText {
  /// `width` in columns; nil: as wide as they are.
  package static func write(_ requests: [TracedRequest], width: Int?) -> String {
    columns(requests, width: width) + """

      Under strace a call takes many times as long: what counts is which there
      are, and in which order. Reads and waits stand where they return, other
      calls where they begin.

      """
  }

  private static func columns(_ requests: [TracedRequest], width: Int?) -> String {
    let blocks = requests.map(lines)
    let widest = blocks.flatMap { $0 }.map(\.count).max() ?? 0
    let needed = blocks.count * widest + (blocks.count - 1) * separator.count
    if let width, width < needed {
      return blocks.map { $0.joined(separator: "\n") }.joined(separator: "\n\n") + "\n"
    }
    let height = blocks.map(\.count).max() ?? 0
    return (0..<height).map { row in
      trimmed(blocks.map { row < $0.count ? padded($0[row], widest) : padded("", widest) }.joined(separator: separator))
    }.joined(separator: "\n") + "\n"
  }

  private static let separator = " │ "

  private static func lines(_ request: TracedRequest) -> [String] {
    var lines = ["/\(request.model.rawValue), \(request.model.title)", line("µs", "who", "call", "with", "", "took")]
    lines += request.timeline.events.map { event in
      line(
        "\(event.at)", event.process.rawValue, event.name, event.object, event.outcome,
        event.took.map { "\($0)" } ?? "–")
    }
    return lines + request.summary.map { "  " + $0 }
  }

  private static func line(
    _ at: String, _ who: String, _ call: String, _ object: String, _ outcome: String, _ took: String
  ) -> String {
    [
      padded(at, -6), padded(who, 8), padded(call, 12), padded(String(object.prefix(12)), 12), padded(outcome, -9),
      padded(took, -6),
    ].joined(separator: " ")
  }

  /// To the right where `width` is below zero.
  private static func padded(_ text: String, _ width: Int) -> String {
    let blanks = String(repeating: " ", count: max(0, abs(width) - text.count))
    return width < 0 ? blanks + text : text + blanks
  }

  private static func trimmed(_ text: String) -> String {
    var text = text
    while text.utf8.last == UInt8(ascii: " ") { text.removeLast() }
    return text
  }
}
