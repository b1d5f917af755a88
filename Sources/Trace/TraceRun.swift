// A trace from its start to what is shown of it. `forkloop trace` calls it.

import Glibc
import LocalStack
import Platform

/// What is asked for.
package struct TracePlan: Sendable {
  package var method = "GET"
  /// Below `/sync` and `/async`.
  package var path: String
  package var body: String?
  /// Requests before the one that is traced.
  package var warmUp = Self.usualWarmUp

  /// A statement is planned for good at its fifth run.
  package static let usualWarmUp = 10
  package static let longestWarmUp = 10_000

  package init(path: String) { self.path = path }

  /// In a line.
  package var summary: String { "\(method) \(path)" }

  func request(to model: TracedModel) -> [UInt8] {
    var text = "\(method) /\(model.rawValue)\(path) HTTP/1.1\r\nHost: localhost\r\n"
    if let body { text += "Content-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n" }
    return Array("\(text)\r\n\(body ?? "")".utf8)
  }
}

package enum TraceRun {
  /// Traces one request through each model, in a stack in the folder `scratch`. `say` gets a line for what a person at the
  /// terminal wants to know.
  package static func run(
    _ plan: TracePlan, in scratch: String, unless hasCome: @escaping () -> Bool, say: (String) -> Void
  ) throws -> [TracedRequest] {
    let interruption = Interruption(hasCome)
    let strace = try Strace.find()
    say("starting PostgreSQL, nginx and both responders in \(scratch)")
    let stack = try TracedStack(state: "\(scratch)/var")
    defer { stack.stop() }
    try stack.start(interruption)
    return try TracedModel.allCases.map { model in
      try trace(model, plan, stack, strace: strace, folder: "\(scratch)/\(model.rawValue)", interruption)
    }
  }

  private static func trace(
    _ model: TracedModel, _ plan: TracePlan, _ stack: TracedStack, strace program: String, folder: String,
    _ interruption: Interruption
  ) throws -> TracedRequest {
    let request = plan.request(to: model)
    let isHead = plan.method == "HEAD"
    // The same connection for all: a client's first request differs from the others.
    let client = KeptConnection(port: stack.port)
    var usual: [Double] = []
    for _ in 1..<max(plan.warmUp, 1) {
      try interruption.check()
      let began = MonotonicClock.now
      _ = try client.exchange(request, isHead: isHead)
      usual.append(Double(MonotonicClock.now - began) / 1e6)
    }
    try client.connect()
    let processes = try stack.processes(of: model)
    guard mkdir(folder, 0o700) == 0 else {
      throw LocalStackError("can't make the folder \(folder): \(String(cString: strerror(errno)))")
    }
    let strace = try Strace(program, processes.map(\.id), folder: folder, interruption)
    defer { strace.stop() }
    // To be attached to interrupts a wait. And strace asks the kernel who is at the other end of a socket that it sees for the
    // first time, which takes milliseconds.
    try strace.settle(interruption)
    if plan.warmUp > 0 { _ = try client.exchange(request, isHead: isHead) }
    try strace.settle(interruption)
    let start = now()
    let answer = try client.exchange(request, isHead: isHead)
    try strace.settle(interruption)
    strace.stop()
    let calls = strace.calls(of: processes.map(\.id))
    return TracedRequest(
      model: model, timeline: Timeline(processes.map { ($0.process, calls[$0.id] ?? []) }, since: start),
      status: answer.status, bytes: answer.bytes, usual: usual.isEmpty ? nil : usual.sorted()[usual.count / 2])
  }

  /// Microseconds since 1970, by the clock that strace tells.
  private static func now() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000
  }
}
