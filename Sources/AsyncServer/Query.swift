// An operation on its way to the database and back, and everybody who waits for it.

import CGI
import EventLoop
import Orders
import Postgres

/// One statement's execution. Several requests may wait for it, if they read the same.
final class Query {
  let operation: Operation
  /// Since when it has been wanted, in monotonic nanoseconds; nil if it is the rest of what has been done in part, and is waited
  /// for however long it takes.
  let since: UInt64?
  /// What it reads, if others may share it.
  let read: SharedReads.Read?
  /// Whether a connection has it: then it can't be taken back, nor joined.
  private(set) var isSent = false
  /// When it was given to that connection, in monotonic nanoseconds.
  private(set) var sentAt: UInt64 = 0
  /// Whether it has been sent before.
  private(set) var isRepeated = false
  /// Whether it was behind something slow, and has been sent elsewhere.
  private(set) var wasHeldUp = false
  /// How often a connection has broken while it had it.
  private(set) var losses = 0
  /// Whether its statement was sent by its name.
  private(set) var isByName = false
  /// Whether that was refused, so that it is to be sent without.
  private(set) var avoidsName = false

  /// What has come of it; nil: nothing yet.
  private(set) var result: Result<ResultSet, PostgresError>?
  /// To make something of so many rows takes about half a millisecond.
  private static let manyRows = 2_000
  /// What its first waiter has made of that, where others may have it too.
  private var step: Step?

  /// Those who wait. Nearly always there is one.
  private var first: RequestUnderWay?
  private var others: [RequestUnderWay] = []

  init(_ operation: consuming Operation, since: UInt64?, read: SharedReads.Read? = nil) {
    self.operation = operation
    self.since = since
    self.read = read
  }

  /// One that has ended before it began.
  init(_ operation: consuming Operation, failed error: PostgresError) {
    self.operation = operation
    since = nil
    read = nil
    result = .failure(error)
  }

  /// Nobody waits, any more or yet.
  var isAbandoned: Bool { first == nil && others.isEmpty }

  /// Has `request` told of the answer.
  func add(_ request: RequestUnderWay) {
    if first == nil { first = request } else { others.append(request) }
    request.joins(self)
  }

  /// Lets `request` wait no more, unless the query was sent. Then its answer is nobody's.
  func leave(_ request: RequestUnderWay) {
    guard !isSent else { return }
    if first === request {
      first = nil
    } else if let index = others.firstIndex(where: { $0 === request }) {
      others.remove(at: index)
    } else {
      return
    }
    request.hasOneLess()
  }

  /// A connection has it now.
  func wasSent(byName: Bool = true, at now: UInt64 = 0) {
    isSent = true
    sentAt = now
    isByName = byName
  }

  /// It was not executed, and is to be sent again; whether without its statement's name.
  func repeats(avoidingName: Bool = false) {
    isRepeated = true
    if avoidingName { avoidsName = true }
    waits()
  }

  /// Its connection has broken.
  func wasLost() { losses += 1 }

  /// What it waits for on its connection takes too long: it is only a read, and can be sent elsewhere as well.
  func isGivenBack() { wasHeldUp = true }

  /// No connection has it any more. Those who have gone meanwhile, who could not leave it, do so now.
  private func waits() {
    isSent = false
    for request in [first].compactMap({ $0 }) + others where request.isAbandoned { leave(request) }
  }

  /// It has ended: whoever waits goes on; one in a turn of the loop where that takes long.
  func ended(_ result: Result<ResultSet, PostgresError>, on loop: EventLoop) {
    self.result = result
    let (one, more) = (first, others)
    first = nil
    others = []
    if case .success(let rows) = result, rows.rowCount >= Self.manyRows {
      for request in [one].compactMap({ $0 }) + more { loop.inTurn { request.hasOneLess() } }
      return
    }
    one?.hasOneLess()
    for request in more { request.hasOneLess() }
  }

  /// What `application` makes of the result: once, however many have waited for it.
  func step(by application: Orders) -> Step {
    if let step { return step }
    let step = application.finish(operation, result ?? .failure(.cancelled))
    if read != nil { self.step = step }
    return step
  }
}

extension Orders {
  /// What comes of an operation that has been executed.
  func finish(_ operation: Operation, _ query: Query) -> Step { query.step(by: self) }
}
