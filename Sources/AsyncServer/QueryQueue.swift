// Queries that wait for a connection, bounded in number and in bytes.

import DequeModule

/// A queue of queries, the oldest first.
struct QueryQueue {
  private var queries: Deque<Query> = []
  /// What the values of all of them take, and how much that may be.
  private(set) var bytes = 0
  private static let bytesLimit = 64 << 20

  var count: Int { queries.count }
  var first: Query? { queries.first }

  /// Whether one more may wait where `limit` may, and where the values of others take space as well.
  func hasRoom(limit: Int, besides others: Int = 0) -> Bool {
    queries.count < limit && bytes + others < Self.bytesLimit
  }

  mutating func add(_ query: Query, atFront: Bool = false) {
    bytes += query.operation.parameters.bytes.count
    if atFront { queries.prepend(query) } else { queries.append(query) }
  }

  mutating func removeFirst() { _ = popFirst() }

  mutating func popFirst() -> Query? {
    guard let query = queries.popFirst() else { return nil }
    bytes -= query.operation.parameters.bytes.count
    return query
  }
}
