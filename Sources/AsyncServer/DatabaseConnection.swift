// One pipelined connection to PostgreSQL: connect, serve, and again from the start when it breaks.

import DequeModule
import EventLoop
import Logging
import Orders
import Platform
import Postgres

/// A connection that is kept up by a task of its own.
final class DatabaseConnection {
  /// What the server still owes.
  enum Expected {
    /// The server's own limit for a statement.
    case timeLimit
    /// That the statements of a segment have a limit of ours.
    case limit
    /// That the server forgets a statement, or that it does not know it.
    case deallocation
    case preparation(Statement)
    case result(Query)
    /// The result of a read that has been sent elsewhere meanwhile.
    case nobodys(Statement)
    case sync
  }

  private let configuration: AsyncConfiguration
  /// What a pooler has refused once is not asked for again.
  private var options: Connection.Options
  let loop: EventLoop
  unowned let pool: DatabasePool
  private let log: Logger

  private var connection: Connection?
  var cancellation: Cancellation? { connection.flatMap(Cancellation.init) }
  private var watch: Watch?
  /// The oldest first.
  var expected: Deque<Expected> = []
  /// Writes whose rows are here and whose commit is not: it comes with the Sync.
  private var uncommitted: Deque<(query: Query, result: Result<ResultSet, PostgresError>)> = []
  /// Queries among `expected`.
  private(set) var depth = 0
  /// The server's own limit for a statement, in milliseconds; 0: none. What the user has said in `options` counts.
  private var statementLimit: UInt64
  /// Whether it is longer than ours, or may be: then each segment says ours.
  private var isLimitTooLong = false
  /// What has been prepared, or is about to be. Each is when it is asked for the first time: most never are, and each takes
  /// memory of the server's.
  private var preparations: Preparations
  /// What became of the preparation before a query that was skipped.
  private var preparationError: PostgresError?
  /// What was answered since the last Sync.
  private var answered: [Statement] = []
  /// Since when the server has been at the oldest segment, in monotonic nanoseconds.
  private var segmentSince: UInt64 = 0
  /// Whether nothing should be put behind the youngest query.
  private(set) var endsWithSlow = false
  /// Whether something was queued behind the last Sync.
  private var isSegmentOpen = false
  /// Whether something was queued, or left over by the socket.
  private var hasUnsentInput = false
  /// Since when the oldest statement has been the oldest, in monotonic nanoseconds.
  var oldestSince: UInt64 = 0
  /// Whether something that is on its way has been behind a statement that stood still, and may stand still as well.
  var stoodStill = false
  /// Whether the server is being asked to give up a read, and whether one that is on its way may be given up for that.
  var isCancelling = false
  var wasCancelled = false
  /// The attempt to connect that is under way.
  private var attempt: ConnectionAttempt?
  /// Why the last attempt failed: the same reason is logged once.
  private var lastFailure: PostgresError?

  private(set) var isReady = false
  private(set) var hasTried = false
  /// What has become of it before, and so whether it is worth waiting for.
  private var history = ConnectionHistory()
  var isReturning: Bool { history.isReturning }

  /// A statement that ran longer than the server's own limit by this much will not come back: the server is gone or
  /// can't be reached.
  private static let grace: UInt64 = 5_000_000_000

  init(_ configuration: AsyncConfiguration, loop: EventLoop, pool: DatabasePool, log: Logger) {
    self.configuration = configuration
    options = configuration.options
    preparations = Preparations(areUsed: options.prepares)
    statementLimit = UInt64(options.statementTimeout)
    self.loop = loop
    self.pool = pool
    self.log = log
  }

  /// Keeps the connection up for ever.
  func run() async {
    while true {
      do throws(PostgresError) {
        let connection = try await connect()
        isReady = true
        history.connected(at: MonotonicClock.now)
        pool.readinessChanged()
        hasTried = true
        lastFailure = nil
        askForTimeLimit(connection)
        try await serve(connection)
      } catch {
        disconnect(error)
      }
      if let pause = history.pause { await loop.sleep(pause) }
    }
  }

  private func disconnect(_ error: PostgresError) {
    let wasReady = isReady
    history.failed(at: MonotonicClock.now, wasReady: wasReady)
    isReady = false
    pool.readinessChanged()
    hasTried = true
    watch?.cancel()
    watch = nil
    connection = nil
    hasUnsentInput = false
    isSegmentOpen = false
    if wasReady || error != lastFailure { log.warning("\(error)") }
    lastFailure = error
    var lost = uncommitted.map(\.query)
    for case .result(let query) in expected { lost.append(query) }
    expected = []
    uncommitted = []
    stoodStill = false
    wasCancelled = false
    preparations = Preparations(areUsed: options.prepares)
    preparationError = nil
    answered = []
    depth = 0
    if wasReady { pool.failed(lost.reversed(), error) } else { pool.couldNotConnect(error) }
  }

  private func connect() async throws(PostgresError) -> Connection {
    let attempt = ConnectionAttempt(loop: loop)
    self.attempt = attempt
    defer { self.attempt = nil }
    let connection = try await connect(by: attempt)
    if let fault = connection.encodingFault { throw fault }
    watch = try watch(connection, for: .readable)
    self.connection = connection
    return connection
  }

  /// Without our settings where a pooler refuses them.
  private func connect(by attempt: ConnectionAttempt) async throws(PostgresError) -> Connection {
    do throws(PostgresError) {
      return try await attempt.connect(to: configuration.database, options)
    } catch {
      guard options.sendsSettings, error.isRefusedParameter else { throw error }
      options.sendsSettings = false
      return try await attempt.connect(to: configuration.database, options)
    }
  }

