// A request that has no answer yet: what it waits for, and whether anybody still wants it.

import CGI
import FastCGI
import Shop

/// A request between its last record and its answer's.
///
/// Unchecked Sendable: made and used on its loop's thread only.
final class RequestUnderWay: @unchecked Sendable {
  let assembled: AssembledRequest
  /// What it waits for in the database, and under which ticket.
  private var query: Query?
  private var ticket = 0
  /// Nobody wants its answer any more; whether that is because the web server has said so.
  private(set) var isAbandoned = false
  private(set) var isAborted = false

  init(_ assembled: AssembledRequest) { self.assembled = assembled }

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
