// Executions that wait for a connection, bounded in number and in bytes.

import DequeModule

/// A queue of executions, the oldest first.
struct ExecutionQueue {
  private var executions: Deque<Execution> = []
  /// What the values of all of them take, and how much that may be.
  private(set) var bytes = 0
  private static let bytesLimit = 64 << 20

  var count: Int { executions.count }
  var first: Execution? { executions.first }

  /// Whether one more may wait where `limit` may, and where the values of others take space as well.
  func hasRoom(limit: Int, besides others: Int = 0) -> Bool {
    executions.count < limit && bytes + others < Self.bytesLimit
  }

  mutating func add(_ execution: Execution, atFront: Bool = false) {
    bytes += execution.bound.parameters.bytes.count
    if atFront { executions.prepend(execution) } else { executions.append(execution) }
  }

  mutating func removeFirst() { _ = popFirst() }

  mutating func popFirst() -> Execution? {
    guard let execution = executions.popFirst() else { return nil }
    bytes -= execution.bound.parameters.bytes.count
    return execution
  }
}
