// Where is connected to, and for how long.

import Testing

@testable import Postgres

@Suite struct ConnectionPlanTests {
  private func plan(_ keywords: [String: String]) throws(PostgresError) -> ConnectionPlan {
    try ConnectionPlan(ConnectionInfo(keywords), options)
  }

  @Test(
    "a host's time limit is what libpq makes of the user's",
    arguments: [("10", 10), ("2", 2), ("1", 2), (" 7 ", 7), ("0", nil), ("-1", nil)] as [(String, Int?)])
  func limit(_ text: String, _ seconds: Int?) throws {
    #expect(try plan(["host": "a", "connect_timeout": text]).limit == seconds)
  }

  @Test("where nothing is said it is three seconds, and what is no number is a fault")
  func noLimit() throws {
    #expect(try plan(["host": "a"]).limit == 3)
    #expect(throws: PostgresError.self) { try plan(["host": "a", "connect_timeout": "soon"]) }
  }

  @Test("each host has its own port, or all have the same")
  func places() throws {
    func told(_ keywords: [String: String]) throws -> [String] {
      try plan(keywords).places.map { "\($0.host)/\($0.address)/\($0.port)" }
    }
    #expect(try told(["host": "a,b", "port": "1,2"]) == ["a//1", "b//2"])
    #expect(try told(["host": "a,b", "port": "1"]) == ["a//1", "b//1"])
    #expect(try told(["host": "a,b", "hostaddr": "1.2.3.4,", "port": "1"]) == ["a/1.2.3.4/1", "b//1"])
    #expect(try told(["host": "a,b", "port": "1,2,3"]) == [], "libpq's to complain of")
  }

  @Test("only names need a resolver, and one without an address is passed over")
  func names() throws {
    #expect(try !plan(["host": "127.0.0.1,/tmp,::1"]).needsResolver)
    #expect(try !plan(["host": "name", "hostaddr": "127.0.0.1"]).needsResolver)
    let resolved = try plan(["host": "nowhere.invalid,127.0.0.1", "port": "1,2"]).resolved()
    #expect(resolved.places.map(\.port) == ["2"])
    #expect(throws: PostgresError.self) { try plan(["host": "nowhere.invalid"]).resolved() }
  }

  @Test("a standby that is preferred takes a second walk")
  func walks() throws {
    #expect(try plan(["host": "a", "target_session_attrs": "prefer-standby"]).walks == ["standby", "any"])
    #expect(try plan(["host": "a", "target_session_attrs": "standby"]).walks == [nil])
  }
}
