// Which of the executions that wait goes to which connection.
//
// Of the connections that are ready the first two are reserved, or all but one if there are no more than two: they get reads that
// are known to be fast, and one at a time of the others. However many writes wait for a lock, and however many slow reads are at
// work, there is a way for all others. What turns out to be slow in spite of what is known of it holds up those few that are
// behind it already, and not for long: they are sent again elsewhere. And what is fast in spite of what is known of it, since it
// was held up before, is soon tried and found to be so.

import Postgres

extension DatabasePool {
  /// How many connections are reserved, if there are enough.
  private static let reserved = 2
  /// Up to how many statements on its way a connection counts as keeping up.
  private static let keepsUp = 16
  /// How often the pool looks for what is held up, while anything is on its way.
  private static let lookout = Duration.milliseconds(25)

  /// What waits for what, and where an execution has to wait.
  func lane(of statement: Statement) -> WaitingExecutions.Lane {
    if times.isSlow(statement) { return .slow }
    return statement.isReadOnly ? .reads : .writes
  }

  /// At the end of each turn: what was asked in it goes out together.
  func dispatch() {
    beginNextTurn()
    // In every other turn answers have come, and nothing was asked.
    var added = waiting.isEmpty ? waiting.added : nil
    while added != waiting.added {
      added = waiting.added
      dispatch(.reads)
      dispatch(.writes)
      dispatchSlow()
      // Where nobody wants an execution any more, an equal one may have waited for its end.
    }
    for connection in connections { connection.endOfTurn() }
    if !isLookedAfter, connections.contains(where: { $0.depth > 0 }) { lookAfterThoseHeldUp() }
  }

  private func dispatch(_ lane: WaitingExecutions.Lane) {
    while let execution = waiting.first(lane) {
      let statement = execution.statement
      if execution.isAbandoned {
        waiting.removeFirst(lane)
        complete(execution, .failure(.cancelled))
      } else if times.isSlow(statement) || (lane == .reads && isHoldingUpReads(statement)) {
        waiting.removeFirst(lane)
        waiting.add(execution, to: .slow)
      } else if let connection = lane == .reads ? connectionForRead() : connectionForWrite() {
        waiting.removeFirst(lane)
        send(execution, on: connection, isSlow: false)
      } else {
        break
      }
    }
  }

  /// One of each statement, and again until no more can be sent.
  private func dispatchSlow() {
    var isAnySent: Bool
    repeat {
      isAnySent = false
      for statement in waiting.slowStatements where sendOne(of: statement) { isAnySent = true }
    } while isAnySent
  }

  /// Slow reads go where slow writes go. If they would have to wait there, one at a time is tried where the fast ones go: it may be
  /// fast, and have been held up, or never run.
  private func sendOne(of statement: Statement) -> Bool {
    let isFast = !times.isSlow(statement) && !isHoldingUpReads(statement)
    while let execution = waiting.first(slow: statement) {
      if execution.isAbandoned {
        waiting.removeFirst(slow: statement)
        complete(execution, .failure(.cancelled))
      } else if isFast {
        waiting.removeFirst(slow: statement)
        waiting.add(execution, to: lane(of: statement))
      } else if let connection = connectionForSlow() ?? connectionForTrial(of: statement) {
        waiting.removeFirst(slow: statement)
        waiting.hadItsTurn(statement)
        send(execution, on: connection, isSlow: true)
        return true
      } else {
        return false
      }
    }
    return false
  }

  private func send(_ execution: Execution, on connection: DatabaseConnection, isSlow: Bool) {
    counters.statements += 1
    connection.send(execution, isSlow: isSlow)
  }

  // MARK: Choosing a connection

  /// The connections that are ready have changed.
  func readinessChanged() {
    var left = min(Self.reserved, connections.count(where: \.isReady) - 1)
    reservedEnd = 0
    while left > 0 {
      if connections[reservedEnd].isReady { left -= 1 }
      reservedEnd += 1
    }
  }

