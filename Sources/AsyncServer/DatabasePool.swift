// The loop's database connections, the queue in front of them, and who shares what.

import CGI
import EventLoop
import Logging
import Orders
import Platform
import Postgres

/// Takes operations from all client connections, gathers them for a turn of the loop, and spreads them over pipelines.
final class DatabasePool {
  private(set) var connections: [DatabaseConnection] = []
  let configuration: AsyncConfiguration
  let loop: EventLoop
  var waiting = WaitingQueries()
  private(set) var times = StatementTimes()
  private var reads = SharedReads()
  /// The reserved connections are the ready ones before this.
  var reservedEnd = 0
  /// Whether somebody looks for what is held up.
  var isLookedAfter = false
  var counters = Counters()
  private var work = Work()
  /// Of the turn that ends or has ended.
  private(set) var lastWork = Work()

  /// What the pool has done since the loop began.
  struct Counters {
    var statements: UInt64 = 0
    var shared: UInt64 = 0
    var refused: UInt64 = 0
    var repeated: UInt64 = 0
    var abandoned: UInt64 = 0
  }

  /// What a turn of the loop was spent on.
  struct Work {
    var answers = 0
    /// The largest answer's body in bytes, and its statement.
    var largest = 0
    var largestName = "nothing"
  }

  private(set) var lastError = PostgresError.unavailable("not connected yet")

  init(_ configuration: AsyncConfiguration, loop: EventLoop, log: Logger) {
    self.configuration = configuration
    self.loop = loop
    connections = (0..<configuration.databaseConnections).map { _ in
      DatabaseConnection(configuration, loop: loop, pool: self, log: log)
    }
    loop.atEndOfTurn { [unowned self] in self.dispatch() }
  }

  /// Executes an operation; what comes back holds the result, which is a failure at once where it is refused. If the request is
  /// abandoned before the operation was sent, that is dropped; after that the result is waited for. Either way it is `.cancelled`.
  func execute(_ operation: Operation, for request: RequestUnderWay) async -> Query {
    for other in operation.others { _ = begin(other, for: request) }
    let query = begin(operation, for: request)
    await request.queriesEnded()
    return request.isAbandoned ? Query(operation, failed: .cancelled) : query
  }

  private func begin(_ operation: Operation, for request: RequestUnderWay) -> Query {
    // What has been done in part is not refused because others wait.
    let isContinued = request.query?.result != nil
    if let refusal = refusal(of: operation.statement, isContinued: isContinued) {
      counters.refused += 1
      return Query(operation, failed: refusal)
    }
    let query = query(for: operation, since: isContinued ? nil : loop.now)
    if !query.isAbandoned { counters.shared += 1 }
    query.add(request)
    return query
  }

  /// Whether there is a connection, or one that has just broken and is being made again.
  private var hasProspects: Bool { connections.contains { $0.isReady || $0.isReturning } }

  private func refusal(of statement: Statement, isContinued: Bool) -> PostgresError? {
    guard hasProspects else { return lastError }
    if isContinued { return nil }
    // However many wait for slow ones, fast ones may come; and however many writes wait, reads may.
    let hasRoom = waiting.hasRoom(lane(of: statement), for: statement, limit: configuration.queueLimit)
    return hasRoom ? nil : .queueFull
  }

  /// The query that will answer an operation: one that is waiting already and asks for the same, or a new one.
  private func query(for operation: Operation, since: UInt64?) -> Query {
    guard configuration.sharesReads, operation.isShareable else {
      let query = Query(operation, since: since)
      enqueue(query)
      return query
    }
    let (query, mayStart) = reads.query(for: operation, most: concurrency(of: operation.statement), since: since)
    if mayStart { enqueue(query) }
    return query
  }

  private func enqueue(_ query: Query, atFront: Bool = false) {
    waiting.add(query, to: lane(of: query.operation.statement), atFront: atFront)
  }

