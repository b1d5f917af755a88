// What comes back on a database connection, and whose it is.

import Platform
import Postgres

extension DatabaseConnection {
  func takeIn(_ connection: Connection) throws(PostgresError) {
    while let event = connection.nextEvent(expected: expected.count) {
      noteProgress(loop.now)
      switch event {
      // The server's last word: what it owes is settled where the connection ends.
      case .result(.failure(.connectionLost(let why))): throw .connectionLost(why)
      case .result(.failure(.unavailable(let why))): throw .unavailable(why)
      case .result(let result): received(result)
      case .sync: segmentEnded()
      case .aborted: wasSkipped()
      }
    }
  }

  /// The statement that a result is for; nil if none is owed before the next Sync.
  private func nextExecution() -> Execution? {
    guard case .result(let execution) = expected.first else { return nil }
    expected.removeFirst()
    depth -= 1
    answered.append(execution.statement)
    return execution
  }

  /// Whether the next result is nobody's.
  private func passesOver() -> Bool {
    guard case .nobodys(let statement) = expected.first else { return false }
    expected.removeFirst()
    depth -= 1
    answered.append(statement)
    preparationError = nil
    return true
  }

  /// What is expected next was not executed, since something before it in its segment failed: for an execution's own preparation,
  /// that is its answer; for another's failure it is nobody's.
  private func wasSkipped() {
    if passesOver() { return }
    guard let execution = nextExecution() else { return }
    if let error = preparationError {
      preparationError = nil
      if error.isKnownPreparation { return pool.sendAgain(execution, avoidingName: true) }
      if wasCancelled, error.isCancellation { return pool.sendAgain(execution) }
      pool.complete(execution, .failure(error.beforeSending))
    } else {
      pool.sendAgain(execution)
    }
  }

  /// A read is answered by its rows. A write is not: it is committed at the Sync, and that can fail.
  private func received(_ result: QueryResult) {
    switch expected.first {
    case .timeLimit:
      expected.removeFirst()
      if case .success(let rows) = result, rows.rowCount > 0 { hasTimeLimit(UInt64(clamping: rows.integer(0, 0))) }
      return
    case .limit, .deallocation:
      expected.removeFirst()
      return
    case .preparation(let statement):
      expected.removeFirst()
      if case .failure(let error) = result { couldNotPrepare(statement, error) }
      return
    default: if passesOver() { return }
    }
    guard let execution = nextExecution() else {
      // Not a statement's result but the commit's.
      if case .failure = result { for index in uncommitted.indices { uncommitted[index].result = result } }
      return
    }
    if execution.isByName, case .failure(let error) = result, error.mayBeStalePreparation {
      forget(execution.statement, error)
      pool.sendAgain(execution, avoidingName: true)
    } else if execution.statement.isReadOnly {
      if wasCancelled, case .failure(let error) = result, error.isCancellation {
        pool.sendAgain(execution)
      } else {
        pool.complete(execution, judged(result, of: execution))
      }
    } else {
      uncommitted.append((execution, judged(result, of: execution)))
    }
  }

  /// A statement that was given up before its time limit was given up because somebody has asked for that.
  private func judged(
    _ result: QueryResult, of execution: Execution
  ) -> QueryResult {
    guard case .failure(let error) = result else { return result }
    return .failure(error.judged(after: loop.now - execution.sentAt, limit: statementLimit))
  }

  /// Has a statement prepared anew before it is executed by its name again, unless that is on its way: then what has failed was
  /// sent before.
  private func forget(_ statement: Statement, _ error: PostgresError) {
    let isOnItsWay = expected.contains {
      if case .preparation(let other) = $0 { other === statement } else { false }
    }
    if !isOnItsWay { preparations.isOfNoUse(statement, error) }
    count(error, for: statement)
  }

  /// What is known already is known by its name, and so its text.
  private func couldNotPrepare(_ statement: Statement, _ error: PostgresError) {
    preparationError = error
    if !error.isKnownPreparation { preparations.couldNotPrepare(statement) }
    count(error, for: statement)
  }

  private func count(_ error: PostgresError, for statement: Statement) {
    if preparations.count(error, for: statement) { log.warning("\(Preparations.advice)") }
  }

  private func segmentEnded() {
    if case .sync = expected.first { expected.removeFirst() }
    if !answered.isEmpty { history.hasAnswered = true }
    pool.note(answered, took: loop.now - segmentSince)
    answered.removeAll(keepingCapacity: true)
    segmentSince = loop.now
    while let (execution, result) = uncommitted.popFirst() { pool.complete(execution, result) }
  }
}
