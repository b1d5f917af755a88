// What goes out on a database connection: statements in segments, each with what it needs before it.

import EventLoop
import Platform
import Postgres

extension DatabaseConnection {
  func flush(_ connection: Connection) throws(PostgresError) {
    guard let isLeft = connection.flush() else { throw .connectionLost(connection.failure) }
    hasUnsentInput = isLeft
    do throws(SystemError) {
      try watch?.change(to: isLeft ? [.readable, .writable] : .readable)
    } catch {
      throw .connectionLost("\(error)")
    }
  }

  /// A statement may run as long as the server lets it, and who decides that may be the user: `options` of a URL, PGOPTIONS.
  func askForTimeLimit(_ connection: Connection) {
    statementLimit = UInt64(options.statementTimeout)
    isLimitTooLong = !options.sendsSettings
    oldestSince = loop.now
    guard connection.send(SessionSettings.timeLimitQuery) else { return }
    expected.append(.timeLimit)
    hasUnsentInput = true
    isSegmentOpen = true
    closeSegment()
  }

  /// A long one, or none, is meant where the user says so. Where a pooler lets nothing be set, ours is.
  func hasTimeLimit(_ milliseconds: UInt64) {
    let wanted = UInt64(options.statementTimeout)
    let isLonger = milliseconds == 0 || milliseconds > wanted
    isLimitTooLong = isLonger && !Connection.Options.sayTimeLimit(configuration.database)
    statementLimit = isLimitTooLong ? wanted : milliseconds
  }

  /// Begins a segment with our limit where the session's may be another: behind a pooler a write's may not be the one that was
  /// asked.
  private func limitSegment(for statement: Statement, _ connection: Connection) {
    guard !isSegmentOpen, isLimitTooLong || !options.sendsSettings && !statement.isReadOnly else { return }
    guard connection.sendLimit(options.statementTimeout) else { return }
    expected.append(.limit)
    isSegmentOpen = true
  }

  /// Queues an execution. Reads that are asked for in one turn share a segment of the pipeline, and so a Sync, a message
  /// each way and a wake-up of the server; should one fail, the server skips those behind it, and they are sent again,
  /// each by itself. A write has a segment of its own: its failure is nobody else's, and it is committed by itself. So has a
  /// slow one, which lets the others' answers go before it, and one that has to be prepared, which can fail.
  func send(_ execution: Execution, isSlow: Bool = false) {
    guard let connection else { return pool.complete(execution, .failure(pool.lastError)) }
    let statement = execution.statement
    let isByName = preparations.areUsed && !execution.avoidsName
    let isNew = isByName && !preparations.knows(statement)
    let isAlone = !statement.isReadOnly || execution.isRepeated || isSlow || isNew
    if isAlone { closeSegment() }
    execution.wasSent(byName: isByName, at: loop.now)
    if expected.isEmpty {
      oldestSince = loop.now
      stoodStill = false
      wasCancelled = isCancelling
      segmentSince = loop.now
    }
    // A broken connection shows itself to the task that reads from it, which fails everything in flight.
    if isNew { prepare(statement, on: connection) } else { limitSegment(for: statement, connection) }
    expected.append(.result(execution))
    depth += 1
    endsWithSlow = isSlow
    hasUnsentInput = true
    let parameters = execution.bound.parameters
    isSegmentOpen =
      isByName
      ? connection.send(statement, as: preparations.name(of: statement), parameters)
      : connection.sendUnprepared(statement, parameters)
    if isAlone { closeSegment() }
  }

  /// What may be left of an earlier preparation goes first, in a segment of its own, since it may have gone before.
  private func prepare(_ statement: Statement, on connection: Connection) {
    if let former = preparations.prepare(statement), connection.sendDeallocate(former) {
      expected.append(.deallocation)
      isSegmentOpen = true
      closeSegment()
    }
    limitSegment(for: statement, connection)
    if connection.sendPrepare(statement, as: preparations.name(of: statement)) {
      expected.append(.preparation(statement))
    }
  }

  private func closeSegment() {
    guard isSegmentOpen, let connection else { return }
    isSegmentOpen = false
    if connection.sendSync() { expected.append(.sync) }
  }

  /// Closes what the turn has queued; what the socket did not take is sent when it is writable.
  func endOfTurn() {
    guard hasUnsentInput else { return }
    closeSegment()
    guard isReady, let connection else { return }
    do throws(PostgresError) { try flush(connection) } catch { watch?.interrupt() }
  }
}
