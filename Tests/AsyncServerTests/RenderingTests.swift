// Whose answer is made of what, and how often: what is shared, and what is not.

import Application
import CGI
import Postgres
import Testing

@testable import AsyncServer

@Suite struct RenderingTests {
  private let statement = Statement("item", readOnly: true, "select 1")

  private func said(_ step: Step) -> String {
    guard case .respond(let response) = step else { return "no answer" }
    return response.status == .ok ? String(decoding: response.body, as: UTF8.self) : "\(response.status.code)"
  }

  /// Queries whose answers say which of them has made them, and how often any has been made.
  private final class Queries {
    var made: [Int] = []

    func query(_ number: Int, _ sharing: Query.Sharing, _ statement: Statement, others: Int = 0) -> Query {
      guard others > 0 else {
        return Query(statement, sharing: sharing) { self.answer(number, [$0]) }
      }
      let bound = BoundStatement(statement)
      return Query(together: bound, Array(repeating: bound, count: others), sharing: sharing) {
        self.answer(number, $0)
      }
    }

    private func answer(_ number: Int, _ results: [QueryResult]) -> Step {
      made.append(number)
      let words = results.map { result in
        switch result {
        case .success(let rows): rows.string(0, 0)
        case .failure(let error): "\(error)"
        }
      }
      return .respond(Response(.ok, body: Array("\(number): \(words.joined(separator: " "))".utf8)))
    }
  }

  private func rows(_ text: String) throws -> QueryResult {
    .success(try #require(ResultSet.inMemory(columns: 1, [[text]])))
  }

  private func execution(isShared: Bool, _ result: QueryResult) -> Execution {
    let bound = BoundStatement(statement)
    let execution = Execution(bound, since: 0, read: isShared ? SharedReads.Read(SharedReads.Key(bound)) : nil)
    execution.ended(result)
    return execution
  }

  @Test(
    "what several wait for is rendered once for those who share renderings, and for each of the others",
    arguments: [
      // Whether it is shared, who asks for what; whose answer each of them has.
      (true, [.rendering, .rendering, .rendering], [0, 0, 0]), (true, [.rows, .rows, .rows], [0, 1, 2]),
      (true, [.rendering, .rows, .rendering, .rows], [0, 1, 0, 3]),
      (true, [.rows, .rendering, .rows, .rendering], [0, 1, 2, 1]),
      (true, [.rendering, .nothing, .rendering], [0, 1, 0]),
      // What one has asked for alone is nobody else's.
      (false, [.rendering, .rendering], [0, 1]), (false, [.rows, .nothing], [0, 1]),
    ] as [(Bool, [Query.Sharing], [Int])])
  func renderings(_ isShared: Bool, _ sharings: [Query.Sharing], _ makers: [Int]) throws {
    for (result, word) in [(try rows("row"), "row"), (.failure(.queueFull), "\(PostgresError.queueFull)")] {
      let queries = Queries()
      let execution = execution(isShared: isShared, result)
      let answers = sharings.enumerated().map { number, sharing in
        said(queries.query(number, sharing, statement).then(Outcome(first: execution)))
      }
      #expect(answers == makers.map { "\($0): \(word)" })
      #expect(queries.made == makers.enumerated().filter { $0.offset == $0.element }.map(\.element))
    }
  }

  @Test(
    "nothing is rendered for nobody", arguments: [Query.Sharing.nothing, .rows, .rendering], [0, 2])
  func nobody(_ sharing: Query.Sharing, _ others: Int) throws {
    let queries = Queries()
    let query = queries.query(0, sharing, statement, others: others)
    #expect(said(query.then(Outcome(first: nil))) == "503")
    #expect(queries.made.isEmpty)
  }

  @Test(
    "several results go to their query in its order, and share rows alone",
    arguments: [Query.Sharing.nothing, .rows, .rendering])
  func several(_ sharing: Query.Sharing) throws {
    let queries = Queries()
    let results = [try rows("one"), .failure(.queueFull), try rows("three")]
    let all = results.map { execution(isShared: true, $0) }
    for number in 0..<2 {
      let query = queries.query(number, sharing, statement, others: 2)
      let step = query.then(Outcome(first: all[0], others: Array(all[1...])))
      #expect(said(step) == "\(number): one \(PostgresError.queueFull) three")
    }
    #expect(queries.made == [0, 1])
  }
}