  /// How often the same read may run at a time. A second run of a light one costs the database little, and few clients, who would
  /// wait for the first and then all come at once, are answered more evenly: a tenth more of them at 4 and 16 connections. Of
  /// one that costs more, one run at a time serves a tenth more.
  private func concurrency(of statement: Statement) -> Int { times.isLight(statement) ? 2 : 1 }

  /// What came of a query. An equal one that has waited for it can start now.
  func complete(_ query: Query, _ result: Result<ResultSet, PostgresError>) {
    if let next = reads.ended(query, most: concurrency(of: query.operation.statement)) { enqueue(next) }
    if query.isAbandoned { counters.abandoned += 1 }
    query.ended(result, on: loop)
  }

  /// An answer has been made of what a query has brought.
  func note(_ query: Query, _ response: Response) {
    work.answers += 1
    if response.body.count >= work.largest {
      work.largest = response.body.count
      work.largestName = query.operation.statement.name
    }
  }

  var queueLength: Int { waiting.count(.reads) + waiting.count(.writes) }
  var slowQueueLength: Int { waiting.count(.slow) }
  var queueLimit: Int { configuration.queueLimit }

  /// What is told of the turn that ends is what was done in it.
  func beginNextTurn() {
    lastWork = work
    work = Work()
  }

  /// What a connection has found out about its statements.
  func note(_ statements: [Statement], took nanoseconds: UInt64) { times.note(statements, took: nanoseconds) }
  func isGivenUp(_ statement: Statement) { times.isGivenUp(statement, at: loop.now) }

  /// A connection has broken: reads that were not answered are sent again, and of a write nobody knows what became. A read may be
  /// what breaks it, and so is not sent for ever; but where all connections are ended, one after the other, it can be lost with each.
  func failed(_ queries: some Sequence<Query>, _ error: PostgresError) {
    lastError = error.beforeSending
    let isUntouched = error == lastError
    for query in queries {
      query.wasLost()
      if isUntouched || query.operation.statement.isReadOnly, query.losses <= 2 * connections.count {
        sendAgain(query)
      } else {
        complete(query, .failure(error))
      }
    }
    refuseThoseWithoutProspects()
  }

  /// An attempt to connect has failed, or nothing has come of it for too long.
  func couldNotConnect(_ error: PostgresError) {
    lastError = error.beforeSending
    refuseThoseWithoutProspects()
  }

  private func refuseThoseWithoutProspects() {
    guard !hasProspects else { return }
    while let query = waiting.popAny() { complete(query, .failure(lastError)) }
  }

  /// Puts a query that has not been executed, or only read, back to the front of the queue.
  func sendAgain(_ query: Query, avoidingName: Bool = false) {
    counters.repeated += 1
    query.repeats(avoidingName: avoidingName)
    enqueue(query, atFront: true)
  }

  /// Waits until every connection has been tried once, so that the first request finds one if there is one to be had; but not for
  /// ever: a resolver may hang, and there need be no limit to an attempt.
  func firstAttempts(unless isOver: () -> Bool) async {
    let end = MonotonicClock.now + Self.patience
    while !isOver(), connections.contains(where: { !$0.hasTried }), MonotonicClock.now < end {
      await loop.sleep(.milliseconds(2))
    }
  }

  /// For how long the first attempts are waited for, in nanoseconds.
  private static let patience: UInt64 = 5_000_000_000

  /// How long a query waits for a connection, in nanoseconds: as long as a statement before it may take, and at least as long as it
  /// may by default.
  private var longestWait: UInt64 {
    UInt64(max(configuration.options.statementTimeout, Connection.Options.defaultStatementTimeout)) * 1_000_000
  }

  func enforceTimeLimits(_ now: UInt64) {
    for connection in connections { connection.enforceTimeLimits(now) }
    guard now > longestWait else { return }
    while let query = waiting.popFirst(wantedBefore: now - longestWait) {
      counters.refused += 1
      complete(query, .failure(.queueFull))
    }
  }
}
