// One pipelined connection to PostgreSQL: connect, serve, and again from the start when it breaks.

import DequeModule
import EventLoop
import Logging
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
    case result(Execution)
    /// The result of a read that has been sent elsewhere meanwhile.
    case nobodys(Statement)
    case sync
  }

  let configuration: AsyncConfiguration
  /// What a pooler has refused once is not asked for again.
  var options: Connection.Options
  let loop: EventLoop
  /// Both live as long as the loop.
  let pool: DatabasePool
  let log: Logger

  var connection: Connection?
  var cancellation: Cancellation? { connection.flatMap(Cancellation.init) }
  var watch: Watch?
  /// The oldest first.
  var expected: Deque<Expected> = []
  /// Writes whose rows are here and whose commit is not: it comes with the Sync.
  var uncommitted: Deque<(execution: Execution, result: QueryResult)> = []
  /// Executions among `expected`.
  var depth = 0
  /// The server's own limit for a statement, in milliseconds; 0: none. What the user has said in `options` counts.
  var statementLimit: UInt64
  /// Whether it is longer than ours, or may be: then each segment says ours.
  var isLimitTooLong = false
  /// What has been prepared, or is about to be. Each is when it is asked for the first time: most never are, and each takes
  /// memory of the server's.
  var preparations: Preparations
  /// What became of the preparation before an execution that was skipped.
  var preparationError: PostgresError?
  /// What was answered since the last Sync.
  var answered: [Statement] = []
  /// Since when the server has been at the oldest segment, in monotonic nanoseconds.
  var segmentSince: UInt64 = 0
  /// Whether nothing should be put behind the youngest execution.
  var endsWithSlow = false
  /// Whether something was queued behind the last Sync.
  var isSegmentOpen = false
  /// Whether something was queued, or left over by the socket.
  var hasUnsentInput = false
  /// Since when the oldest statement has been the oldest, in monotonic nanoseconds.
  var oldestSince: UInt64 = 0
  /// Whether something that is on its way has been behind a statement that stood still, and may stand still as well.
  var stoodStill = false
  /// Whether the server is being asked to give up a read, and whether one that is on its way may be given up for that.
  var isCancelling: Bool { cancelling != nil }
  var cancelling: Cancellation?
  var wasCancelled = false
  /// The attempt to connect that is under way.
  private var attempt: ConnectionAttempt?
  /// Why the last attempt failed: the same reason is logged once.
  private var lastFailure: PostgresError?

  private(set) var isReady = false
  private(set) var hasTried = false
  /// What has become of it before, and so whether it is worth waiting for.
  var history = ConnectionHistory()
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
    var lost = uncommitted.map(\.execution)
    for case .result(let execution) in expected { lost.append(execution) }
    expected = []
    uncommitted = []
    stoodStill = false
    wasCancelled = false
    // Should it come now, it finds nobody.
    cancelling = nil
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
