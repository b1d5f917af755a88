// A request that has no answer yet: what it asks for, what it waits for, and whether anybody still wants it.

import Application
import CGI
import EventLoop
import FastCGI
import ProcessPool

/// A request between its last record and its answer.
final class RequestUnderWay {
  let id: UInt16
  let keepsConnection: Bool
  /// When it was complete, in monotonic nanoseconds.
  let began: UInt64
  /// What is asked for, without its body.
  let request: Request
  private var body: [UInt8]
  /// Whether its PARAMS were too large, and there is nothing else in it.
  let isTooLarge: Bool
  /// What it has waited for last; nil: nothing.
  private(set) var execution: Execution?
  private var others: [Execution] = []
  /// For how long it has waited for the database, in nanoseconds.
  var databaseTime: UInt64 = 0
  /// Whether it waits for time to pass.
  private var sleep: Sleep?
  /// Nobody wants its answer any more; whether that is because the web server has said so.
  private(set) var isAbandoned = false
  private(set) var isAborted = false

  init(_ assembled: AssembledRequest, for application: any Application, at now: UInt64) {
    id = assembled.id
    keepsConnection = assembled.keepsConnection
    began = now
    isTooLarge = assembled.paramsAreTooLarge
    var request = Request(assembled, roots: application.roots)
    body = request.body
    request.body = []
    self.request = request
  }

  /// What `application` makes of it. The body is needed once: thousands may wait, each with up to a megabyte.
  func begin(by application: any Application) -> Step {
    if body.isEmpty { return application.begin(request) }
    var whole = request
    swap(&whole.body, &body)
    return application.begin(whole)
  }

  /// It wants that from now on, and nothing else.
  func wants(_ execution: Execution) {
    self.execution = execution
    others = []
    execution.join(ObjectIdentifier(self))
  }

  /// And that.
  func wantsToo(_ execution: Execution) {
    others.append(execution)
    execution.join(ObjectIdentifier(self))
  }

  /// What it waits for; nil once all has ended that it wants.
  var awaited: Execution? {
    let id = ObjectIdentifier(self)
    if let execution, execution.isAwaited(by: id) { return execution }
    return others.isEmpty ? nil : others.first { $0.isAwaited(by: id) }
  }

  /// What has come of that.
  var outcome: Outcome { isAbandoned ? Outcome(first: nil) : Outcome(first: execution, others: others) }

  /// Waits for time to pass, then takes a step. Of what nobody waits for nothing is made.
  func sleep(_ duration: Duration, on loop: EventLoop, _ then: () -> Step) async -> Step {
    await sleep(duration, on: loop)
    return isAbandoned ? .nobodys : then()
  }

  /// Waits for time to pass, for less where it is abandoned. What stays until then is a timer, and nothing of the request.
  func sleep(_ duration: Duration, on loop: EventLoop) async {
    if isAbandoned { return }
    let sleep = Sleep()
    self.sleep = sleep
    loop.spawn {
      await loop.sleep(duration)
      sleep.end()
    }
    await withUnsafeContinuation { sleep.task = $0 }
    self.sleep = nil
  }

  /// A task that waits for time to pass.
  private final class Sleep {
    var task: UnsafeContinuation<Void, Never>?

    func end() {
      let task = task
      self.task = nil
      task?.resume()
    }
  }

  func abandon() {
    isAbandoned = true
    execution?.leave(ObjectIdentifier(self))
    for other in others { other.leave(ObjectIdentifier(self)) }
    sleep?.end()
  }

  /// ABORT_REQUEST (FastCGI 1.0 §5.4).
  func abort() {
    isAborted = true
    abandon()
  }
}
