// Which of the queries that wait goes to which connection.
//
// Of the connections that are ready the first two are reserved, or all but one if there are no more than two: they get reads that
// are known to be fast, and nothing else. However many writes wait for a lock, and however many slow reads are at work, there is
// a way for all others. What turns out to be slow in spite of what is known of it holds up those few that are behind it already,
// and not for long: they are sent again elsewhere.

import Postgres
import Shop

extension DatabasePool {
  /// How many connections are reserved, if there are enough.
  private static let reserved = 2
  /// Up to how many statements on its way a connection counts as keeping up.
  private static let keepsUp = 16
  /// How often the pool looks for what is held up, while anything is on its way.
  private static let lookout = Duration.milliseconds(25)

  /// What waits for what, and where a query has to wait.
  func lane(of statement: Statement) -> WaitingQueries.Lane {
    guard times.isKnown(statement) else { return statement.isReadOnly ? .untried : .slow }
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
      for statement in waiting.untriedStatements { dispatch(untried: statement) }
      dispatch(.slow)
      // Where nobody wants a query any more, an equal one may have waited for its end.
    }
    for connection in connections { connection.endOfTurn() }
    if !isLookedAfter, connections.contains(where: { $0.depth > 0 }) { lookAfterThoseHeldUp() }
  }

  private func dispatch(_ lane: WaitingQueries.Lane) {
    while let query = waiting.first(lane) {
      let statement = query.operation.statement
      if query.isAbandoned {
        waiting.removeFirst(lane)
        complete(query, .failure(.cancelled))
      } else if lane != .slow, times.isSlow(statement) || (lane == .reads && isHoldingUpReads(statement)) {
        waiting.removeFirst(lane)
        waiting.add(query, to: .slow)
      } else if let connection = connection(for: lane) {
        waiting.removeFirst(lane)
        send(query, on: connection, isSlow: lane == .slow)
      } else {
        break
      }
    }
  }

  /// Reads that have never run go where slow ones go. If they would have to wait there, one at a time is tried where the fast ones
  /// go, since most are: on the last of two reserved connections. What can hardly be slow is tried on any.
  private func dispatch(untried statement: Statement) {
    let isKnown = times.isKnown(statement)
    while let query = waiting.first(untried: statement) {
      if query.isAbandoned {
        waiting.removeFirst(untried: statement)
        complete(query, .failure(.cancelled))
      } else if isKnown {
        waiting.removeFirst(untried: statement)
        waiting.add(query, to: lane(of: statement))
      } else if let connection = connectionForSlow() {
        waiting.removeFirst(untried: statement)
        send(query, on: connection, isSlow: true)
      } else if let connection = connectionForTrial(of: statement) {
        waiting.removeFirst(untried: statement)
        if !isLight(statement) { trial = query }
        send(query, on: connection, isSlow: true)
      } else {
        break
      }
    }
  }

  private func send(_ query: Query, on connection: DatabaseConnection, isSlow: Bool) {
    counters.statements += 1
    connection.send(query, isSlow: isSlow)
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

  /// Reads stay on the reserved connections while those keep up, then on the first half while there is room: the fewer servers wake
  /// up for light reads, the less each costs, and more at work than there are processors only get into each other's way. Writes
  /// wait for their commit, and go to all that are not reserved.
  ///
  /// Nothing is put behind a statement that is slow, or has run for a while: it waits here for the first connection that moves.
  private func connection(for lane: WaitingQueries.Lane) -> DatabaseConnection? {
    switch lane {
    case .slow, .untried: return connectionForSlow()
    case .writes: return leastBusy(of: connections[reservedEnd...])
    case .reads:
      if let few = leastBusy(of: connections[..<reservedEnd]), few.depth < Self.keepsUp { return few }
      if let half = leastBusy(of: connections.prefix(max(Self.reserved, connections.count / 2))) { return half }
      return leastBusy(of: connections[...])
    }
  }

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

  /// Where a read may be tried that has never run; nil while another one is, or this one is at work elsewhere.
  private func connectionForTrial(of statement: Statement) -> DatabaseConnection? {
    guard !connections.contains(where: { $0.hasOnItsWay(statement) }) else { return nil }
    let ready = connections[..<reservedEnd].filter(\.isReady)
    if isLight(statement) { return ready.last { !$0.isHeldUp(loop.now) } }
    guard trial == nil, ready.count > 1, let last = ready.last, !last.isHeldUp(loop.now) else { return nil }
    return last
  }

  private func isLight(_ statement: Statement) -> Bool { Shop.lightReads.contains { $0 === statement } }

  /// Whether a run of the statement is what others have to wait for on a reserved connection, fast as it used to be: one of each is
  /// enough.
  private func isHoldingUpReads(_ statement: Statement) -> Bool {
    connections[..<reservedEnd].contains { $0.isHeldUp(loop.now) && $0.isAt(statement) }
  }

  // MARK: Looking after those that are held up

  /// Where reads that were fast until now hold up all reserved connections (their table is locked, perhaps), those are given up
  /// there, to be sent again where slow ones go: they are known to be slow then.
  private func clearReserved() {
    let reserved = connections[..<reservedEnd]
    guard !reserved.contains(where: { $0.isReady && !$0.isHeldUp(loop.now) }) else { return }
    for connection in reserved where connection.isBlockedByRead(loop.now) { connection.cancelRead() }
  }

  /// Sends reads elsewhere that have been behind something slow for a while, as long as anything is on its way.
  private func lookAfterThoseHeldUp() {
    isLookedAfter = true
    Task(executorPreference: loop) { [self] in
      repeat {
        await loop.sleep(Self.lookout)
        if connections.contains(where: { $0.isReady && !$0.isHeldUp(loop.now) }) {
          for connection in connections where connection.isStuck(loop.now) { connection.giveReadsBack() }
        }
        clearReserved()
      } while connections.contains { $0.depth > 0 }
      isLookedAfter = false
    }
  }
}
