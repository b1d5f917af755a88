// One pipelined connection to PostgreSQL: connect, prepare, serve, and again from the start when it breaks.

import DequeModule
import EventLoop
import Logging
import Platform
import Postgres
import Shop

/// A connection that is kept up by a task of its own.
final class DatabaseConnection: @unchecked Sendable {
  private enum Failure: Error { case broken(String) }

  private let configuration: AsyncConfiguration
  private let loop: EventLoop
  private unowned let pool: DatabasePool
  private let log: Logger

  private var connection: Connection?
  private var watch: Watch?
  /// What was sent and has no result yet, the oldest first.
  private var inFlight: Deque<Query> = []
  /// Syncs that the server has not answered yet.
  private var syncs = 0
  /// Whether something was queued behind the last Sync.
  private var isSegmentOpen = false
  private var hasUnsentInput = false
  /// When an attempt to connect is given up, in monotonic nanoseconds.
  private var connectDeadline = UInt64.max
  private var failedAttempts = 0

  private(set) var isReady = false
  private(set) var hasTried = false

  /// A statement that ran longer than the server's own limit by this much will not come back: the server is gone or
  /// can't be reached.
  private static let grace: UInt64 = 5_000_000_000

  init(_ configuration: AsyncConfiguration, loop: EventLoop, pool: DatabasePool, log: Logger) {
    self.configuration = configuration
    self.loop = loop
    self.pool = pool
    self.log = log
  }

  /// Statements on their way.
  var depth: Int { inFlight.count }

  /// Keeps the connection up for ever.
  func run() async {
    while true {
      do throws(PostgresError) {
        let connection = try await connect()
        try await prepare(connection)
        isReady = true
        hasTried = true
        failedAttempts = 0
        try await serve(connection)
      } catch {
        disconnect(error)
      }
      await loop.sleep(pause())
    }
  }

  /// Between attempts: from 50 ms doubling to 2 s, each shortened at random by up to a half, so that many do not come back
  /// at once.
  private func pause() -> Duration {
    failedAttempts += 1
    let longest = min(2_000, 50 << min(failedAttempts - 1, 6))
    return .milliseconds(Int.random(in: longest / 2...longest))
  }

  private func disconnect(_ error: PostgresError) {
    let wasReady = isReady
    isReady = false
    hasTried = true
    watch?.cancel()
    watch = nil
    connection = nil
    connectDeadline = .max
    syncs = 0
    hasUnsentInput = false
    isSegmentOpen = false
    if wasReady || failedAttempts == 0 { log.warning("\(error)") }
    let lost = inFlight
    inFlight = []
    if wasReady { pool.failed(lost.reversed(), error) } else { pool.couldNotConnect(error) }
  }

  // MARK: Connecting

  private func connect() async throws(PostgresError) -> Connection {
    connectDeadline = MonotonicClock.now + UInt64(configuration.options.connectTimeout) * 1_000_000_000
    let connection = try Connection.startConnecting(to: configuration.database, configuration.options)
    var wait = Connection.Wait.writable
    while true {
      try await self.wait(for: wait, of: connection)
      switch connection.connectStep() {
      case .wait(let next): wait = next
      case .failed(let why): throw .unavailable(why)
      case .connected:
        connectDeadline = .max
        self.connection = connection
        return connection
      }
    }
  }

  /// Waits for the socket, which may be another one than at the step before.
  private func wait(for wait: Connection.Wait, of connection: Connection) async throws(PostgresError) {
    watch?.cancel()
    watch = nil
    do throws(SystemError) {
      watch = try loop.watch(connection.socket, for: wait == .readable ? .readable : .writable, edgeTriggered: false)
    } catch {
      throw .unavailable("\(error)")
    }
    await watch?.readableOrWritable()
    if MonotonicClock.now > connectDeadline { throw .unavailable("no connection within the time limit") }
  }

  /// Prepares every statement, in one segment of the pipeline.
  private func prepare(_ connection: Connection) async throws(PostgresError) {
    watch?.cancel()
    do throws(SystemError) {
      watch = try loop.watch(connection.socket, for: .readable, edgeTriggered: false)
    } catch {
      throw .unavailable("\(error)")
    }
    for statement in Shop.statements {
      guard connection.sendPrepare(statement) else { throw .connectionLost(connection.failure) }
    }
    guard connection.sendSync() else { throw .connectionLost(connection.failure) }
    var expected = Shop.statements.count + 1
    var failure: PostgresError?
    while expected > 0 {
      try await transfer(connection)
      while expected > 0, let event = connection.nextEvent(expected: expected) {
        expected -= 1
        if case .result(.failure(let error)) = event, failure == nil { failure = error }
      }
    }
    if let failure { throw failure }
  }

  // MARK: Serving

  /// Takes answers in until the connection breaks.
  private func serve(_ connection: Connection) async throws(PostgresError) {
    while true {
      try await transfer(connection)
      while let event = connection.nextEvent(expected: inFlight.count + syncs) {
        switch event {
        case .result(let result): inFlight.popFirst()?.complete(result)
        case .sync: syncs -= 1
        case .aborted: if let skipped = inFlight.popFirst() { pool.sendAgain(skipped) }
        }
      }
    }
  }

  /// Waits until the socket has something for us, or takes what is left to send.
  private func transfer(_ connection: Connection) async throws(PostgresError) {
    if !isReady { try flush(connection) }
    await watch?.readableOrWritable()
    if hasUnsentInput { try flush(connection) }
    guard self.connection === connection, connection.consumeInput() else { throw .connectionLost(connection.failure) }
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

  /// Queues an operation. Reads that are asked for in one turn share a segment of the pipeline, and so a Sync, a message
  /// each way and a wake-up of the server; should one fail, the server skips those behind it, and they are sent again,
  /// each by itself. A write has a segment of its own: its failure is nobody else's, and it is committed by itself.
  func send(_ query: Query) {
    guard let connection else { return query.complete(.failure(pool.lastError)) }
    let isAlone = !query.operation.statement.isReadOnly || query.isRepeated
    if isAlone { closeSegment() }
    query.isSent = true
    query.sentAt = MonotonicClock.now
    inFlight.append(query)
    // A broken connection shows itself to the task that reads from it, which fails everything in flight.
    isSegmentOpen = connection.send(query.operation.statement, query.operation.parameters)
    if isAlone { closeSegment() }
  }

  private func closeSegment() {
    guard isSegmentOpen, let connection else { return }
    isSegmentOpen = false
    if connection.sendSync() { syncs += 1 }
  }

  /// Closes what the turn has queued; what the socket did not take is sent when it is writable.
  func endOfTurn() {
    guard isSegmentOpen || hasUnsentInput else { return }
    closeSegment()
    guard isReady, let connection else { return }
    do throws(PostgresError) { try flush(connection) } catch { watch?.interrupt() }
  }

  func enforceTimeLimits(_ now: UInt64) {
    let limit = UInt64(configuration.options.statementTimeout) * 1_000_000 + Self.grace
    if now > connectDeadline {
      watch?.interrupt()
    } else if let oldest = inFlight.first, now > oldest.sentAt, now - oldest.sentAt > limit {
      log.error("the database does not answer: connection given up")
      connection = nil
      watch?.interrupt()
    }
  }
}
