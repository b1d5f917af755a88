// What is held up on a database connection by something slow, and what is done about it.

import Postgres

extension DatabaseConnection {
  /// Whether a statement runs here behind which no other should be put. What was sent together often waits for the same: where one has
  /// stood still, nothing is put behind the others either.
  func isHeldUp(_ now: UInt64) -> Bool {
    depth > 0 && (endsWithSlow || stoodStill || isAt(longerThan: StatementTimes.hindrance, now))
  }

  /// The server has answered something.
  func noteProgress(_ now: UInt64) {
    if isAt(longerThan: StatementTimes.standstill, now) { stoodStill = true }
    oldestSince = now
  }

  /// Whether what is behind the oldest statement is better sent elsewhere.
  func isStuck(_ now: UInt64) -> Bool { depth > 1 && isAt(longerThan: StatementTimes.standstill, now) }

  /// Whether the server has been at the oldest statement for longer.
  private func isAt(longerThan limit: UInt64, _ now: UInt64) -> Bool { now > oldestSince && now - oldestSince > limit }

  /// Whether the server is at a run of the statement.
  func isAt(_ statement: Statement) -> Bool {
    switch expected.first {
    case .preparation(let oldest), .nobodys(let oldest): oldest === statement
    case .result(let query): query.operation.statement === statement
    case .timeLimit, .deallocation, .sync, nil: false
    }
  }

  /// Whether a run of the statement has no answer yet.
  func hasOnItsWay(_ statement: Statement) -> Bool {
    expected.contains {
      switch $0 {
      case .nobodys(let other): other === statement
      case .result(let query): query.operation.statement === statement
      case .timeLimit, .preparation, .deallocation, .sync: false
      }
    }
  }

  /// Whether the server is at a read that has taken so long that others are better off without it. Behind one that has been given
  /// up others often wait for the same.
  func isBlockedByRead(_ now: UInt64) -> Bool {
    let isRead =
      switch expected.first {
      case .result(let query): query.operation.statement.isReadOnly
      case .nobodys: true
      case .timeLimit, .deallocation, .preparation, .sync, nil: false
      }
    return isRead && isAt(longerThan: wasCancelled ? StatementTimes.hindrance : StatementTimes.blockade, now)
  }

  /// Has the server give up the read that it is at: it is sent again where slow ones go. Sent from a thread of the runtime's own,
  /// since libpq makes its caller wait.
  func cancelRead() {
    guard !isCancelling, let cancellation else { return }
    isCancelling = true
    wasCancelled = true
    Task(executorPreference: loop) { [self] in
      await withTaskExecutorPreference(globalConcurrentExecutor) { cancellation.send() }
      isCancelling = false
    }
  }

  /// Has the reads behind the oldest statement sent elsewhere, each once: what comes of them here is nobody's.
  func giveReadsBack() {
    var isBehind = false
    for index in expected.indices {
      switch expected[index] {
      case .nobodys: isBehind = true
      case .result(let query) where isBehind && query.operation.statement.isReadOnly && !query.wasHeldUp:
        expected[index] = .nobodys(query.operation.statement)
        query.isGivenBack()
        pool.sendAgain(query)
      case .result: isBehind = true
      case .timeLimit, .deallocation, .preparation, .sync: break
      }
    }
  }
}
