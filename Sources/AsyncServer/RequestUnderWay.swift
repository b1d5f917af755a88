// A request that has no answer yet: what it asks for, what it waits for, and whether anybody still wants it.

import CGI
import FastCGI
import Orders

/// A request between its last record and its answer.
///
/// Unchecked Sendable: made and used on its loop's thread only.
final class RequestUnderWay: @unchecked Sendable {
  let id: UInt16
  let keepsConnection: Bool
  /// When it was complete, in monotonic nanoseconds.
  let began: UInt64
  /// What is asked for, without its body.
  let request: Request
  /// Nil until there is one, and for good if the request was abandoned before its query was sent.
  var response: Response?
  /// Whether the database was asked.
  private(set) var asksDatabase = false
  /// What it waits for in the database, and how much of that there is: others may go with it (`Operation.others`).
  private var query: Query?
  private var awaited = 0
  /// Whom it goes with; nil: it has come by itself, on this connection.
  private unowned let principal: RequestUnderWay?
  private unowned let connection: ClientConnection
  /// Nobody wants its answer any more; whether that is because the web server has said so.
  private(set) var isAbandoned = false
  private(set) var isAborted = false

  init(_ assembled: AssembledRequest, _ request: Request, on connection: ClientConnection, at now: UInt64) {
    id = assembled.id
    keepsConnection = assembled.keepsConnection
    began = now
    self.request = request
    principal = nil
    self.connection = connection
  }

  /// One that nobody has sent: what comes of it is awaited by `principal`, and no more.
  init(beside principal: RequestUnderWay) {
    id = principal.id
    keepsConnection = true
    began = principal.began
    request = Request()
    self.principal = principal
    connection = principal.connection
  }

  /// Whether there is something to wait for.
  var isWaiting: Bool { awaited > 0 }

  /// Will be told when `query` has an answer.
  func joins(_ query: Query) {
    self.query = query
    asksDatabase = true
    (principal ?? self).awaited += 1
  }

  /// What it has joined has an answer; or none, if the request was abandoned before that was sent.
  func proceed(with response: Response?) {
    self.response = response
    query = nil
    (principal ?? self).hasOneLess()
  }

  private func hasOneLess() {
    awaited -= 1
    if awaited == 0 { connection.answer(self) }
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
