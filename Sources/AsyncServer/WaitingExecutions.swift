// Executions that wait for a connection, in lanes: what waits in one holds up nobody in another.

import Postgres

/// The pool's queues, each with bounds of its own.
struct WaitingExecutions {
  enum Lane: Int {
    /// Reads that are known to be fast.
    case reads
    /// Writes that are known to be fast.
    case writes
    /// What is slow, or has never run.
    case slow
  }

  /// Of the fast ones, by their lanes' numbers.
  private var fast = [ExecutionQueue](repeating: ExecutionQueue(), count: 2)
  /// Of the slow ones, a queue for each statement, of which none is empty. They take turns: the first is the next.
  private var slow: [(statement: Statement, queue: ExecutionQueue)] = []
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

  /// Puts an execution behind all others of its queue, or before them.
  mutating func add(_ execution: Execution, to lane: Lane, atFront: Bool = false) {
    added += 1
    if lane != .slow {
      fast[lane.rawValue].add(execution, atFront: atFront)
    } else if let index = index(of: execution.statement) {
      slow[index].queue.add(execution, atFront: atFront)
    } else {
      var queue = ExecutionQueue()
      queue.add(execution)
      slow.append((execution.statement, queue))
    }
  }

  /// The oldest of a fast lane; or of a slow statement.
  func first(_ lane: Lane) -> Execution? { fast[lane.rawValue].first }
  func first(slow statement: Statement) -> Execution? { slow(statement).first }

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
  mutating func popFirst(wantedBefore time: UInt64) -> Execution? { pop { $0.since.map { $0 < time } ?? false } }

  /// Takes any that waits.
  mutating func popAny() -> Execution? { pop { _ in true } }

  private mutating func pop(where isMeant: (Execution) -> Bool) -> Execution? {
    for index in fast.indices {
      if let execution = fast[index].first, isMeant(execution) { return fast[index].popFirst() }
    }
    for statement in slowStatements {
      if let execution = first(slow: statement), isMeant(execution) {
        removeFirst(slow: statement)
        return execution
      }
    }
    return nil
  }

  private func index(of statement: Statement) -> Int? { slow.firstIndex { $0.statement === statement } }
  private func slow(_ statement: Statement) -> ExecutionQueue {
    index(of: statement).map { slow[$0].queue } ?? ExecutionQueue()
  }
}
