// A worker's database connection: made when it is needed, made again when it is gone.

import Application
import Logging
import Platform
import Postgres

/// Blocks in libpq.
struct BlockingDatabase {
  /// After a failed attempt, requests are refused at once for a while instead of each waiting for its own attempt: in nanoseconds,
  /// after the first one and after many, each of which doubles it.
  private static let pauses: ClosedRange<UInt64> = 10_000_000...200_000_000
  /// An attempt that fails earlier, in nanoseconds, has failed at once.
  private static let moment: UInt64 = 1_000_000_000
  /// How often a read is sent again whose connection breaks each time: it may be what breaks it.
  private static let mostRepeats = 3

  private let info: ConnectionInfo
  /// What a pooler has refused once is not asked for again.
  private var options: Connection.Options
  private let log: Logger
  private var connection: Connection?
  /// Whether an attempt that fails at once is followed by another at once: a server that goes away ends conversations that have
  /// just begun, too.
  private var hasSpareAttempt = false
  /// What has been prepared on it. A worker prepares what it is asked for when it is asked for the first time: most are never
  /// asked for most.
  private var preparations: Preparations
  /// Counts connections: a new one may have the number of an old one's socket.
  private(set) var generation = 0
  private var nextAttempt: UInt64 = 0
  private var pause = pauses.lowerBound
  private var lastError = PostgresError.unavailable("not connected yet")
  /// How long a statement may take in the session, in milliseconds: the database's word; 0: for ever, or nobody knows.
  private var sessionLimit = 0
  /// How long a request may take, in nanoseconds; 0: for ever.
  private let requestTime: UInt64
  private let userSaysLimit: Bool
  /// Who waits for what is executed; nil: nobody looks whether it has gone.
  var client: ClientWatch?

  init(_ info: ConnectionInfo, _ options: Connection.Options, requestTime: UInt64 = 0, log: Logger) {
    self.info = info
    self.options = options
    self.requestTime = requestTime
    userSaysLimit = Connection.Options.sayTimeLimit(info)
    preparations = Preparations(areUsed: options.prepares)
    self.log = log
  }

  /// The connection's socket; −1 if there is none.
  var socket: Int32 { connection?.socket ?? -1 }

  var isConnected: Bool { connection != nil }

  /// How many milliseconds there are until the next attempt, at least one.
  var pauseLeft: Int32 {
    let now = MonotonicClock.now
    return nextAttempt > now ? Int32(clamping: (nextAttempt - now) / 1_000_000 + 1) : 1
  }

  mutating func connectIfNeeded() {
    guard connection == nil, MonotonicClock.now >= nextAttempt else { return }
    let began = MonotonicClock.now
    do throws(PostgresError) {
      let connection = try Connection.connect(to: info, &options)
      sessionLimit = Int(clamping: try connection.execute(SessionSettings.timeLimitQuery).integer(0, 0))
      self.connection = connection
      preparations = Preparations(areUsed: options.prepares)
      generation += 1
      hasSpareAttempt = true
      pause = Self.pauses.lowerBound
    } catch {
      if hasSpareAttempt {
        hasSpareAttempt = false
        if MonotonicClock.now < began + Self.moment { return connectIfNeeded() }
      }
      lastError = error.beforeSending
      nextAttempt = MonotonicClock.now + pause
      pause = min(2 * pause, Self.pauses.upperBound)
      log.warning("\(error)")
    }
  }

  /// The milliseconds to be said along with a statement; nil where the session's limit does. What the user says in `options` is meant,
  /// and otherwise the settings, also behind a pooler that lets nothing be set; there a write's session may be another than was
  /// asked. And a write must have ended before its request is given up, `since` when it came: nobody is to be told of the one while
  /// the other may still be done.
  private func limit(for statement: Statement, since: UInt64) -> Int? {
    var limit = userSaysLimit ? Int.max : options.statementTimeout
    if requestTime > 0, !statement.isReadOnly {
      let spent = MonotonicClock.now - since
      limit = min(limit, Int(clamping: (requestTime - min(spent, requestTime)) / 1_000_000 * 9 / 10))
    }
    let mayDiffer = !options.sendsSettings && !statement.isReadOnly
    guard limit < Int.max, mayDiffer || sessionLimit == 0 || sessionLimit > limit else { return nil }
    return limit
  }

  /// Executes a query's statements of a request that came at `since`.
  mutating func execute(_ query: Query, since: UInt64) -> QueryResults {
    if query.others.isEmpty { return QueryResults(execute(query.first, since: since)) }
    let results = execute(together: [query.first] + query.others, since: since)
    return QueryResults(results[0], Array(results.dropFirst()))
  }

  /// Executes several that do not depend on one another: in one pipeline, and what that can't do one after another.
  private mutating func execute(together all: [BoundStatement], since: UInt64) -> [QueryResult] {
    let results = pipelined(all, since)
    return all.indices.map { index in
      switch results?[index] {
      case .failure(let error)? where mayBeRepeated(error, all[index].statement): execute(all[index], since: since)
      case let result?: result
      case nil: execute(all[index], since: since)
      }
    }
  }

