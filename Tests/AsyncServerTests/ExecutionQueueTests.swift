// How much may wait.

import Postgres
import Testing

@testable import AsyncServer

@Suite struct ExecutionQueueTests {
  private let statement = Statement("any", readOnly: true, "select 1")

  /// An execution whose values take `bytes`.
  private func execution(_ bytes: Int) -> Execution {
    var parameters = Parameters()
    parameters.append(String(repeating: "x", count: bytes - 1))
    return Execution(BoundStatement(statement, parameters), since: 0)
  }

  @Test("gives the oldest first, but for those that are put before them")
  func order() {
    var queue = ExecutionQueue()
    let executions = (1...3).map { execution($0) }
    queue.add(executions[0])
    queue.add(executions[1])
    queue.add(executions[2], atFront: true)
    #expect(queue.first === executions[2] && queue.count == 3)
    #expect([queue.popFirst(), queue.popFirst(), queue.popFirst()] == [executions[2], executions[0], executions[1]])
    #expect(queue.popFirst() == nil && queue.count == 0)
  }

  @Test("has space for so many")
  func number() {
    var queue = ExecutionQueue()
    for _ in 0..<3 {
      #expect(queue.hasRoom(limit: 3))
      queue.add(execution(1))
    }
    #expect(!queue.hasRoom(limit: 3))
    queue.removeFirst()
    #expect(queue.hasRoom(limit: 3))
  }

  @Test("has space for 64 MiB of values, and again when they have gone")
  func bytes() {
    var queue = ExecutionQueue()
    for _ in 0..<64 {
      #expect(queue.hasRoom(limit: 1000))
      queue.add(execution(1 << 20))
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

extension Execution: Equatable {
  public static func == (one: Execution, other: Execution) -> Bool { one === other }
}
