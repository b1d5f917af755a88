// An operation on its way to the database and back, and everybody who waits for it.

import CGI
import Shop

/// One statement's execution, or that of several, one after the other. Several requests may wait for it, if they read the same.
///
/// Unchecked Sendable: made and used on its loop's thread only.
final class Query: @unchecked Sendable {
  private(set) var operation: Operation
  /// What it reads, if others may share it.
  let key: SharedReads.Key?
  /// Whether a connection has it: then it can't be taken back, nor joined.
  var isSent = false
  var isRepeated = false

  /// The tickets of those who wait, and how to tell them. Nearly always there is one.
  private var first: (ticket: Int, continuation: UnsafeContinuation<Response?, Never>)?
  private var others: [(ticket: Int, continuation: UnsafeContinuation<Response?, Never>)] = []
  private(set) var nextTicket = 0

  init(_ operation: Operation, key: SharedReads.Key? = nil) {
    self.operation = operation
    self.key = key
  }

  /// Waits for the answer, under the ticket that was the next; nil if the ticket was given back.
  func wait() async -> Response? {
    await withUnsafeContinuation {
      let waiter = (nextTicket, $0)
      nextTicket += 1
      if first == nil { first = waiter } else { others.append(waiter) }
    }
  }

  /// Nobody waits any more.
  var isAbandoned: Bool { first == nil && others.isEmpty }

  /// The holder of `ticket` has gone: it waits no more, unless the query was sent. Then its answer is nobody's.
  func leave(_ ticket: Int) {
    guard !isSent else { return }
    if let waiter = first, waiter.ticket == ticket {
      first = nil
      waiter.continuation.resume(returning: nil)
    } else if let index = others.firstIndex(where: { $0.ticket == ticket }) {
      others.remove(at: index).continuation.resume(returning: nil)
    }
  }

  /// Its last operation has ended, and another one is to be executed before there is an answer.
  func continues(with operation: Operation) {
    self.operation = operation
    isSent = false
  }

  func answer(_ response: Response) {
    let waiters = others
    others = []
    if let waiter = first {
      first = nil
      waiter.continuation.resume(returning: response)
    }
    for waiter in waiters { waiter.continuation.resume(returning: response) }
  }
}