  /// Nil where they can't be sent together: without a connection, where each has to say its time limit, and writes of a request that has
  /// one.
  private mutating func pipelined(_ all: [BoundStatement], _ since: UInt64) -> [QueryResult]? {
    // Each of several writes must have ended before the request is given up, and none knows how long those before it take.
    guard requestTime == 0 || all.allSatisfy(\.statement.isReadOnly) else { return nil }
    var names: [String?] = []
    do throws(PostgresError) {
      for bound in all {
        // What the session's own limit is, is known once there is a connection.
        _ = try connection(preparedFor: preparations.areUsed ? bound.statement : nil, since)
        guard limit(for: bound.statement, since: since) == nil else { return nil }
        names.append(preparations.areUsed ? preparations.name(of: bound.statement) : nil)
      }
    } catch {
      return nil
    }
    // Making one of the preparations may have taken a new connection.
    guard let connection, !preparations.areUsed || all.allSatisfy({ preparations.knows($0.statement) }) else {
      return nil
    }
    let began = MonotonicClock.now
    let client = all.allSatisfy(\.statement.isReadOnly) ? client : nil
    let results = connection.whileThere(client) { connection.execute(all, as: names) }
    if !connection.isAlive { self.connection = nil }
    guard let results else { return all.map { _ in .failure(.cancelled) } }
    return results.map { result in
      guard case .failure(let error) = result, error.isCancellation, connection.isAlive else { return result }
      return .failure(judged(error, after: MonotonicClock.now - began, nil, on: connection))
    }
  }

  /// Whether a statement that has failed in a pipeline may be executed by itself.
  private func mayBeRepeated(_ error: PostgresError, _ statement: Statement) -> Bool {
    switch error {
    case .unavailable: true
    case .connectionLost: statement.isReadOnly
    default: preparations.areUsed && (error.mayBeStalePreparation || error.isKnownPreparation)
    }
  }

  /// Executes a statement of a request that came at `since`. It is repeated on a new connection if the old one turns out to be gone
  /// before it was sent; a read afterwards, too. Of a write nobody knows then what became of it.
  mutating func execute(_ bound: BoundStatement, since: UInt64) -> QueryResult {
    var result = executeOnce(bound, since)
    var repeats = 0
    while case .failure(let error) = result, repeats < Self.mostRepeats {
      switch error {
      case .connectionLost: guard bound.statement.isReadOnly else { return result }
      case .unavailable:
        guard MonotonicClock.now >= nextAttempt else { return result }
      default: return result
      }
      repeats += 1
      result = executeOnce(bound, since)
    }
    return result
  }

  /// Executes it, without its statement's name where that is of no use any more: nothing was executed then, and no name
  /// can be in the way.
  private mutating func executeOnce(_ bound: BoundStatement, _ since: UInt64) -> QueryResult {
    guard preparations.areUsed else { return execute(bound, since, byName: false) }
    let result = execute(bound, since, byName: true)
    guard case .failure(let error) = result, error.mayBeStalePreparation || error.isKnownPreparation, connection != nil
    else { return result }
    preparations.isOfNoUse(bound.statement, error)
    if preparations.count(error, for: bound.statement) { log.warning("\(Preparations.advice)") }
    return execute(bound, since, byName: false)
  }

  private mutating func execute(
    _ bound: BoundStatement, _ since: UInt64, byName: Bool
  ) -> QueryResult {
    let (statement, parameters) = (bound.statement, bound.parameters)
    do throws(PostgresError) {
      let connection = try connection(preparedFor: byName ? statement : nil, since)
      let began = MonotonicClock.now
      let limit = limit(for: statement, since: since)
      // A write goes on to its end: its outcome is what is asked for with its key.
      let result = connection.whileThere(statement.isReadOnly ? client : nil) {
        if let limit {
          connection.execute(statement, as: byName ? preparations.name(of: statement) : nil, parameters, within: limit)
        } else if byName {
          connection.execute(statement, as: preparations.name(of: statement), parameters)
        } else {
          connection.executeUnprepared(statement, parameters)
        }
      }
      guard let result else {
        if !connection.isAlive { self.connection = nil }
        return .failure(.cancelled)
      }
      guard case .failure(let error) = result else { return result }
      if case .connectionLost = error { self.connection = nil }
      return .failure(
        error.isCancellation ? judged(error, after: MonotonicClock.now - began, limit, on: connection) : error)
    } catch {
      return .failure(error)
    }
  }

  /// A statement that was given up before its time limit was given up because somebody has asked for that. The session is asked for its
  /// limit only now: this is rare.
  private func judged(
    _ error: PostgresError, after nanoseconds: UInt64, _ limit: Int?, on connection: Connection
  ) -> PostgresError {
    guard let rows = try? connection.execute(SessionSettings.timeLimitQuery), rows.rowCount > 0 else { return error }
    let session = UInt64(clamping: rows.integer(0, 0))
    guard let limit else { return error.judged(after: nanoseconds, limit: session) }
    // The shorter of the two held.
    return error.judged(after: nanoseconds, limit: min(UInt64(max(1, limit)), session == 0 ? .max : session))
  }

  /// A connection that knows a statement; `unavailable` if there is none, or it is gone before the statement itself was sent.
  private mutating func connection(
    preparedFor statement: Statement?, _ since: UInt64
  ) throws(PostgresError) -> Connection {
    // Its end may have come behind the last answer.
    if let connection, !connection.isAlive { self.connection = nil }
    connectIfNeeded()
    guard let connection else { throw lastError }
    guard let statement, !preparations.knows(statement) else { return connection }
    if let former = preparations.prepare(statement) { connection.deallocate(former) }
    do throws(PostgresError) {
      let name = preparations.name(of: statement)
      let limit = limit(for: statement, since: since)
      // It waits, too, where a table is locked.
      let result: Result<Void, PostgresError>? = connection.whileThere(statement.isReadOnly ? client : nil) {
        Result { () throws(PostgresError) in
          if let limit {
            try connection.prepare(statement, as: name, within: limit)
          } else {
            try connection.prepare(statement, as: name)
          }
        }
      }
      try (result ?? .failure(.cancelled)).get()
    } catch {
      // It is known already, by its name and so its text.
      if error.isKnownPreparation { return connection }
      preparations.couldNotPrepare(statement)
      if case .connectionLost = error { self.connection = nil }
      if !connection.isAlive { self.connection = nil }
      throw error.beforeSending
    }
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
