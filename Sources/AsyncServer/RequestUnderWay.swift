// A request that has no answer yet: what it asks for, what it waits for, and whether anybody still wants it.

import CGI
import FastCGI
import Shop

/// A request between its last record and its answer's.
///
/// What is long lives here and not in the task that serves it, whose memory grows with everything that it keeps while it waits.
///
/// Unchecked Sendable: made and used on its loop's thread only.
final class RequestUnderWay: @unchecked Sendable {
  let id: UInt16
  let keepsConnection: Bool
  /// What is asked for; nil if its header was too long.
  var request: Request?
  /// Nil until there is one, and for good if the request was abandoned before its query was sent.
  var response: Response?
  /// What goes with it to the database for nobody (`Operation.others`).
  var others: [RequestUnderWay] = []
  /// What it waits for in the database.
  private var query: Query?
  private var waiter: UnsafeContinuation<Void, Never>?
  /// Nobody wants its answer any more; whether that is because the web server has said so.
  private(set) var isAbandoned = false
  private(set) var isAborted = false

  init(_ assembled: AssembledRequest) {
    id = assembled.id
    keepsConnection = assembled.keepsConnection
    request = assembled.paramsAreTooLarge ? nil : Request(assembled)
  }

  /// One that nobody has sent.
  init() {
    id = 0
    keepsConnection = true
  }

  /// Whether there is something to wait for.
  var isWaiting: Bool { query != nil }

  /// Will be told when `query` has an answer.
  func joins(_ query: Query) { self.query = query }

  /// Waits until what it has joined has an answer, or until the request was abandoned before it was sent.
  func wait() async { if isWaiting { await withUnsafeContinuation { waiter = $0 } } }

  /// Its wait has ended; without an answer if it was abandoned.
  func proceed(with response: Response?) {
    self.response = response
    query = nil
    let continuation = waiter
    waiter = nil
    continuation?.resume()
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

extension Request {
  /// What the web server's variables mean.
  init(_ assembled: AssembledRequest) {
    self.init(storage: assembled.params)
    body = assembled.body
    bodyIsTooLarge = assembled.bodyIsTooLarge
    var walk = NameValuePairs()
    // The assembler has walked them before: they are whole.
    while let pair = try? walk.next(assembled.params.span) {
      set(assembled.params.span.extracting(pair.name), to: pair.value)
    }
    finish()
  }
}
