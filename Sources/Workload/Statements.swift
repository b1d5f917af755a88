// The statements: they only read, and need no table. One for each way to take time, so that a loop, which looks at the times of
// statements, knows the slow ones.

import Application
import Postgres

/// A statement for each way to take time. $1 rows, $2 bytes of each, $3 the key that they begin with, $4 microseconds. A condition that
/// holds no row's value is looked at once, before any row (PostgreSQL's "One-Time Filter").
struct WorkStatements: Sendable {
  let plain: Statement
  let sleep: Statement
  let compute: Statement

  /// What connections may do again, and what not: writes take another way through a loop. All of them only read.
  static let reads = WorkStatements("work_read", readOnly: true)
  static let writes = WorkStatements("work_write", readOnly: false)

  private init(_ name: String, readOnly: Bool) {
    let rows = "select rpad($3::bigint::text, $2::int, '.') from generate_series(1, $1::int)"
    plain = Statement(name, readOnly: readOnly, rows)
    sleep = Statement(
      "\(name)_sleep", readOnly: readOnly, "\(rows) where (select pg_sleep($4::bigint / 1e6)) is not null")
    // A series in the list of what is selected is made row by row, and kept nowhere ("ProjectSet"): looking at the clock for each keeps a
    // processor busy. The series is longer than the longest time.
    compute = Statement(
      "\(name)_compute", readOnly: readOnly,
      """
      \(rows) where (
        select true from (select generate_series(1, 2000000000)) series
          where clock_timestamp() >= (select clock_timestamp() + $4::bigint * interval '1 microsecond') limit 1)
      """)
  }
}

extension Workload {
  static let health = Statement("work_health", readOnly: true, "select 1")
}

extension Plan {
  /// The statement number `index`, from 0.
  func statement(_ index: Int) -> BoundStatement {
    var parameters = Parameters()
    parameters.append(rows)
    parameters.append(bytes)
    parameters.append(key + Int64(index))
    let statements = isWrite ? WorkStatements.writes : .reads
    if time == 0 { return BoundStatement(statements.plain, parameters) }
    var generator = SystemRandomNumberGenerator()
    parameters.append(distribution.draw(mean: time, using: &generator))
    return BoundStatement(by == .sleep ? statements.sleep : statements.compute, parameters)
  }

  /// What others may have. An answer that depends on more than one statement's rows is nobody else's.
  var sharing: Query.Sharing {
    share == .rendering && (statements > 1 || received > 0) ? .rows : share
  }
}
