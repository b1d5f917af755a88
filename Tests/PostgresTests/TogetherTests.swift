// Statements that are sent together, and what becomes of each.

import Glibc
import Testing
import Text

@testable import Postgres

@Suite("Connection, several statements together")
struct TogetherTests {
  private let divide = Statement("divide", readOnly: true, "select 10 / $1::int")
  private let add = Statement("add", readOnly: false, "insert into number values ($1::int) returning value")
  private let process = Statement("process", readOnly: true, "select pg_backend_pid()")

  private func bound(_ statement: Statement, _ values: Int64...) -> BoundStatement {
    var parameters = Parameters()
    for value in values { parameters.append(value) }
    return BoundStatement(statement, parameters)
  }

  /// Each result in a word: its first field, its SQLSTATE, or which error it is.
  private func words(_ results: [QueryResult]) -> [String] {
    results.map { result in
      switch result {
      case .success(let rows): rows.rowCount > 0 ? rows.string(0, 0) : "empty"
      case .failure(.statement(let fault)): fault.state.rawValue
      case .failure(.connectionLost): "lost"
      case .failure(.unavailable): "unavailable"
      case .failure(let error): "\(error)"
      }
    }
  }

  private func numbers(_ connection: Connection) throws -> [Int64] {
    let rows = try connection.execute("select value from number order by value")
    return (0..<rows.rowCount).map { rows.integer($0, 0) }
  }

  private func connection(_ info: ConnectionInfo) throws -> Connection {
    let connection = try Connection.connect(to: info, options)
    try connection.execute("create table number (value int unique deferrable initially deferred)")
    for statement in [divide, add, process] { try connection.prepare(statement) }
    return connection
  }

  @Test(
    "have their results in their order, and one that fails leaves the others be",
    arguments: [
      ([1], ["10"]), ([], []), ([1, 2, 5, 10], ["10", "5", "2", "1"]), ([0], ["22012"]),
      ([1, 0, 2], ["10", "22012", "5"]),
      ([0, 1, 0], ["22012", "10", "22012"]), ([1, 2, 0], ["10", "5", "22012"]),
    ] as [([Int64], [String])])
  func order(_ divisors: [Int64], _ expected: [String]) throws {
    try withDatabase { info in
      let connection = try connection(info)
      let all = divisors.map { bound(divide, $0) }
      // By their names, without, and some so and some so.
      for byName in [{ _ in true }, { _ in false }, { $0 % 2 == 0 }] as [(Int) -> Bool] {
        let names = all.indices.map { byName($0) ? divide.preparedName : nil }
        #expect(words(connection.execute(all, as: names)) == expected)
        #expect(try connection.execute("select 1").integer(0, 0) == 1, "the connection is as good as before")
      }
    }
  }

  @Test("are a transaction each, which has ended before its result counts")
  func transactions() throws {
    try withDatabase { info in
      let connection = try connection(info)
      let all = [bound(add, 1), bound(divide, 0), bound(add, 2), bound(add, 1), bound(add, 3)]
      let names = all.map { $0.statement.preparedName }
      // The constraint is looked at when a statement is committed, behind its rows.
      #expect(words(connection.execute(all, as: names)) == ["1", "22012", "2", "23505", "3"])
      #expect(try numbers(connection) == [1, 2, 3])
    }
  }

  @Test("a name that the server does not know stops none of the others")
  func unknownName() throws {
    try withDatabase { info in
      let connection = try connection(info)
      let all = [bound(add, 1), bound(divide, 2), bound(add, 3)]
      let names = [add.preparedName, "nothing", add.preparedName]
      #expect(words(connection.execute(all, as: names)) == ["1", "26000", "3"])
      #expect(try numbers(connection) == [1, 3])
    }
  }

  @Test("the connection's end in the middle is that of all from there on", arguments: [false, true])
  func end(_ byName: Bool) throws {
    try withDatabase { info in
      let connection = try connection(info)
      let end = Statement("end", readOnly: false, "select pg_terminate_backend(pg_backend_pid())")
      try connection.prepare(end)
      let all = [bound(add, 1), BoundStatement(end), bound(add, 2), bound(add, 3)]
      let results = connection.execute(all, as: all.map { byName ? $0.statement.preparedName : nil })
      // What libpq has read it forgets where it finds the connection's end while it sends.
      #expect(["1", "lost"].contains(words(results)[0]))
      #expect(words(results)[1...] == ["lost", "lost", "lost"])
      #expect(!connection.isAlive)
      #expect(
        words(connection.execute(all, as: all.map { _ in nil })) == [
          "unavailable", "unavailable", "unavailable", "unavailable",
        ])
      let other = try Connection.connect(to: info, options)
      #expect(try numbers(other) == [1], "what was told is what has happened")
    }
  }

  @Test(
    "what a session has not looked at has not happened: it was ended for having nothing to do, or has just gone",
    arguments: [("set idle_session_timeout = 1", "unavailable"), (nil, "lost")] as [(String?, String)])
  func ended(_ setting: String?, _ word: String) throws {
    try withDatabase { info in
      let connection = try connection(info)
      let other = try Connection.connect(to: info, options)
      let number = connection.execute(process, Parameters())
      if let setting {
        try connection.execute(setting)
      } else {
        try other.execute("select pg_terminate_backend(\(try number.get().integer(0, 0)), 5000)")
      }
      // The session's end has come, and nobody has read of it.
      var entry = pollfd(fd: connection.socket, events: Int16(POLLIN), revents: 0)
      Glibc.poll(&entry, 1, 10_000)
      let all = [bound(add, 1), bound(divide, 1), bound(add, 2)]
      let results = connection.execute(all, as: all.map { $0.statement.preparedName })
      // Where libpq finds the connection's end while it sends, it forgets the server's reason.
      #expect(words(results) == [word, word, word] || words(results) == ["lost", "lost", "lost"])
      #expect(!connection.isAlive)
      #expect(try numbers(other) == [])
    }
  }

  @Test("many, with values and results that no buffer holds, do not wait for each other", .timeLimit(.minutes(1)))
  func many() throws {
    try withDatabase { info in
      let connection = try connection(info)
      let echo = Statement("echo", readOnly: true, "select $1::text || repeat('y', 100000)")
      try connection.prepare(echo)
      let all = (0..<300).map { number in
        BoundStatement(echo, parameters("\(number) " + String(repeating: "x", count: 100_000)))
      }
      let results = connection.execute(all, as: all.map { _ in echo.preparedName })
      #expect(results.count == all.count)
      for (number, result) in results.enumerated() {
        let rows = try result.get()
        let start = "\(number) x"
        let bytes = rows.bytes(0, 0)
        let length = "\(number) ".utf8.count + 200_000
        let isWhole =
          bytes.count == length
          && bytes.extracting(first: start.utf8.count).withUnsafeBufferPointer {
            $0.elementsEqual(start.utf8)
          }
        #expect(isWhole, "result \(number) is another's")
      }
      #expect(try connection.execute("select 1").integer(0, 0) == 1)
    }
  }
}
