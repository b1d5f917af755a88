// The server that `Tests/with-postgres` has started, and a database of its own for each test.

import Glibc
import Testing

@testable import Postgres

/// Makes an empty database, hands over how to connect to it, and drops it.
func withDatabase(_ body: (ConnectionInfo) throws -> Void) throws {
  try #require(
    getenv("PGHOST") != nil, "no server: run the tests with 'make test', or 'Tests/with-postgres swift test'")
  let admin = try Connection.connect(to: ConnectionInfo(), options)
  let name = "test_\(UInt64.random(in: 0 ... .max))"
  try admin.execute("create database \(name)")
  defer { _ = try? admin.execute("drop database \(name) with (force)") }
  try body(ConnectionInfo(["dbname": name]))
}

let options = Connection.Options(applicationName: "tests", statementTimeout: 5_000)

func parameters(_ values: String...) -> Parameters {
  var parameters = Parameters()
  for value in values { parameters.append(value) }
  return parameters
}

extension ResultSet {
  /// All fields as text; nil is NULL.
  var table: [[String?]] {
    (0..<rowCount).map { row in (0..<columnCount).map { isNull(row, $0) ? nil : string(row, $0) } }
  }
}
