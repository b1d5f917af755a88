// An attempt to connect to the database: place after place, each within its time.

import EventLoop
import Platform
import Postgres

/// One walk, or two, through all places.
final class ConnectionAttempt {
  private let loop: EventLoop
  private var watch: Watch?
  /// When the place is given up, in monotonic nanoseconds.
  private var deadline = UInt64.max

  private enum Outcome {
    case connected(Connection)
    /// By libpq, which has been through the rest of the list, or knows that it is of no use.
    case failed(String)
    /// The place has had its time.
    case silent
  }

  init(loop: EventLoop) { self.loop = loop }

  func connect(to info: ConnectionInfo, _ options: Connection.Options) async throws(PostgresError) -> Connection {
    let plan = try await lookedUp(ConnectionPlan(info, options))
    var failures: [String] = []
    for walk in plan.walks.indices {
      failures = []
      var place = 0
      repeat {
        switch try await step(through: plan, walk: walk, from: &place) {
        case .connected(let connection): return connection
        case .failed(let why):
          failures.append(why)
          place = plan.places.count
        case .silent:
          failures.append("no connection within \(plan.limit ?? 0) s to \(plan.name(of: place))")
          place += 1
        }
      } while place < plan.places.count
    }
    throw .unavailable(failures.joined(separator: ", "))
  }

  /// With the names looked up: anew each time, they may have moved. On a thread of the runtime's own, since the resolver makes its
  /// caller wait.
  private func lookedUp(_ plan: ConnectionPlan) async throws(PostgresError) -> ConnectionPlan {
    guard plan.needsResolver else { return plan }
    return try await withTaskExecutorPreference(globalConcurrentExecutor) {
      Result { () throws(PostgresError) in try plan.resolved() }
    }.get()
  }

  private func step(
    through plan: ConnectionPlan, walk: Int, from place: inout Int
  ) async throws(PostgresError) -> Outcome {
    defer {
      watch?.cancel()
      watch = nil
      deadline = .max
    }
    let connection = try plan.startConnecting(walk: walk, from: place)
    var wait = Connection.Wait.writable
    deadline = end(of: plan)
    while true {
      let now = plan.index(of: connection, from: place)
      if now != place { deadline = end(of: plan) }
      place = now
      // libpq has none when it has given up by itself.
      guard connection.socket >= 0 else { return .failed(connection.failure) }
      try await self.wait(for: wait, of: connection)
      if MonotonicClock.now > deadline { return .silent }
      switch connection.connectStep() {
      case .wait(let next): wait = next
      case .failed(let why): return .failed(why)
      case .connected: return .connected(connection)
      }
    }
  }

  private func end(of plan: ConnectionPlan) -> UInt64 {
    plan.limit.map { MonotonicClock.now + UInt64($0) * 1_000_000_000 } ?? .max
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
  }

  /// To be called now and then.
  func enforceTimeLimit(_ now: UInt64) { if now > deadline { watch?.interrupt() } }
}
