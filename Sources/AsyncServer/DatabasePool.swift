// The loop's database connections, the queue in front of them, and who shares what.

import Application
import CGI
import EventLoop
import Logging
import Platform
import Postgres

/// Takes queries from all client connections, gathers them for a turn of the loop, and spreads them over pipelines.
final class DatabasePool {
  private(set) var connections: [DatabaseConnection] = []
  let configuration: AsyncConfiguration
  let loop: EventLoop
  var waiting = WaitingExecutions()
  private(set) var times = StatementTimes()
  private var reads = SharedReads()
  /// The reserved connections are the ready ones before this.
  var reservedEnd = 0
  /// How many connections' servers are being asked to give something up.
  var cancels = 0
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
    var cancelled: UInt64 = 0
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
    loop.atEndOfTurn { self.dispatch() }
  }

  /// Executes a query's statements for a request; what comes back holds their results, which are failures at once where they are
  /// refused. If the request is abandoned before a statement was sent, that is dropped; after that its result is waited for.
  func execute(_ query: Query, for request: RequestUnderWay) async -> Outcome {
    if request.isAbandoned { return Outcome(first: nil) }
    let began = loop.now
    // What has been done in part is not refused because others wait.
    let isContinued = request.execution?.result != nil
    request.wants(
      execution(of: query.first, query.sharing, isContinued, needing: isContinued ? 0 : 1 + query.others.count))
    if !query.others.isEmpty {
      // All or none: the first has been refused where there is no space for all.
      if let execution = request.execution, case .failure? = execution.result {
        return Outcome(first: execution, others: query.others.map { _ in execution })
      }
      for other in query.others { request.wantsToo(execution(of: other, query.sharing, isContinued, needing: 0)) }
    }
    while let execution = request.awaited {
      await withUnsafeContinuation { execution.resume($0, for: ObjectIdentifier(request)) }
    }
    request.databaseTime += loop.now - began
    return request.outcome
  }

  /// Whether there is a connection, or one that has just broken and is being made again.
  private var hasProspects: Bool { connections.contains { $0.isReady || $0.isReturning } }

  /// Why there can't be `count` statements more, of which this is the first; 0: as many as there are.
  private func refusal(of statement: Statement, needing count: Int) -> PostgresError? {
    guard hasProspects else { return lastError }
    if count == 0 { return nil }
    // However many wait for slow ones, fast ones may come; and however many writes wait, reads may.
    let hasRoom = waiting.hasRoom(lane(of: statement), for: statement, limit: configuration.queueLimit - (count - 1))
    return hasRoom ? nil : .queueFull
  }

  /// The execution that will answer a statement: one that is waiting already and asks for the same, or a new one.
  private func execution(
    of bound: BoundStatement, _ sharing: Query.Sharing, _ isContinued: Bool, needing count: Int
  ) -> Execution {
    if let refusal = refusal(of: bound.statement, needing: count) {
      counters.refused += 1
      return Execution(bound, failed: refusal)
    }
    let since = isContinued ? nil : loop.now
    guard configuration.sharesReads, sharing != .nothing, bound.statement.isReadOnly else {
      let execution = Execution(bound, since: since)
      enqueue(execution)
      return execution
    }
    let (execution, mayStart) = reads.execution(of: bound, most: concurrency(of: bound.statement), since: since)
    if !execution.isAbandoned { counters.shared += 1 }
    if mayStart { enqueue(execution) }
    return execution
  }

  private func enqueue(_ execution: Execution, atFront: Bool = false) {
    waiting.add(execution, to: lane(of: execution.statement), atFront: atFront)
  }

  /// How often the same read may run at a time. A second run of a light one costs the database little, and few clients, who would
  /// wait for the first and then all come at once, are answered more evenly: a tenth more of them at 4 and 16 connections. Of
  /// one that costs more, one run at a time serves a tenth more.
  private func concurrency(of statement: Statement) -> Int { times.isLight(statement) ? 2 : 1 }

  /// To make something of so many rows takes about half a millisecond: whoever waits for them goes on in a turn of its own.
  private static let manyRows = 2_000

  /// What came of an execution. An equal one that has waited for it can start now.
  func complete(_ execution: Execution, _ result: QueryResult) {
    if let next = reads.ended(execution, most: concurrency(of: execution.statement)) { enqueue(next) }
    if execution.isAbandoned { counters.abandoned += 1 }
    if case .success(let rows) = result, rows.rowCount >= Self.manyRows {
      execution.ended(result) { [loop] task in loop.inTurn { task.resume() } }
    } else {
      execution.ended(result)
    }
  }

  /// An answer has been made of what an execution has brought.
  func note(_ execution: Execution, _ response: Response) {
    work.answers += 1
    if response.body.count >= work.largest {
      work.largest = response.body.count
      work.largestName = execution.statement.name
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
  func failed(_ executions: some Sequence<Execution>, _ error: PostgresError) {
    lastError = error.beforeSending
    let isUntouched = error == lastError
    for execution in executions {
      execution.wasLost()
      if isUntouched || execution.statement.isReadOnly, execution.losses <= 2 * connections.count {
        sendAgain(execution)
      } else {
        complete(execution, .failure(error))
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
    while let execution = waiting.popAny() { complete(execution, .failure(lastError)) }
  }

  /// Puts an execution that has not been executed, or only read, back to the front of the queue.
  func sendAgain(_ execution: Execution, avoidingName: Bool = false) {
    counters.repeated += 1
    execution.repeats(avoidingName: avoidingName)
    enqueue(execution, atFront: true)
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

  /// How long an execution waits for a connection, in nanoseconds: as long as a statement before it may take, and at least as long as it
  /// may by default.
  private var longestWait: UInt64 {
    UInt64(max(configuration.options.statementTimeout, Connection.Options.defaultStatementTimeout)) * 1_000_000
  }

  func enforceTimeLimits(_ now: UInt64) {
    for connection in connections { connection.enforceTimeLimits(now) }
    guard now > longestWait else { return }
    while let execution = waiting.popFirst(wantedBefore: now - longestWait) {
      counters.refused += 1
      complete(execution, .failure(.queueFull))
    }
  }
}
