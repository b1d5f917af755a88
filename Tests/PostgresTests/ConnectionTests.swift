import Glibc
import Testing

@testable import Postgres

/// Waits for a connection's socket, as a loop would.
private func poll(_ connection: Connection, for wait: Connection.Wait) {
  var entry = pollfd(fd: connection.socket, events: Int16(wait == .readable ? POLLIN : POLLOUT), revents: 0)
  Glibc.poll(&entry, 1, 10_000)
}

@Suite("Connection, blocking")
struct BlockingTests {
  @Test("executes prepared statements with parameters")
  func prepared() throws {
    try withDatabase { info in
      let connection = try Connection.connect(to: info, options)
      let statement = Statement("echo", readOnly: true, "select $1::text, $2::bigint + 1, null::text")
      try connection.prepare(statement)
      for text in ["plain", "", "quotes ' and \\ and \"", "é 😀"] {
        let rows = try connection.execute(statement, parameters(text, "41")).get()
        #expect(rows.table == [[text, "42", nil]])
        #expect(rows.integer(0, 1) == 42)
      }
    }
  }

  @Test("binds arrays")
  func arrays() throws {
    try withDatabase { info in
      let connection = try Connection.connect(to: info, options)
      var values = Parameters()
      values.append(array: [3, -1, .max, .min])
      values.append(array: [Int64]())
      values.append(array: [0, 1, 2_500, 99_999_999_999_999], decimals: 4)
      values.append(array: ["a", "b"])
      values.append(array: [Int64]?.none)
      let rows = try connection.execute(
        "select $1::bigint[], cardinality($2::bigint[]), $3::numeric[], $4::text[], $5::int[]", values)
      #expect(
        rows.table == [
          [
            "{3,-1,9223372036854775807,-9223372036854775808}", "0", "{0.0000,0.0001,0.2500,9999999999.9999}", "{a,b}",
            nil,
          ]
        ])
    }
  }

  @Test(
    "reports the server's fault and goes on",
    arguments: [("select 1/0", "22012"), ("selekt", "42601"), ("select * from nothing", "42P01")])
  func faults(_ sql: String, _ state: String) throws {
    try withDatabase { info in
      let connection = try Connection.connect(to: info, options)
      let error = #expect(throws: PostgresError.self) { try connection.execute(sql) }
      guard case .statement(let fault) = error else {
        Issue.record("not a statement's fault: \(String(describing: error))")
        return
      }
      #expect(fault.state.rawValue == state)
      #expect(try connection.execute("select 1").integer(0, 0) == 1)
    }
  }

  @Test("gives a statement up after its time limit")
  func timeout() throws {
    try withDatabase { info in
      let connection = try Connection.connect(to: info, .init(applicationName: "tests", statementTimeout: 50))
      let error = #expect(throws: PostgresError.self) { try connection.execute("select pg_sleep(10)") }
      guard case .statement(let fault) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      #expect(fault.state == .queryCanceled)
    }
  }

  @Test("notices that the connection has gone")
  func gone() throws {
    try withDatabase { info in
      let connection = try Connection.connect(to: info, options)
      let other = try Connection.connect(to: info, options)
      let process = try connection.execute("select pg_backend_pid()").integer(0, 0)
      try other.execute("select pg_terminate_backend(\(process), 5000)")
      // The last message and the end of the stream may come one after the other.
      var reads = 0
      while connection.stillAliveAfterReading(), reads < 10 {
        poll(connection, for: .readable)
        reads += 1
      }
      #expect(!connection.isAlive)
      let error = #expect(throws: PostgresError.self) { try connection.execute("select 1") }
      guard case .connectionLost = error else {
        Issue.record("\(String(describing: error))")
        return
      }
    }
  }

  @Test("says why there is no connection")
  func refused() {
    let error = #expect(throws: PostgresError.self) {
      _ = try Connection.connect(to: ConnectionInfo(["host": "/nowhere", "dbname": "x"]), options)
    }
    guard case .unavailable = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }
}

@Suite("Connection, pipeline")
struct PipelineTests {
  /// Drives a connection's steps with poll(2), as a loop would.
  private func pipeline(_ info: ConnectionInfo) throws -> Connection {
    let connection = try ConnectionPlan(info, options).startConnecting()
    var wait = Connection.Wait.writable
    while true {
      poll(connection, for: wait)
      switch connection.connectStep() {
      case .wait(let next): wait = next
      case .connected: return connection
      case .failed(let why): throw PostgresError.unavailable(why)
      }
    }
  }

  /// Takes in `count` answers, as words.
  private func events(_ connection: Connection, _ count: Int) -> [String] {
    var words: [String] = []
    while words.count < count {
      poll(connection, for: .readable)
      guard connection.consumeInput() else { return words + ["broken"] }
      while let event = connection.nextEvent(expected: count - words.count) {
        switch event {
        case .sync: words.append("sync")
        case .aborted: words.append("aborted")
        case .result(.success(let rows)): words.append(rows.rowCount > 0 ? rows.string(0, 0) : "empty")
        case .result(.failure(.statement(let fault))): words.append(fault.state.rawValue)
        case .result(.failure(let error)): words.append("\(error)")
        }
      }
    }
    return words
  }

  private let echo = Statement("echo", readOnly: true, "select 10 / $1::int")

  @Test("answers in the order of the questions")
  func order() throws {
    try withDatabase { info in
      let connection = try pipeline(info)
      #expect(connection.sendPrepare(echo) && connection.sendSync())
      #expect(events(connection, 2) == ["empty", "sync"])
      for divisor in 1...5 { #expect(connection.send(echo, parameters("\(divisor)")) && connection.sendSync()) }
      #expect(events(connection, 10) == ["10", "sync", "5", "sync", "3", "sync", "2", "sync", "2", "sync"])
      if connection.nextEvent(expected: 0) != nil { Issue.record("an answer that nobody asked for") }
    }
  }

  @Test("skips what stands behind a failure, up to the next Sync")
  func segments() throws {
    try withDatabase { info in
      let connection = try pipeline(info)
      #expect(connection.sendPrepare(echo) && connection.sendSync())
      #expect(events(connection, 2) == ["empty", "sync"])
      for divisor in [1, 0, 2] { #expect(connection.send(echo, parameters("\(divisor)"))) }
      #expect(connection.sendSync())
      #expect(connection.send(echo, parameters("5")) && connection.sendSync())
      #expect(events(connection, 6) == ["10", "22012", "aborted", "sync", "2", "sync"])
    }
  }
}
