// How much may wait.

import CGI
import Postgres
import Testing

@testable import AsyncServer
@testable import Orders

@Suite struct QueryQueueTests {
  /// A query whose values take `bytes`.
  private func query(_ bytes: Int) -> Query {
    var parameters = Parameters()
    parameters.append(String(repeating: "x", count: bytes - 1))
    return Query(Operation(statement: Orders.health, parameters: parameters, reply: .health), since: 0)
  }

  @Test("gives the oldest first, but for those that are put before them")
  func order() {
    var queue = QueryQueue()
    let queries = (1...3).map { query($0) }
    queue.add(queries[0])
    queue.add(queries[1])
    queue.add(queries[2], atFront: true)
    #expect(queue.first === queries[2] && queue.count == 3)
    #expect([queue.popFirst(), queue.popFirst(), queue.popFirst()] == [queries[2], queries[0], queries[1]])
    #expect(queue.popFirst() == nil && queue.count == 0)
  }

  @Test("has space for so many")
  func number() {
    var queue = QueryQueue()
    for _ in 0..<3 {
      #expect(queue.hasRoom(limit: 3))
      queue.add(query(1))
    }
    #expect(!queue.hasRoom(limit: 3))
    queue.removeFirst()
    #expect(queue.hasRoom(limit: 3))
  }

  @Test("has space for 64 MiB of values, and again when they have gone")
  func bytes() {
    var queue = QueryQueue()
    for _ in 0..<64 {
      #expect(queue.hasRoom(limit: 1000))
      queue.add(query(1 << 20))
    }
    #expect(!queue.hasRoom(limit: 1000))
    let first = queue.popFirst()
    #expect(queue.hasRoom(limit: 1000))
    if let first { queue.add(first, atFront: true) }
    #expect(!queue.hasRoom(limit: 1000))
    while queue.popFirst() != nil {}
    #expect(queue.hasRoom(limit: 1))
  }
}

extension Query: Equatable {
  public static func == (one: Query, other: Query) -> Bool { one === other }
}
