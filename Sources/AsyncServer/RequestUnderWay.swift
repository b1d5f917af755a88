// A request that has no answer yet: what it waits for, and whether anybody still wants it.

import CGI
import FastCGI
import Shop

/// A request between its last record and its answer's.
///
/// Unchecked Sendable: made and used on its loop's thread only.
final class RequestUnderWay: @unchecked Sendable {
  let id: UInt16
  let keepsConnection: Bool
  /// What came, until it is looked at.
  private var assembled: AssembledRequest?
  /// What it waits for in the database, and under which ticket.
  private var query: Query?
  private var ticket = 0
  /// Nobody wants its answer any more; whether that is because the web server has said so.
  private(set) var isAbandoned = false
  private(set) var isAborted = false

  init(_ assembled: AssembledRequest) {
    id = assembled.id
    keepsConnection = assembled.keepsConnection
    self.assembled = assembled
  }

  /// Hands over what is asked for, and keeps nothing of it; nil if its header was too long.
  func takeRequest() -> Request? {
    defer { assembled = nil }
    guard let assembled, !assembled.paramsAreTooLarge else { return nil }
    return Request(assembled)
  }

  /// Waits for a query's answer; nil if the request was abandoned before the query was sent.
  func wait(for query: Query) async -> Response? {
    self.query = query
    ticket = query.nextTicket
    defer { self.query = nil }
    return await query.wait()
  }

  func abandon() {
    isAbandoned = true
    query?.leave(ticket)
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
