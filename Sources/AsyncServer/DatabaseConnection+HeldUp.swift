// What is held up on a database connection by something slow, and what is done about it.

import Platform
import Postgres

extension DatabaseConnection {
  /// Whether a statement runs here behind which no other should be put. What was sent together often waits for the same: where one has
  /// stood still, nothing is put behind the others either.
  func isHeldUp(_ now: UInt64) -> Bool {
    isCancelling || depth > 0 && (endsWithSlow || stoodStill || isAt(longerThan: StatementTimes.hindrance, now))
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
    guard !isCancelling, let statement = oldestRead else { return }
    guard isAt(longerThan: wasCancelled ? StatementTimes.hindrance : StatementTimes.blockade, now) else { return }
    if cancel() { pool.isGivenUp(statement) }
  }

  /// Has the server give up the read that it is at if all who waited for it have gone, unless it is about to end by itself: to ask for
  /// that costs PostgreSQL a process. Nothing else may be under way here, and nothing is sent before both the statement and the
  /// cancel have ended (`isHeldUp`): it must never hit a neighbour.
  func giveUpForNobody(_ now: UInt64) {
    guard !isCancelling, depth == 1, isAt(longerThan: StatementTimes.hindrance, now) else { return }
    let isRead = expected.contains {
      if case .result(let execution) = $0 { execution.isForNobody && execution.statement.isReadOnly } else { false }
    }
    if isRead, cancel() { pool.counters.cancelled += 1 }
  }

  /// Asks the server to give up what it is at; false where too many are being asked already.
  private func cancel() -> Bool {
    guard pool.cancels < Self.mostCancels, let cancellation, let end = cancellation.start() else { return false }
    self.cancelling = cancellation
    wasCancelled = true
    pool.cancels += 1
    loop.spawn { [self] in
      await hasEnded(Descriptor(owning: end))
      if self.cancelling === cancellation { self.cancelling = nil }
      pool.cancels -= 1
    }
    return true
  }

  /// Waits until a cancel is over. Where that can't be seen, the connection is given up: the cancel must find nobody else on it.
  private func hasEnded(_ end: consuming Descriptor) async {
    guard let ended = try? loop.watch(end.number, for: .readable, edgeTriggered: false) else {
      connection = nil
      watch?.interrupt()
      return
    }
    await ended.readable()
    ended.cancel()
  }

  /// How many servers may be asked to give something up at a time: each takes a thread for as long as it does not answer.
  private static let mostCancels = 64

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
