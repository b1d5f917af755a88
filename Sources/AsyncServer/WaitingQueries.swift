// Queries that wait for a connection, in lanes: what waits in one holds up nobody in another.

import Postgres

/// The pool's queues, each with bounds of its own.
struct WaitingQueries {
  enum Lane: Int {
    /// Reads that are known to be fast.
    case reads
    /// Writes that are known to be fast.
    case writes
    /// What is slow, or has never run.
    case slow
  }

  /// Of the fast ones, by their lanes' numbers.
  private var fast = [QueryQueue](repeating: QueryQueue(), count: 2)
  /// Of the slow ones, a queue for each statement, of which none is empty. They take turns: the first is the next.
  private var slow: [(statement: Statement, queue: QueryQueue)] = []
  /// How many have ever been added.
  private(set) var added: UInt64 = 0

  /// The statements of the slow ones, the one whose turn is next before the others.
  var slowStatements: [Statement] { slow.map(\.statement) }

  var isEmpty: Bool { slow.isEmpty && fast.allSatisfy { $0.count == 0 } }

  func count(_ lane: Lane) -> Int {
    lane == .slow ? slow.reduce(0) { $0 + $1.queue.count } : fast[lane.rawValue].count
  }

  /// Whether one more of a statement may wait where `limit` may; of slow ones as many of each statement, but all slow reads have the
  /// space for their values in common, and all slow writes.
  func hasRoom(_ lane: Lane, for statement: Statement, limit: Int) -> Bool {
    guard lane == .slow else { return fast[lane.rawValue].hasRoom(limit: limit) }
    let others = slow.filter { $0.statement !== statement && $0.statement.isReadOnly == statement.isReadOnly }
    return slow(statement).hasRoom(limit: limit, besides: others.reduce(0) { $0 + $1.queue.bytes })
  }

  /// Puts a query behind all others of its queue, or before them.
  mutating func add(_ query: Query, to lane: Lane, atFront: Bool = false) {
    added += 1
    if lane != .slow {
      fast[lane.rawValue].add(query, atFront: atFront)
    } else if let index = index(of: query.operation.statement) {
      slow[index].queue.add(query, atFront: atFront)
    } else {
      var queue = QueryQueue()
      queue.add(query)
      slow.append((query.operation.statement, queue))
    }
  }

  /// The oldest of a fast lane; or of a slow statement.
  func first(_ lane: Lane) -> Query? { fast[lane.rawValue].first }
  func first(slow statement: Statement) -> Query? { slow(statement).first }

  mutating func removeFirst(_ lane: Lane) { fast[lane.rawValue].removeFirst() }

  mutating func removeFirst(slow statement: Statement) {
    guard let index = index(of: statement) else { return }
    slow[index].queue.removeFirst()
    if slow[index].queue.count == 0 { slow.remove(at: index) }
  }

  /// Lets all other slow statements go before this one.
  mutating func hadItsTurn(_ statement: Statement) {
    if let index = index(of: statement) { slow.append(slow.remove(at: index)) }
  }

  /// Takes one that has waited since before `time`, if it is the first of its queue.
  mutating func popFirst(wantedBefore time: UInt64) -> Query? { pop { $0.since.map { $0 < time } ?? false } }

  /// Takes any that waits.
  mutating func popAny() -> Query? { pop { _ in true } }

  private mutating func pop(where isMeant: (Query) -> Bool) -> Query? {
    for index in fast.indices {
      if let query = fast[index].first, isMeant(query) { return fast[index].popFirst() }
    }
    for statement in slowStatements {
      if let query = first(slow: statement), isMeant(query) {
        removeFirst(slow: statement)
        return query
      }
    }
    return nil
  }

  private func index(of statement: Statement) -> Int? { slow.firstIndex { $0.statement === statement } }
  private func slow(_ statement: Statement) -> QueryQueue {
    index(of: statement).map { slow[$0].queue } ?? QueryQueue()
  }
}