  /// Reads stay on the reserved connections while those keep up, then on the first half while there is space: the fewer servers wake
  /// up for light reads, the less each costs, and more at work than there are processors only get into each other's way.
  ///
  /// Nothing is put behind a statement that is slow, or has run for a while: it waits here for the first connection that moves.
  private func connectionForRead() -> DatabaseConnection? {
    if let few = leastBusy(of: connections[..<reservedEnd]), few.depth < Self.keepsUp { return few }
    if let half = leastBusy(of: connections.prefix(max(Self.reserved, connections.count / 2))) { return half }
    return leastBusy(of: connections[...])
  }

  /// Writes wait for their commit, and go to all that are not reserved.
  private func connectionForWrite() -> DatabaseConnection? { leastBusy(of: connections[reservedEnd...]) }

  /// The ready connection with the fewest statements on their way; nil if all are full.
  private func leastBusy(of connections: ArraySlice<DatabaseConnection>) -> DatabaseConnection? {
    var best: DatabaseConnection?
    for connection in connections
    where connection.isReady && connection.depth < configuration.pipelineDepth && !connection.isHeldUp(loop.now) {
      if best.map({ connection.depth < $0.depth }) ?? true { best = connection }
    }
    return best
  }

  /// The connection behind whose statements a slow one waits least, from the last on: the first are for light reads. There are
  /// some that are full for others and not for a slow one, so that no number of fast ones keeps it waiting for ever.
  private func connectionForSlow() -> DatabaseConnection? {
    connections[reservedEnd...].reversed().filter { $0.isReady && !$0.isHeldUp(loop.now) }.min { $0.depth < $1.depth }
  }

  /// The last of those that are reserved: the first stays free for reads that are known to be fast, if there are two.
  private var lastReserved: DatabaseConnection? { connections[..<reservedEnd].last(where: \.isReady) }

  /// Where a slow read may be tried; nil while another one is, or something holds up what is there.
  private func connectionForTrial(of statement: Statement) -> DatabaseConnection? {
    guard mayBeTried(statement), let last = lastReserved else { return nil }
    return last.isHeldUp(loop.now) || last.isCancelling ? nil : last
  }

  /// Not while the server is at one elsewhere, which shows what it is, nor shortly after it was given up.
  private func mayBeTried(_ statement: Statement) -> Bool {
    statement.isReadOnly && !times.isPaused(statement, at: loop.now) && !connections.contains { $0.isAt(statement) }
  }

  /// Whether a run of the statement is what others have to wait for on a reserved connection, fast as it used to be: one of each is
  /// enough.
  private func isHoldingUpReads(_ statement: Statement) -> Bool {
    connections[..<reservedEnd].contains { $0.isHeldUp(loop.now) && $0.isAt(statement) }
  }

  // MARK: Looking after those that are held up

  /// Where reads that were fast until now hold up all reserved connections (their table is locked, perhaps), those are given up
  /// there, to be sent again where slow ones go: they are known to be slow then. So is what holds up the last of them while a slow
  /// one waits for its turn there.
  private func clearReserved() {
    let reserved = connections[..<reservedEnd]
    if !reserved.contains(where: { $0.isReady && !$0.isHeldUp(loop.now) }) {
      for connection in reserved { connection.giveUpRead(loop.now) }
    } else if waiting.slowStatements.contains(where: mayBeTried) {
      lastReserved?.giveUpRead(loop.now)
    }
  }

  /// Sends reads elsewhere that have been behind something slow for a while, as long as anything is on its way.
  private func lookAfterThoseHeldUp() {
    isLookedAfter = true
    loop.spawn { [self] in
      repeat {
        await loop.sleep(Self.lookout)
        if connections.contains(where: { $0.isReady && !$0.isHeldUp(loop.now) }) {
          for connection in connections where connection.isStuck(loop.now) { connection.giveReadsBack() }
        }
        clearReserved()
        for connection in connections { connection.giveUpForNobody(loop.now) }
      } while connections.contains { $0.depth > 0 }
      isLookedAfter = false
    }
  }
}
