// The loop's database connections, the queue in front of them, and who shares what.

import CGI
import EventLoop
import Logging
import Platform
import Postgres
import Shop

/// Takes operations from all client connections, gathers them for a turn of the loop, and spreads them over pipelines.
///
/// Unchecked Sendable: made and used on its loop's thread only.
final class DatabasePool: @unchecked Sendable {
  private(set) var connections: [DatabaseConnection] = []
  private let configuration: AsyncConfiguration
  private let loop: EventLoop
  private let shop: Shop
  private var queue = QueryQueue()
  /// Those whose statements are slow, or unknown: nothing is to be put behind them, and the others pass them.
  private var slowQueue = QueryQueue()
  private var times = StatementTimes()
  private var reads = SharedReads()
  /// How many connections light reads keep to at first.
  private static let readers = 2
  /// Up to how many statements on its way a connection counts as keeping up.
  private static let keepsUp = 16
  private(set) var counters = Counters()
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

  /// `shop` makes answers of what comes back.
  init(_ configuration: AsyncConfiguration, shop: Shop, loop: EventLoop, log: Logger) {
    self.configuration = configuration
    self.shop = shop
    self.loop = loop
    connections = (0..<configuration.databaseConnections).map { _ in
      DatabaseConnection(configuration, loop: loop, pool: self, log: log)
    }
    loop.atEndOfTurn { [unowned self] in self.dispatch() }
  }

  /// Has an operation executed and the request told of the answer, unless it is refused, which is an answer at once. If the
  /// request is abandoned before the operation was sent, that is dropped, and there is no answer; after that the answer is let
  /// run dry.
  func execute(_ operation: Operation, for request: RequestUnderWay) {
    if let refusal = refusal(of: operation.statement) {
      counters.refused += 1
      request.response = shop.refuse(operation, refusal)
      return
    }
    let query = query(for: operation)
    if !query.isAbandoned { counters.shared += 1 }
    query.add(request)
  }

  private func refusal(of statement: Statement) -> PostgresError? {
    guard connections.contains(where: \.isReady) else { return lastError }
    // However many wait for slow ones, fast ones may come.
    let hasRoom =
      times.isSlow(statement)
      ? slowQueue.hasRoom(limit: configuration.queueLimit) : queue.hasRoom(limit: configuration.queueLimit)
    return hasRoom ? nil : .queueFull
  }

  /// The query that will answer an operation: one that is waiting already and asks for the same, or a new one.
  private func query(for operation: Operation) -> Query {
    guard configuration.sharesReads, operation.statement.isReadOnly else {
      let query = Query(operation)
      queue.append(query)
      return query
    }
    let (query, mayStart) = reads.query(for: operation, most: concurrency(of: operation.statement))
    if mayStart { queue.append(query) }
    return query
  }

  /// How often the same read may run at a time. A second run of a light one costs the database little, and few clients, who would
  /// wait for the first and then all come at once, are answered more evenly: a tenth more of them at 4 and 16 connections. Of
  /// one that costs more, one run at a time serves a tenth more.
  private func concurrency(of statement: Statement) -> Int { times.isLight(statement) ? 2 : 1 }

  /// What came of a query. An equal one that has waited for it can start now.
  func complete(_ query: Query, _ result: Result<ResultSet, PostgresError>) {
    if let next = reads.ended(query, most: concurrency(of: query.operation.statement)) { queue.append(next) }
    guard !query.isAbandoned else {
      counters.abandoned += 1
      return
    }
    switch shop.finish(query.operation, result) {
    case .respond(let response):
      note(query.operation, response)
      query.answer(response)
    case .query(let operation):
      query.continues(with: operation)
      queue.append(query)
    }
  }

  private func note(_ operation: Operation, _ response: Response) {
    work.answers += 1
    if response.body.count >= work.largest {
      work.largest = response.body.count
      work.largestName = operation.statement.name
    }
  }

  var queueLength: Int { queue.count }
  var slowQueueLength: Int { slowQueue.count }
  var queueLimit: Int { configuration.queueLimit }

  /// At the end of each turn: what was asked in it goes out together.
  private func dispatch() {
    lastWork = work
    work = Work()
    var waiting: Int
    repeat {
      dispatchFast()
      waiting = queue.count
      dispatchSlow()
      // Where nobody wants a slow one any more, an equal one may have waited for its end.
    } while queue.count > waiting
    for connection in connections { connection.endOfTurn() }
  }

  private func dispatchFast() {
    while let query = queue.first {
      if query.isAbandoned {
        queue.removeFirst()
        complete(query, .failure(.cancelled))
      } else if times.isSlow(query.operation.statement) {
        queue.removeFirst()
        slowQueue.append(query)
      } else if let connection = choose(for: query.operation.statement) {
        queue.removeFirst()
        counters.statements += 1
        connection.send(query)
      } else {
        break
      }
    }
  }

  private func dispatchSlow() {
    while let query = slowQueue.first {
      if query.isAbandoned {
        slowQueue.removeFirst()
        complete(query, .failure(.cancelled))
      } else if let connection = chooseForSlow() {
        slowQueue.removeFirst()
        counters.statements += 1
        connection.send(query, isSlow: true)
      } else {
        break
      }
    }
  }

  /// Reads stay on the first two connections while those keep up, then on the first half while there is room: the fewer servers
  /// wake up for light reads, the less each costs, and more at work than there are processors only get into each other's way.
  /// Writes wait for their commit and go to all.
  ///
  /// Nothing is put behind a statement that is slow, or has run for a while: it waits here for the first connection that moves.
  private func choose(for statement: Statement) -> DatabaseConnection? {
    if statement.isReadOnly {
      if let few = leastBusy(of: connections.prefix(Self.readers)), few.depth < Self.keepsUp { return few }
      if let half = leastBusy(of: connections.prefix(max(Self.readers, connections.count / 2))) { return half }
    }
    return leastBusy(of: connections[...])
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
  private func chooseForSlow() -> DatabaseConnection? {
    connections.reversed().filter { $0.isReady && !$0.isHeldUp(loop.now) }.min { $0.depth < $1.depth }
  }

  /// What a connection has found out about its statements.
  func note(_ statements: [Statement], took nanoseconds: UInt64) { times.note(statements, took: nanoseconds) }

  /// A connection has broken: reads that were not answered are sent again, once; of a write nobody knows what became.
  func failed(_ queries: some Sequence<Query>, _ error: PostgresError) {
    lastError = error.beforeSending
    let canRepeat = connections.contains(where: \.isReady)
    for query in queries {
      if canRepeat, query.operation.statement.isReadOnly, !query.isRepeated {
        sendAgain(query)
      } else {
        complete(query, .failure(error))
      }
    }
    if !canRepeat {
      while let query = queue.popFirst() ?? slowQueue.popFirst() { complete(query, .failure(lastError)) }
    }
  }

  /// Puts a query that has not been executed, or only read, back to the front of the queue.
  func sendAgain(_ query: Query, stale: Bool = false) {
    counters.repeated += 1
    query.repeats(stale: stale)
    queue.prepend(query)
  }

  func couldNotConnect(_ error: PostgresError) { lastError = error.beforeSending }

  /// Waits until every connection has been tried once, so that the first request finds one if there is one to be had.
  func firstAttempts(unless isOver: () -> Bool) async {
    while !isOver(), connections.contains(where: { !$0.hasTried }) { await loop.sleep(.milliseconds(2)) }
  }

  func enforceTimeLimits(_ now: UInt64) {
    for connection in connections { connection.enforceTimeLimits(now) }
  }
}
