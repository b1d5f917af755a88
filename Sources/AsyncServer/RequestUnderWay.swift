// A request that has no answer yet: what it asks for, what it waits for, and whether anybody still wants it.

import CGI
import FastCGI
import Orders

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
  /// The last query that it has waited for; nil: none.
  private(set) var query: Query?
  /// How many it waits for, and its task, which goes on when there are none.
  private var awaited = 0
  private var waiter: UnsafeContinuation<Void, Never>?
  /// Nobody wants its answer any more; whether that is because the web server has said so.
  private(set) var isAbandoned = false
  private(set) var isAborted = false

  init(_ assembled: AssembledRequest, at now: UInt64) {
    id = assembled.id
    keepsConnection = assembled.keepsConnection
    began = now
    isTooLarge = assembled.paramsAreTooLarge
    var request = Request(assembled, roots: Mode.prefixes)
    body = request.body
    request.body = []
    self.request = request
  }

  /// What `application` makes of it. The body is needed once: thousands may wait, each with up to a megabyte.
  func begin(by application: Orders) -> Step {
    if body.isEmpty { return application.begin(request) }
    var whole = request
    swap(&whole.body, &body)
    return application.begin(whole)
  }

  func joins(_ query: Query) {
    self.query = query
    awaited += 1
  }

  /// A query has ended that it has joined; or it has left it.
  func hasOneLess() {
    awaited -= 1
    guard awaited == 0, let waiter else { return }
    self.waiter = nil
    waiter.resume()
  }

  /// Waits until all that it has joined has ended.
  func queriesEnded() async {
    if awaited > 0 { await withUnsafeContinuation { waiter = $0 } }
  }

  func abandon() {
    isAbandoned = true
    query?.leave(self)
  }

  /// ABORT_REQUEST (FastCGI 1.0 §5.4).
  func abort() {
    isAborted = true
    abandon()
  }
}
