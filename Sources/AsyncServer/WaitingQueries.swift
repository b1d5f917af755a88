// Queries that wait for a connection, in lanes: what waits in one holds up nobody in another.

import Postgres

/// The pool's queues, each with bounds of its own.
struct WaitingQueries {
  enum Lane {
    /// Reads that are known to be fast.
    case reads
    /// Writes that are known to be fast.
    case writes
    /// What is slow, or has never run: a lane for each statement, which take turns.
    case slow(Statement)
  }

  private var reads = QueryQueue()
  private var writes = QueryQueue()
  /// None of them is empty. The first is the one whose turn is next.
  private var slow: [(statement: Statement, queue: QueryQueue)] = []
  /// How many have ever been added.
  private(set) var added: UInt64 = 0

  /// The statements of slow queries, the one whose turn is next before the others.
  var slowStatements: [Statement] { slow.map(\.statement) }
  var slowCount: Int { slow.reduce(0) { $0 + $1.queue.count } }
  var isEmpty: Bool { slow.isEmpty && reads.count == 0 && writes.count == 0 }
  private var lanes: [Lane] { [.reads, .writes] + slowStatements.map(Lane.slow) }

  private subscript(lane: Lane) -> QueryQueue {
    get {
      switch lane {
      case .reads: reads
      case .writes: writes
      case .slow(let statement): slow.first { $0.statement === statement }?.queue ?? QueryQueue()
      }
    }
    _modify {
      switch lane {
      case .reads: yield &reads
      case .writes: yield &writes
      case .slow(let statement):
        let index = slow.firstIndex { $0.statement === statement } ?? slow.endIndex
        if index == slow.endIndex { slow.append((statement, QueryQueue())) }
        defer { if slow[index].queue.count == 0 { slow.remove(at: index) } }
        yield &slow[index].queue
      }
    }
  }

  func count(_ lane: Lane) -> Int { self[lane].count }
  func first(_ lane: Lane) -> Query? { self[lane].first }

  /// Whether one more may wait where `limit` may. All slow reads have room for their values together, and all slow writes.
  func hasRoom(_ lane: Lane, limit: Int) -> Bool {
    guard case .slow(let statement) = lane else { return self[lane].hasRoom(limit: limit) }
    let others = slow.filter { $0.statement !== statement && $0.statement.isReadOnly == statement.isReadOnly }
    return self[lane].hasRoom(limit: limit, besides: others.reduce(0) { $0 + $1.queue.bytes })
  }

  /// Puts a query behind all others of its lane, or before them.
  mutating func add(_ query: Query, to lane: Lane, atFront: Bool = false) {
    added += 1
    self[lane].add(query, atFront: atFront)
  }

  mutating func removeFirst(_ lane: Lane) { self[lane].removeFirst() }

  /// Lets all other slow statements go before this one.
  mutating func hadItsTurn(_ statement: Statement) {
    guard let index = slow.firstIndex(where: { $0.statement === statement }) else { return }
    slow.append(slow.remove(at: index))
  }

  /// Takes one that has waited since before `time`, if it is the first of its lane.
  mutating func popFirst(wantedBefore time: UInt64) -> Query? {
    for lane in lanes {
      if let query = first(lane), let since = query.since, since < time { return self[lane].popFirst() }
    }
    return nil
  }

  /// Takes any that waits.
  mutating func popAny() -> Query? {
    for lane in lanes { if let query = self[lane].popFirst() { return query } }
    return nil
  }
}
