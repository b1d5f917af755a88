// What becomes of a query's results.

import CGI
import Postgres
import Testing

@testable import Application

@Suite struct QueryTests {
  private let statement = Statement("number", readOnly: true, "select $1::int")

  private func bound(_ number: Int64) -> BoundStatement {
    var parameters = Parameters()
    parameters.append(number)
    return BoundStatement(statement, parameters)
  }

  private func result(_ text: String) throws -> QueryResult {
    .success(try #require(ResultSet.inMemory(columns: 1, [[text]])))
  }

  private func said(_ step: Step) -> String {
    guard case .respond(let response) = step else { return "no answer" }
    return text(response)
  }

  private func word(_ result: QueryResult) -> String {
    switch result {
    case .success(let rows): rows.string(0, 0)
    case .failure(let error): "\(error)"
    }
  }

  private func answer(_ words: [String]) -> Step {
    .respond(Response(.ok, body: Array(words.joined(separator: " ").utf8)))
  }

  @Test("one statement's result goes to its closure, be it rows or a failure")
  func one() throws {
    let query = Query(statement, bound(1).parameters) { self.answer([self.word($0)]) }
    #expect(query.first.statement === statement && query.first.parameters == bound(1).parameters)
    #expect(query.others.isEmpty && query.sharing == .nothing)
    #expect(said(query.then(QueryResults(try result("a")))) == "a")
    #expect(said(query.then(QueryResults(.failure(.queueFull)))) == "\(PostgresError.queueFull)")
    #expect(said(query.then(try result("a"))) == "a", "nobody has to put a single one among several")
  }

  @Test("several statements' results go to their closure in the statements' order", arguments: 1...4)
  func several(_ count: Int64) throws {
    let query = Query(together: bound(1), (1..<count).map { bound($0 + 1) }, sharing: .rows) {
      self.answer($0.map(self.word))
    }
    #expect(([query.first] + query.others).map(\.parameters) == (1...count).map { bound($0).parameters })
    #expect(query.sharing == .rows)
    let results = QueryResults(try result("1"), try (1..<count).map { try result("\($0 + 1)") })
    #expect(said(query.then(results)) == (1...count).map { "\($0)" }.joined(separator: " "))
    if count == 1 { #expect(said(query.then(try result("1"))) == "1") }
  }

  @Test("one that fails among several leaves the others' results be")
  func failure() throws {
    let query = Query(together: bound(1), [bound(2), bound(3)]) { self.answer($0.map(self.word)) }
    let results = QueryResults(try result("1"), [.failure(.queueFull), try result("3")])
    #expect(said(query.then(results)) == "1 \(PostgresError.queueFull) 3")
  }

  @Test("a closure may want another query, and that one another")
  func chain() throws {
    let query = Query(statement) { first in
      .query(Query(self.statement) { second in .wait(.zero, then: { self.answer([first, second].map(self.word)) }) })
    }
    guard case .query(let next) = query.then(QueryResults(try result("a"))),
      case .wait(.zero, let then) = next.then(QueryResults(try result("b")))
    else {
      Issue.record("no second query, or no wait")
      return
    }
    #expect(said(then()) == "a b")
  }
}
