// Who waits behind whom.

import Postgres
import Testing

@testable import AsyncServer

@Suite struct WaitingExecutionsTests {
  private func execution(_ statement: Statement) -> Execution { Execution(BoundStatement(statement), since: 0) }

  let one = Statement("one", readOnly: true, "select 1")
  let other = Statement("other", readOnly: true, "select 2")

  @Test("slow ones wait for their own statement only")
  func slow() {
    var waiting = WaitingExecutions()
    let executions = [one, one, other].map(execution)
    for execution in executions { waiting.add(execution, to: .slow) }
    #expect(waiting.count(.slow) == 3 && waiting.slowStatements.map(\.name) == ["one", "other"])
    #expect(waiting.first(slow: other) === executions[2])
    waiting.removeFirst(slow: one)
    #expect(waiting.first(slow: one) === executions[1])
    waiting.hadItsTurn(one)
    #expect(waiting.slowStatements.map(\.name) == ["other", "one"])
    waiting.removeFirst(slow: one)
    #expect(waiting.first(slow: one) == nil && waiting.slowStatements.map(\.name) == ["other"])
  }

  @Test("a lane that is full leaves space in the others, and a slow statement in the other ones")
  func space() {
    var waiting = WaitingExecutions()
    for lane in [WaitingExecutions.Lane.writes, .slow] {
      for _ in 0..<2 { waiting.add(execution(one), to: lane) }
      #expect(!waiting.hasRoom(lane, for: one, limit: 2))
    }
    #expect(waiting.hasRoom(.reads, for: one, limit: 2) && waiting.hasRoom(.slow, for: other, limit: 2))
  }

  @Test("all can be taken out, whatever they wait for")
  func all() {
    var waiting = WaitingExecutions()
    let lanes: [WaitingExecutions.Lane] = [.slow, .slow, .reads, .writes]
    for lane in lanes { waiting.add(execution(one), to: lane) }
    waiting.add(execution(other), to: .slow)
    var count = 0
    while waiting.popAny() != nil { count += 1 }
    #expect(count == 5 && waiting.added == 5 && waiting.isEmpty)
  }
}
