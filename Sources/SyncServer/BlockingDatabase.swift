// A worker's database connection: made when it is needed, made again when it is gone.

import Logging
import Platform
import Postgres
import Shop

/// Blocks in libpq.
struct BlockingDatabase {
  /// After a failed attempt, requests are refused at once for this long instead of each waiting for its own attempt.
  private static let pause: UInt64 = 200_000_000
  /// An attempt that fails earlier, in nanoseconds, has failed at once.
  private static let moment: UInt64 = 1_000_000_000
  /// How often a read is sent again whose connection breaks each time: it may be what breaks it.
  private static let mostRepeats = 3
  /// How often a statement is prepared anew that the server refuses: what makes a preparation useless may happen again meanwhile.
  private static let mostRefusals = 3

  private let info: ConnectionInfo
  private let options: Connection.Options
  private let log: Logger
  private var connection: Connection?
  /// Whether an attempt that fails at once is followed by another at once: a server that goes away ends conversations that have
  /// just begun, too.
  private var hasSpareAttempt = false
  /// What has been prepared on it. A worker prepares what it is asked for when it is asked for the first time: most are never
  /// asked for most.
  private var prepared: Set<ObjectIdentifier> = []
  /// Counts connections: a new one may have the number of an old one's socket.
  private(set) var generation = 0
  private var nextAttempt: UInt64 = 0
  private var lastError = PostgresError.unavailable("not connected yet")

  init(_ info: ConnectionInfo, _ options: Connection.Options, log: Logger) {
    self.info = info
    self.options = options
    self.log = log
  }

  /// The connection's socket; −1 if there is none.
  var socket: Int32 { connection?.socket ?? -1 }

  mutating func connectIfNeeded() {
    guard connection == nil, MonotonicClock.now >= nextAttempt else { return }
    let began = MonotonicClock.now
    do throws(PostgresError) {
      connection = try Connection.connect(to: info, options)
      prepared.removeAll(keepingCapacity: true)
      generation += 1
      hasSpareAttempt = true
    } catch {
      if hasSpareAttempt {
        hasSpareAttempt = false
        if MonotonicClock.now < began + Self.moment { return connectIfNeeded() }
      }
      lastError = error.beforeSending
      nextAttempt = MonotonicClock.now + Self.pause
      log.warning("\(error)")
    }
  }

  /// Executes an operation. It is repeated on a new connection if the old one turns out to be gone before the operation was sent; a
  /// read afterwards, too. Of a write nobody knows then what became of it.
  mutating func execute(_ operation: Operation) -> Result<ResultSet, PostgresError> {
    var result = executeOnce(operation)
    var repeats = 0
    while case .failure(let error) = result, repeats < Self.mostRepeats {
      switch error {
      case .connectionLost: guard operation.statement.isReadOnly else { return result }
      case .unavailable:
        guard MonotonicClock.now >= nextAttempt else { return result }
      default: return result
      }
      repeats += 1
      result = executeOnce(operation)
    }
    return result
  }

  /// Executes an operation, whose statement is prepared anew where its preparation is of no use any more.
  private mutating func executeOnce(_ operation: Operation) -> Result<ResultSet, PostgresError> {
    var result = executePrepared(operation)
    var refusals = 0
    while case .failure(let error) = result, error.mayBeStalePreparation, refusals < Self.mostRefusals, let connection {
      refusals += 1
      prepared.remove(ObjectIdentifier(operation.statement))
      connection.deallocate(operation.statement)
      result = executePrepared(operation)
    }
    return result
  }

  private mutating func executePrepared(_ operation: Operation) -> Result<ResultSet, PostgresError> {
    do throws(PostgresError) {
      let connection = try connection(preparedFor: operation.statement)
      let result = connection.execute(operation.statement, operation.parameters)
      if case .failure(.connectionLost) = result { self.connection = nil }
      return result
    } catch {
      return .failure(error)
    }
  }

  /// A connection that knows a statement; `unavailable` if there is none, or it is gone before the statement itself was sent.
  private mutating func connection(preparedFor statement: Statement) throws(PostgresError) -> Connection {
    // Its end may have come behind the last answer.
    if let connection, !connection.isAlive { self.connection = nil }
    connectIfNeeded()
    guard let connection else { throw lastError }
    if prepared.contains(ObjectIdentifier(statement)) { return connection }
    do throws(PostgresError) {
      try connection.prepare(statement)
    } catch {
      if case .connectionLost = error { self.connection = nil }
      throw error.beforeSending
    }
    prepared.insert(ObjectIdentifier(statement))
    return connection
  }

  /// Call when the socket is readable although nothing was asked.
  mutating func takeInWhatCameUnasked() {
    if let connection, !connection.stillAliveAfterReading() {
      log.warning("the database has closed the connection")
      self.connection = nil
    }
  }
}
