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

  /// Whether the server is at a run of the statement, or prepares one: for that, too, it waits where a table is locked.
  func isAt(_ statement: Statement) -> Bool { oldest === statement }

  private var oldest: Statement? {
    let isLimit = if case .limit = expected.first { true } else { false }
    return switch expected.dropFirst(isLimit ? 1 : 0).first {
    case .preparation(let statement), .nobodys(let statement): statement
    case .result(let execution): execution.statement
    case .timeLimit, .limit, .deallocation, .sync, nil: nil
    }
  }

  private var oldestRead: Statement? { oldest.flatMap { $0.isReadOnly ? $0 : nil } }

  /// Has the server give up the read that it is at, if that has taken so long that others are better off without it: it is sent
  /// again where slow ones go. Behind one that has been given up others often wait for the same.
  func giveUpRead(_ now: UInt64) {
    guard !isCancelling, let cancellation, let statement = oldestRead else { return }
    guard isAt(longerThan: wasCancelled ? StatementTimes.hindrance : StatementTimes.blockade, now) else { return }
    isCancelling = true
    wasCancelled = true
    pool.isGivenUp(statement)
    // On a thread of the runtime's own, since libpq makes its caller wait.
    loop.spawn { [self] in
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
      case .result(let execution) where isBehind && execution.statement.isReadOnly && !execution.wasHeldUp:
        expected[index] = .nobodys(execution.statement)
        execution.isGivenBack()
        pool.sendAgain(execution)
      case .result: isBehind = true
      case .timeLimit, .limit, .deallocation, .preparation, .sync: break
      }
    }
  }
}
