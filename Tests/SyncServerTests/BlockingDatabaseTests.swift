// What a worker's database connection makes of a query's statements.

import Application
import Glibc
import Logging
import Platform
import Testing

@testable import Postgres
@testable import SyncServer

@Suite struct BlockingDatabaseTests {
  private let divide = Statement("divide", readOnly: true, "select 10 / $1::int")
  private let add = Statement("add", readOnly: false, "insert into number values ($1::int) returning value")
  private let end = Statement("end", readOnly: false, "select pg_terminate_backend(pg_backend_pid())")
  private let forget = Statement("forget", readOnly: false, "deallocate all")
  private let nothing = Statement("nothing", readOnly: true, "select * from nothing")

  private func bound(_ statement: Statement, _ value: Int64) -> BoundStatement {
    var parameters = Parameters()
    parameters.append(value)
    return BoundStatement(statement, parameters)
  }

  private func query(_ all: [BoundStatement]) -> Query {
    Query(together: all[0], Array(all.dropFirst())) { _ in .wait(.zero, then: { .respond(.init(.ok)) }) }
  }

  /// Each result in a word: its first field, its SQLSTATE, or which error it is.
  private func words(_ results: QueryResults) -> [String] {
    ([results.first] + results.others).map { result in
      switch result {
      case .success(let rows): rows.rowCount > 0 ? rows.string(0, 0) : "empty"
      case .failure(.statement(let fault)): fault.state.rawValue
      case .failure(.connectionLost): "lost"
      case .failure(.unavailable): "unavailable"
      case .failure(let error): "\(error)"
      }
    }
  }

  /// Hands over a worker's connection to a database of its own; what stands in its table in the end.
  private func numbers(
    prepares: Bool = true, requestTime: UInt64 = 0, _ body: (inout BlockingDatabase) throws -> Void
  ) throws -> [Int64] {
    var numbers: [Int64] = []
    try withDatabase { info in
      let admin = try Connection.connect(to: info, options)
      try admin.execute("create table number (value int)")
      var options = options
      options.prepares = prepares
      var log = Logger(label: "tests")
      log.logLevel = .critical
      var database = BlockingDatabase(info, options, requestTime: requestTime, log: log)
      try body(&database)
      let rows = try admin.execute("select value from number order by value")
      numbers = (0..<rows.rowCount).map { rows.integer($0, 0) }
    }
    return numbers
  }

  /// Prepared or not; and where each write says its time limit, so that they can't be sent together.
  private static let ways: [(prepares: Bool, requestTime: UInt64)] = [
    (true, 0), (false, 0), (true, 1_000_000_000), (false, 1_000_000_000),
  ]

  @Test("gives the results in the statements' order, and one that fails leaves the others be", arguments: ways)
  func order(_ prepares: Bool, _ requestTime: UInt64) throws {
    let left = try numbers(prepares: prepares, requestTime: requestTime) { database in
      for _ in 0..<2 {
        let all = [
          bound(divide, 2), bound(add, 7), bound(divide, 0), bound(nothing, 1), bound(add, 8), bound(divide, 5),
        ]
        let results = words(database.execute(query(all), since: MonotonicClock.now))
        #expect(results[..<3] == ["5", "7", "22012"] && results[4...] == ["8", "2"])
        #expect(results[3] == "42P01")
      }
      #expect(words(database.execute(query([bound(divide, 1)]), since: MonotonicClock.now)) == ["10"])
    }
    #expect(left == [7, 7, 8, 8])
  }

  @Test("repeats reads that the connection's end has left without an answer, and no writes", arguments: [true, false])
  func end(_ prepares: Bool) throws {
    let left = try numbers(prepares: prepares) { database in
      let all = [bound(add, 1), BoundStatement(end), bound(divide, 2), bound(add, 2), bound(divide, 5)]
      let results = words(database.execute(query(all), since: MonotonicClock.now))
      // What libpq has read it forgets where it finds the connection's end while it sends: then nobody knows of the first either.
      #expect(["1", "lost"].contains(results[0]))
      #expect(results[1...] == ["lost", "5", "lost", "2"])
      #expect(
        words(database.execute(query([bound(add, 3), bound(divide, 1)]), since: MonotonicClock.now)) == ["3", "10"])
    }
    #expect(left == [1, 3])
  }

  @Test("executes on a new connection what the old one's session has not looked at, writes too")
  func tired() throws {
    var isLost = false
    let left = try numbers { database in
      let all = [bound(add, 1), bound(divide, 1), bound(add, 2)]
      #expect(words(database.execute(query(all), since: MonotonicClock.now)) == ["1", "10", "2"])
      let limit = Statement("limit", readOnly: false, "set idle_session_timeout = 1")
      #expect(words(database.execute(query([BoundStatement(limit)]), since: MonotonicClock.now)) == ["empty"])
      // Its end has come, and nobody has read of it.
      var entry = pollfd(fd: database.socket, events: Int16(POLLIN), revents: 0)
      #expect(poll(&entry, 1, 10_000) == 1)
      // Where libpq finds the connection's end while it sends, it forgets the server's reason.
      let results = words(database.execute(query(all), since: MonotonicClock.now))
      isLost = results == ["lost", "10", "lost"]
      #expect(results == ["1", "10", "2"] || isLost)
    }
    #expect(left == (isLost ? [1, 2] : [1, 1, 2, 2]))
  }

  @Test("executes by itself what the server does not know by its name any more")
  func forgotten() throws {
    let left = try numbers { database in
      for number in 1...5 as ClosedRange<Int64> {
        let all = [bound(add, number), bound(divide, number)]
        #expect(words(database.execute(query(all), since: MonotonicClock.now)) == ["\(number)", "\(10 / number)"])
        #expect(words(database.execute(query([BoundStatement(forget)]), since: MonotonicClock.now)) == ["empty"])
      }
    }
    #expect(left == [1, 2, 3, 4, 5])
  }

  @Test("without a connection refuses each of them")
  func away() {
    var log = Logger(label: "tests")
    log.logLevel = .critical
    var database = BlockingDatabase(
      ConnectionInfo(["host": "/nowhere", "dbname": "x"]), options, requestTime: 0, log: log)
    let all = [bound(add, 1), bound(divide, 1), bound(add, 2)]
    #expect(
      words(database.execute(query(all), since: MonotonicClock.now)) == ["unavailable", "unavailable", "unavailable"])
  }
}
