// Timelines as a drawing that needs nothing else: a panel a model, a lane a process, an arrow a message. SVG 1.1, with CSS for
// light and dark.

import Platform

package enum TimelineDrawing {
  private static let width = 900
  private static let margin = 12
  private static let panel = 428
  private static let panelGap = 20
  /// Of a panel: where the times end, and its boxes.
  private static let times = 38
  private static let firstLane = 60
  private static let box = (width: 106, height: 16)
  private static let charactersInBox = 16
  private static let laneStep = 131
  private static let head = 92
  private static let row = 20
  private static let foot = 34

  /// `plan` is what was asked for, in a line.
  package static func write(_ requests: [TracedRequest], plan: String) -> String {
    let rows = requests.map(\.timeline.events.count).max() ?? 0
    let height = head + rows * row + foot
    var svg = """
      <svg xmlns="http://www.w3.org/2000/svg" width="\(width)" height="\(height)" viewBox="0 0 \(width) \(height)" role="img">
      <title>The system calls of \(escaped(plan)), in both process models</title>
      <desc>\(escaped(requests.map(description).joined(separator: " ")))</desc>
      <style>
      \(style)
      </style>
      <defs>
      <marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto"><path class="tip" d="M0 0L8 4L0 8z"/></marker>
      </defs>
      <rect class="paper" width="\(width)" height="\(height)"/>

      """
    for (index, request) in requests.enumerated() {
      svg += drawn(request, plan, x: margin + index * (panel + panelGap), height: head + rows * row)
    }
    svg += """
      <text class="small" x="\(margin)" y="\(height - 12)">Time runs downwards, in µs since the first call: under strace, which makes each call many times as long. A dashed box is a wait.</text>
      </svg>

      """
    return svg
  }

  private static let style = """
    svg { --paper: #fff; --ink: #1c2024; --faint: #5b646d; --line: #d5d9de; --nginx: #e4e7ea; --sync: #fbe3d3; --async: #d6eaf7; --postgres: #dcedd8; --arrow: #5b646d; }
    @media (prefers-color-scheme: dark) {
      svg { --paper: #16181b; --ink: #e8eaed; --faint: #a9b1b9; --line: #3b4147; --nginx: #343a41; --sync: #5a3218; --async: #12415f; --postgres: #24452a; --arrow: #a9b1b9; }
    }
    text { font: 10px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: var(--ink); }
    .title { font: bold 15px system-ui, "DejaVu Sans", sans-serif; }
    .note, .lane { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: var(--faint); }
    .lane { font-weight: bold; fill: var(--ink); text-anchor: middle; }
    .small { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: var(--faint); }
    .time, .out { text-anchor: end; }
    .time { fill: var(--faint); }
    .paper { fill: var(--paper); }
    .life { stroke: var(--line); }
    .nginx { fill: var(--nginx); } .sync { fill: var(--sync); } .async { fill: var(--async); } .postgres { fill: var(--postgres); }
    .wait { stroke: var(--faint); stroke-dasharray: 3 2; }
    .arrow { fill: none; stroke: var(--arrow); stroke-width: 1.2; marker-end: url(#head); }
    .tip { fill: var(--arrow); }
    """

  // MARK: A model

  private static func drawn(_ request: TracedRequest, _ plan: String, x: Int, height: Int) -> String {
    let timeline = request.timeline
    let model = request.model.rawValue
    var lines = ["<g transform=\"translate(\(x) 0)\">"]
    let title = plan.halves(by: "/").map { "\($0.0)/\(model)/\($0.1)" } ?? plan
    let heading = "\(request.model.title): \(title)"
    lines.append(text("title", 0, 24, heading.count > 50 ? "\(heading.prefix(49))…" : heading))
    for (index, line) in request.summary.prefix(2).enumerated() { lines.append(text("note", 0, 42 + 15 * index, line)) }
    for process in TracedProcess.allCases {
      let middle = lane(process) + box.width / 2
      lines.append("<path class=\"life\" d=\"M\(middle) \(head - 6)V\(height)\"/>")
      let name = process == .forkloop ? (request.model == .sync ? "worker" : "loop") : process.rawValue
      lines.append(text("lane", middle, head - 12, name))
    }
    for (index, event) in timeline.events.enumerated() { lines += drawn(event, index, model: model) }
    for message in timeline.messages { lines.append(arrow(message, timeline)) }
    lines.append("</g>")
    return lines.joined(separator: "\n") + "\n"
  }

  /// A box in its row, with what there is no space for in its title, which a browser shows where the mouse is.
  private static func drawn(_ event: Timeline.Event, _ row: Int, model: String) -> [String] {
    let (left, top) = (lane(event.process), y(row) - box.height / 2)
    let kind = (event.process == .forkloop ? model : event.process.rawValue) + (event.isWait ? " wait" : "")
    let words = [event.name, event.object, event.outcome, event.took.map { "\($0) µs" } ?? ""]
    var lines = [
      text("time", times, y(row) + 4, "\(event.at)"),
      "<rect class=\"\(kind)\" x=\"\(left)\" y=\"\(top)\" width=\"\(box.width)\" height=\"\(box.height)\" rx=\"3\">"
        + "<title>\(escaped(words.filter { !$0.isEmpty }.joined(separator: ", ")))</title></rect>",
      text("call", left + 4, y(row) + 4, event.name),
    ]
    if !event.isWait, !event.outcome.isEmpty, event.name.count + event.outcome.count <= charactersInBox {
      lines.append(text("out", left + box.width - 4, y(row) + 4, event.outcome))
    }
    return lines
  }

  /// Between the sides of two boxes that face each other; to and from the client at the left side.
  private static func arrow(_ message: Timeline.Message, _ timeline: Timeline) -> String {
    func side(_ place: Int, towards other: Int?) -> (x: Int, y: Int) {
      let left = lane(timeline.events[place].process)
      let isRight = other.map { lane(timeline.events[$0].process) > left } ?? false
      return (left + (isRight ? box.width : 0), y(place))
    }
    let client = times + 3
    let from = message.from.map { side($0, towards: message.to) }
    let to = message.to.map { side($0, towards: message.from) }
    let (start, end) = (from ?? (client, to?.y ?? 0), to ?? (client, from?.y ?? 0))
    return "<path class=\"arrow\" d=\"M\(start.x) \(start.y)L\(end.x) \(end.y)\"/>"
  }

  private static func lane(_ process: TracedProcess) -> Int {
    firstLane + laneStep * (TracedProcess.allCases.firstIndex(of: process) ?? 0)
  }

  private static func y(_ row: Int) -> Int { head + row * self.row + self.row / 2 }

  private static func description(_ request: TracedRequest) -> String {
    "\(request.model.title): \(request.summary.joined(separator: "; "))."
  }

  private static func text(_ kind: String, _ x: Int, _ y: Int, _ text: String) -> String {
    "<text class=\"\(kind)\" x=\"\(x)\" y=\"\(y)\">\(escaped(text))</text>"
  }

  private static func escaped(_ text: String) -> String {
    text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
  }
}