  private func watch(_ connection: Connection, for event: Readiness) throws(PostgresError) -> Watch {
    do throws(SystemError) {
      return try loop.watch(connection.socket, for: event, edgeTriggered: false)
    } catch {
      throw .unavailable("\(error)")
    }
  }

  // MARK: Serving

  /// Takes answers in until the connection breaks.
  private func serve(_ connection: Connection) async throws(PostgresError) {
    while true {
      await watch?.readableOrWritable()
      guard self.connection === connection else { throw .connectionLost("it did not answer") }
      // Where sending fails, libpq reads. What it has read is taken in before it may see the connection's end (`nextEvent`): it may
      // tell of a write that it was done.
      var failure: PostgresError?
      if hasUnsentInput {
        do throws(PostgresError) { try flush(connection) } catch { failure = error }
      }
      try takeIn(connection)
      guard connection.consumeInput() else { throw failure ?? .connectionLost(connection.failure) }
      try takeIn(connection)
      if let failure { throw failure }
    }
  }

  private func takeIn(_ connection: Connection) throws(PostgresError) {
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
  private func nextQuery() -> Query? {
    guard case .result(let query) = expected.first else { return nil }
    expected.removeFirst()
    depth -= 1
    answered.append(query.operation.statement)
    return query
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

  /// What is expected next was not executed, since something before it in its segment failed: for a query's own preparation,
  /// that is its answer; for another's failure it is nobody's.
  private func wasSkipped() {
    if passesOver() { return }
    guard let query = nextQuery() else { return }
    if let error = preparationError {
      preparationError = nil
      if error.isKnownPreparation { return pool.sendAgain(query, avoidingName: true) }
      if wasCancelled, error.isCancellation { return pool.sendAgain(query) }
      pool.complete(query, .failure(error.beforeSending))
    } else {
      pool.sendAgain(query)
    }
  }

  /// A read is answered by its rows. A write is not: it is committed at the Sync, and that can fail.
  private func received(_ result: Result<ResultSet, PostgresError>) {
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
    guard let query = nextQuery() else {
      // Not a statement's result but the commit's.
      if case .failure = result { for index in uncommitted.indices { uncommitted[index].result = result } }
      return
    }
    if query.isByName, case .failure(let error) = result, error.mayBeStalePreparation {
      forget(query.operation.statement, error)
      pool.sendAgain(query, avoidingName: true)
    } else if query.operation.statement.isReadOnly {
      if wasCancelled, case .failure(let error) = result, error.isCancellation {
        pool.sendAgain(query)
      } else {
        pool.complete(query, judged(result, of: query))
      }
    } else {
      uncommitted.append((query, judged(result, of: query)))
    }
  }

  /// A statement that was given up before its time limit was given up because somebody has asked for that.
  private func judged(
    _ result: Result<ResultSet, PostgresError>, of query: Query
  ) -> Result<ResultSet, PostgresError> {
    guard case .failure(let error) = result else { return result }
    return .failure(error.judged(after: loop.now - query.sentAt, limit: statementLimit))
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
    while let (query, result) = uncommitted.popFirst() { pool.complete(query, result) }
  }

  private func flush(_ connection: Connection) throws(PostgresError) {
    guard let isLeft = connection.flush() else { throw .connectionLost(connection.failure) }
    hasUnsentInput = isLeft
    do throws(SystemError) {
      try watch?.change(to: isLeft ? [.readable, .writable] : .readable)
    } catch {
      throw .connectionLost("\(error)")
    }
  }

  /// A statement may run as long as the server lets it, and who decides that may be the user: `options` of a URL, PGOPTIONS.
  private func askForTimeLimit(_ connection: Connection) {
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
  private func hasTimeLimit(_ milliseconds: UInt64) {
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

  /// Queues an operation. Reads that are asked for in one turn share a segment of the pipeline, and so a Sync, a message
  /// each way and a wake-up of the server; should one fail, the server skips those behind it, and they are sent again,
  /// each by itself. A write has a segment of its own: its failure is nobody else's, and it is committed by itself. So has a
  /// slow one, which lets the others' answers go before it, and one that has to be prepared, which can fail.
  func send(_ query: Query, isSlow: Bool = false) {
    guard let connection else { return pool.complete(query, .failure(pool.lastError)) }
    let statement = query.operation.statement
    let isByName = preparations.areUsed && !query.avoidsName
    let isNew = isByName && !preparations.knows(statement)
    let isAlone = !statement.isReadOnly || query.isRepeated || isSlow || isNew
    if isAlone { closeSegment() }
    query.wasSent(byName: isByName, at: loop.now)
    if expected.isEmpty {
      oldestSince = loop.now
      stoodStill = false
      wasCancelled = isCancelling
      segmentSince = loop.now
    }
    // A broken connection shows itself to the task that reads from it, which fails everything in flight.
    if isNew { prepare(statement, on: connection) } else { limitSegment(for: statement, connection) }
    expected.append(.result(query))
    depth += 1
    endsWithSlow = isSlow
    hasUnsentInput = true
    let parameters = query.operation.parameters
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

  // MARK: Time limits

  func enforceTimeLimits(_ now: UInt64) {
    if history.isGivenUp(at: now) { pool.couldNotConnect(pool.lastError) }
    attempt?.enforceTimeLimit(now)
    // PostgreSQL's is 2^31 at most.
    let limit = min(statementLimit, 1 << 31) * 1_000_000 + Self.grace
    if statementLimit > 0, !expected.isEmpty, now > oldestSince, now - oldestSince > limit {
      log.error("the database does not answer: connection given up")
      connection = nil
      watch?.interrupt()
    }
  }
}
