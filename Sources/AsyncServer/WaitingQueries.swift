// Queries that wait for a connection, in lanes: what waits in one holds up nobody in another.

import Postgres

/// The pool's queues, each with bounds of its own.
struct WaitingQueries {
  enum Lane: Int {
    /// Reads that are known to be fast.
    case reads
    /// Writes that are known to be fast.
    case writes
    /// What is known to be slow, and writes that have never run.
    case slow
    /// Reads that have never run.
    case untried
  }

  /// The lanes but `untried`, by their numbers.
  private var queues = [QueryQueue](repeating: QueryQueue(), count: 3)
  /// A queue for each statement: where room is scarce one of each is tried at a time, and those that wait for its end hold up no
  /// others. There are few, and for a moment only.
  private var untried: [(statement: Statement, queue: QueryQueue)] = []
  /// How many have ever been added.
  private(set) var added: UInt64 = 0

  /// The statements of the reads that have never run, the one that was asked for first before the others.
  var untriedStatements: [Statement] { untried.map(\.statement) }

  var isEmpty: Bool { untried.isEmpty && queues.allSatisfy { $0.count == 0 } }

  func count(_ lane: Lane) -> Int {
    lane == .untried ? untried.reduce(0) { $0 + $1.queue.count } : queues[lane.rawValue].count
  }

  /// Whether one more may wait where `limit` may.
  func hasRoom(_ lane: Lane, limit: Int) -> Bool {
    guard lane == .untried else { return queues[lane.rawValue].hasRoom(limit: limit) }
    return count(lane) < limit && untried.allSatisfy { $0.queue.hasRoom(limit: limit) }
  }

  /// Puts a query behind all others of its lane, or before them.
  mutating func add(_ query: Query, to lane: Lane, atFront: Bool = false) {
    added += 1
    if lane != .untried {
      queues[lane.rawValue].add(query, atFront: atFront)
    } else if let index = untried.firstIndex(where: { $0.statement === query.operation.statement }) {
      untried[index].queue.add(query, atFront: atFront)
    } else {
      var queue = QueryQueue()
      queue.append(query)
      untried.append((query.operation.statement, queue))
    }
  }

  /// The oldest of a lane; or of those that have never run, of a statement.
  func first(_ lane: Lane) -> Query? { queues[lane.rawValue].first }
  func first(untried statement: Statement) -> Query? { untried.first { $0.statement === statement }?.queue.first }

  mutating func removeFirst(_ lane: Lane) { queues[lane.rawValue].removeFirst() }

  mutating func removeFirst(untried statement: Statement) {
    guard let index = untried.firstIndex(where: { $0.statement === statement }) else { return }
    untried[index].queue.removeFirst()
    if untried[index].queue.first == nil { untried.remove(at: index) }
  }

  /// Takes one that has waited since before `time`, if it is the first of its queue.
  mutating func popFirst(wantedBefore time: UInt64) -> Query? {
    func isOverdue(_ query: Query?) -> Bool { query?.since.map { $0 < time } ?? false }
    for index in queues.indices where isOverdue(queues[index].first) { return queues[index].popFirst() }
    guard let late = untried.first(where: { isOverdue($0.queue.first) }) else { return nil }
    let query = late.queue.first
    removeFirst(untried: late.statement)
    return query
  }

  /// Takes any that waits.
  mutating func popAny() -> Query? {
    for index in queues.indices { if let query = queues[index].popFirst() { return query } }
    guard let statement = untried.first?.statement, let query = first(untried: statement) else { return nil }
    removeFirst(untried: statement)
    return query
  }
}
