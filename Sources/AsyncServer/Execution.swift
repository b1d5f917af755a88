// A statement on its way to the database and back, and everybody who waits for it.

import Application
import CGI
import Postgres

/// One execution of a statement. Several requests may wait for it, if they read the same.
final class Execution {
  let bound: BoundStatement
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
  private(set) var result: QueryResult?
  /// The step that its first waiter has made of that, where others may have it too.
  private var step: Step?

  /// Those who want it. Nearly always there is one.
  private var first: Waiter?
  private var others: [Waiter] = []

  /// Somebody who wants it, by who it is.
  private struct Waiter {
    let id: ObjectIdentifier
    /// Whether it has gone when it could not be let go.
    var hasGone = false
    /// Its task, once it waits.
    var task: UnsafeContinuation<Void, Never>?
  }

  init(_ bound: consuming BoundStatement, since: UInt64?, read: SharedReads.Read? = nil) {
    self.bound = bound
    self.since = since
    self.read = read
  }

  /// One that has ended before it began.
  init(_ bound: consuming BoundStatement, failed error: PostgresError) {
    self.bound = bound
    since = nil
    read = nil
    result = .failure(error)
  }

  var statement: Statement { bound.statement }

  /// Nobody waits, any more or yet.
  var isAbandoned: Bool { first == nil && others.isEmpty }

  /// All who have wanted it have gone, and it can't be taken back.
  var isForNobody: Bool { first.map { $0.hasGone } ?? false && others.allSatisfy(\.hasGone) }

  /// Counts `id` among those who want it.
  func join(_ id: ObjectIdentifier) {
    if first == nil { first = Waiter(id: id) } else { others.append(Waiter(id: id)) }
  }

  /// Whether `id` is to wait for it: until it has ended, or `id` has left.
  func isAwaited(by id: ObjectIdentifier) -> Bool {
    result == nil && (first?.id == id || others.contains { $0.id == id })
  }

  /// Has a task go on then.
  func resume(_ task: UnsafeContinuation<Void, Never>, for id: ObjectIdentifier) {
    if first?.id == id {
      first?.task = task
    } else if let index = others.firstIndex(where: { $0.id == id }) {
      others[index].task = task
    } else {
      task.resume()
    }
  }

  /// Lets `id` wait no more, unless it was sent: then its end is waited for, and is nobody's.
  func leave(_ id: ObjectIdentifier) {
    if let waiter = first, waiter.id == id {
      first?.hasGone = true
      guard !isSent else { return }
      first = nil
      waiter.task?.resume()
    } else if let index = others.firstIndex(where: { $0.id == id }) {
      others[index].hasGone = true
      guard !isSent else { return }
      others.remove(at: index).task?.resume()
    }
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
    isSent = false
    // Those who have gone meanwhile, who could not leave it, do so now.
    for waiter in [first].compactMap({ $0 }) + others where waiter.hasGone { leave(waiter.id) }
  }

  /// Its connection has broken.
  func wasLost() { losses += 1 }

  /// What it waits for on its connection takes too long: it is only a read, and can be sent elsewhere as well.
  func isGivenBack() { wasHeldUp = true }

  /// It has ended: whoever waits goes on.
  func ended(_ result: QueryResult, wake: (UnsafeContinuation<Void, Never>) -> Void = { $0.resume() }) {
    self.result = result
    let (one, more) = (first, others)
    first = nil
    others = []
    if let task = one?.task { wake(task) }
    for waiter in more { if let task = waiter.task { wake(task) } }
  }

  /// The step that `make` makes of the result: once, however many have waited for it.
  func rendering(_ make: () -> Step) -> Step {
    if let step { return step }
    let step = make()
    if read != nil { self.step = step }
    return step
  }
}

/// What has come of a query's statements.
struct Outcome {
  /// nil: nobody waits for it any more.
  let first: Execution?
  var others: [Execution] = []
}

extension Query {
  /// The next step. Of what nobody waits for nothing is made.
  func then(_ outcome: Outcome) -> Step {
    guard let execution = outcome.first, let result = execution.result else { return .nobodys }
    if !outcome.others.isEmpty {
      return then(QueryResults(result, outcome.others.map { $0.result ?? .failure(.cancelled) }))
    }
    return sharing == .rendering ? execution.rendering { then(result) } : then(result)
  }
}
