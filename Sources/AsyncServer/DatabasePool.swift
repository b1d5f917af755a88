// The loop's database connections, and the queue in front of them.

import DequeModule
import EventLoop
import Logging
import Platform
import Postgres
import Shop

/// An operation on its way to the database and back.
///
/// Unchecked Sendable: made and used on its loop's thread only.
final class Query: @unchecked Sendable {
  let operation: Operation
  var result: Result<ResultSet, PostgresError> = .failure(.cancelled)
  /// Who waits for the result.
  private var waiter: UnsafeContinuation<Void, Never>?
  /// Whether a connection has it: then it can't be taken back.
  var isSent = false
  var isRepeated = false

  init(_ operation: Operation) { self.operation = operation }

  func wait(_ start: () -> Void) async {
    await withUnsafeContinuation {
      waiter = $0
      start()
    }
  }

  /// Nobody waits any more.
  var isAbandoned: Bool { waiter == nil }

  func complete(_ result: Result<ResultSet, PostgresError>) {
    guard let waiter else { return }
    self.waiter = nil
    self.result = result
    waiter.resume()
  }
}

/// Takes operations from all client connections, gathers them for a turn of the loop, and spreads them over pipelines.
///
/// Unchecked Sendable: made and used on its loop's thread only.
final class DatabasePool: @unchecked Sendable {
  private(set) var connections: [DatabaseConnection] = []
  private let configuration: AsyncConfiguration
  private let loop: EventLoop
  private var queue: Deque<Query> = []
  /// Up to how many statements on its way a connection counts as keeping up.
  private static let keepsUp = 16
  private(set) var lastError = PostgresError.unavailable("not connected yet")

  init(_ configuration: AsyncConfiguration, loop: EventLoop, log: Logger) {
    self.configuration = configuration
    self.loop = loop
    connections = (0..<configuration.databaseConnections).map { _ in
      DatabaseConnection(configuration, loop: loop, pool: self, log: log)
    }
    loop.atEndOfTurn { [unowned self] in self.dispatch() }
  }

  /// Executes an operation. If the client hangs up before it was sent, it is dropped; after that its answer is let run dry.
  func execute(_ operation: Operation, for client: Watch) async -> Result<ResultSet, PostgresError> {
    if client.isHungUp { return .failure(.cancelled) }
    guard connections.contains(where: \.isReady) else { return .failure(lastError) }
    guard queue.count < configuration.queueLimit else { return .failure(.queueFull) }
    let query = Query(operation)
    client.onHangUp = { if !query.isSent { query.complete(.failure(.cancelled)) } }
    await query.wait { queue.append(query) }
    client.onHangUp = nil
    return query.result
  }

  /// At the end of each turn: what was asked in it goes out together.
  private func dispatch() {
    while let query = queue.first {
      let connection = query.isAbandoned ? nil : choose(for: query.operation.statement)
      if connection == nil, !query.isAbandoned { break }
      queue.removeFirst()
      connection?.send(query)
    }
    for connection in connections { connection.endOfTurn() }
  }

  /// Reads stay on half of the connections while those keep up: the fewer servers wake up for light reads, the less each
  /// costs. Writes wait for their commit and go to all.
  private func choose(for statement: Statement) -> DatabaseConnection? {
    let half = connections[..<((connections.count + 1) / 2)]
    if statement.isReadOnly, let few = leastBusy(of: half), few.depth < Self.keepsUp { return few }
    return leastBusy(of: connections[...])
  }

  /// The ready connection with the fewest statements on their way; nil if all are full.
  private func leastBusy(of connections: ArraySlice<DatabaseConnection>) -> DatabaseConnection? {
    var best: DatabaseConnection?
    for connection in connections where connection.isReady && connection.depth < configuration.pipelineDepth {
      if best.map({ connection.depth < $0.depth }) ?? true { best = connection }
    }
    return best
  }

  /// A connection has broken: reads that were not answered are sent again, once; of a write nobody knows what became.
  func failed(_ queries: some Sequence<Query>, _ error: PostgresError) {
    lastError = error.beforeSending
    let canRepeat = connections.contains(where: \.isReady)
    for query in queries {
      if canRepeat, query.operation.statement.isReadOnly, !query.isRepeated {
        sendAgain(query)
      } else {
        query.complete(.failure(error))
      }
    }
    if !canRepeat {
      for query in queue { query.complete(.failure(lastError)) }
      queue.removeAll()
    }
  }

  /// Puts a read that has not been executed back to the front of the queue.
  func sendAgain(_ query: Query) {
    query.isRepeated = true
    query.isSent = false
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
