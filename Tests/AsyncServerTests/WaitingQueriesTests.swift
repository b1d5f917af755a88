// Who waits behind whom.

import CGI
import Postgres
import Testing

@testable import AsyncServer
@testable import Shop

@Suite struct WaitingQueriesTests {
  private func query(_ statement: Statement) -> Query {
    Query(Operation(statement: statement, parameters: Parameters(), reply: .health), since: 0)
  }

  @Test("those that have never run wait for their own statement only")
  func untried() {
    var waiting = WaitingQueries()
    let (one, other) = (Statement("one", readOnly: true, "select 1"), Statement("other", readOnly: true, "select 2"))
    let queries = [one, one, other].map(query)
    for query in queries { waiting.add(query, to: .untried) }
    #expect(waiting.count(.untried) == 3 && waiting.untriedStatements.map(\.name) == ["one", "other"])
    #expect(waiting.first(untried: other) === queries[2])
    waiting.removeFirst(untried: one)
    #expect(waiting.first(untried: one) === queries[1])
    waiting.removeFirst(untried: one)
    #expect(waiting.first(untried: one) == nil && waiting.untriedStatements.map(\.name) == ["other"])
  }

  @Test("a lane that is full leaves room in the others")
  func room() {
    var waiting = WaitingQueries()
    let statement = Statement("one", readOnly: true, "select 1")
    for lane in [WaitingQueries.Lane.writes, .untried] {
      for _ in 0..<2 { waiting.add(query(statement), to: lane) }
      #expect(!waiting.hasRoom(lane, limit: 2))
    }
    #expect(waiting.hasRoom(.reads, limit: 2) && waiting.hasRoom(.slow, limit: 2))
  }

  @Test("all can be taken out, whatever they wait for")
  func all() {
    var waiting = WaitingQueries()
    let statement = Statement("one", readOnly: true, "select 1")
    let lanes: [WaitingQueries.Lane] = [.untried, .slow, .reads, .writes, .untried]
    for lane in lanes { waiting.add(query(statement), to: lane) }
    var count = 0
    while waiting.popAny() != nil { count += 1 }
    #expect(count == 5 && waiting.added == 5)
  }
}
