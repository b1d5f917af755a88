// Who waits behind whom.

import CGI
import Postgres
import Testing

@testable import AsyncServer
@testable import Orders

@Suite struct WaitingQueriesTests {
  private func query(_ statement: Statement) -> Query {
    Query(Operation(statement: statement, parameters: Parameters(), reply: .health), since: 0)
  }

  let one = Statement("one", readOnly: true, "select 1")
  let other = Statement("other", readOnly: true, "select 2")

  @Test("slow ones wait for their own statement only")
  func slow() {
    var waiting = WaitingQueries()
    let queries = [one, one, other].map(query)
    for query in queries { waiting.add(query, to: .slow) }
    #expect(waiting.count(.slow) == 3 && waiting.slowStatements.map(\.name) == ["one", "other"])
    #expect(waiting.first(slow: other) === queries[2])
    waiting.removeFirst(slow: one)
    #expect(waiting.first(slow: one) === queries[1])
    waiting.hadItsTurn(one)
    #expect(waiting.slowStatements.map(\.name) == ["other", "one"])
    waiting.removeFirst(slow: one)
    #expect(waiting.first(slow: one) == nil && waiting.slowStatements.map(\.name) == ["other"])
  }

  @Test("a lane that is full leaves space in the others, and a slow statement in the other ones")
  func space() {
    var waiting = WaitingQueries()
    for lane in [WaitingQueries.Lane.writes, .slow] {
      for _ in 0..<2 { waiting.add(query(one), to: lane) }
      #expect(!waiting.hasRoom(lane, for: one, limit: 2))
    }
    #expect(waiting.hasRoom(.reads, for: one, limit: 2) && waiting.hasRoom(.slow, for: other, limit: 2))
  }

  @Test("all can be taken out, whatever they wait for")
  func all() {
    var waiting = WaitingQueries()
    let lanes: [WaitingQueries.Lane] = [.slow, .slow, .reads, .writes]
    for lane in lanes { waiting.add(query(one), to: lane) }
    waiting.add(query(other), to: .slow)
    var count = 0
    while waiting.popAny() != nil { count += 1 }
    #expect(count == 5 && waiting.added == 5 && waiting.isEmpty)
  }
}
