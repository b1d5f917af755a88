// The worker's side of the scoreboard.

import CGI
import Glibc
import Platform
import Synchronization

/// A worker's own slot: the only thing of the scoreboard that it writes, but for the pool's rare counters.
package struct WorkerSlot {
  private let slot: UnsafeMutablePointer<Scoreboard.Slot>
  private let header: UnsafeMutablePointer<Scoreboard.Header>
  package private(set) var requests: UInt64 = 0
  private var connections: UInt64 = 0
  /// When the connection was accepted, the database asked, and its last answer there, in monotonic nanoseconds; 0: not yet.
  package private(set) var began: UInt64 = 0
  package private(set) var databaseBegan: UInt64 = 0
  package private(set) var databaseEnded: UInt64 = 0
  private var hadDatabase = false
  package private(set) var phases = Phases()
  /// When the last answer had gone, in monotonic nanoseconds.
  package private(set) var lastAnswer: UInt64 = 0
  /// How long before the last connection the answer before it had gone, in nanoseconds.
  package private(set) var timeBefore: UInt64 = 0

  /// What takes no longer, in nanoseconds, was there already.
  package static let immediately: UInt64 = 10_000
  /// Since when there has always been a connection waiting.
  private var busySince: UInt64 = 0

  /// Whether the request may have waited to be accepted for longer than that, in nanoseconds.
  package func mayHaveWaited(longerThan limit: UInt64) -> Bool { began - busySince > limit }

  /// How long the last request was in each phase, in nanoseconds.
  package struct Phases {
    package var reading: UInt64 = 0
    package var database: UInt64 = 0
    package var writing: UInt64 = 0
    package var total: UInt64 { reading + database + writing }
  }

  package init(_ scoreboard: Scoreboard, _ index: Int) {
    slot = scoreboard.slot(index)
    header = scoreboard.header
    slot.pointee.process.store(getpid(), ordering: .relaxed)
  }

  private func enter(_ state: WorkerState, _ now: UInt64) {
    slot.pointee.since.store(now, ordering: .relaxed)
    slot.pointee.state.store(state.rawValue, ordering: .releasing)
  }

  /// Whether it can ask the database.
  package mutating func hasDatabase(_ has: Bool) {
    guard has != hadDatabase else { return }
    hadDatabase = has
    slot.pointee.database.store(has ? 1 : 0, ordering: .relaxed)
  }

  package func isReady() { enter(.idle, MonotonicClock.now) }
  package func isDraining() { enter(.draining, MonotonicClock.now) }

  /// A connection was accepted; whether its worker had to wait for it.
  package mutating func accepted(afterBlocking hasBlocked: Bool) {
    began = MonotonicClock.now
    timeBefore = began - lastAnswer
    if hasBlocked { busySince = began }
    connections &+= 1
    slot.pointee.counters.connections.store(connections, ordering: .relaxed)
    slot.pointee.requestStarted.store(began, ordering: .relaxed)
    slot.pointee.underWay.store(began, ordering: .releasing)
    enter(.reading, began)
  }

  /// Nothing came over it.
  package mutating func cameToNothing() {
    endRequest()
    enter(.idle, MonotonicClock.now)
  }

  /// Whether the master has given the last request up: then there must be no other.
  package private(set) var isGivenUp = false

  private mutating func endRequest() {
    if slot.pointee.underWay.exchange(0, ordering: .acquiringAndReleasing) == Scoreboard.givenUp { isGivenUp = true }
  }

  /// The request is in, and the database is asked; perhaps not for the first time.
  package mutating func asksDatabase() {
    guard databaseBegan == 0 else { return }
    databaseBegan = MonotonicClock.now
    enter(.database, databaseBegan)
  }

  package mutating func hasDatabasesAnswer() { databaseEnded = MonotonicClock.now }

  /// The answer goes out. How long it took to make.
  package mutating func writes() -> Response.Timing {
    let now = MonotonicClock.now
    let database = databaseBegan == 0 ? 0 : (databaseEnded > 0 ? databaseEnded : now) - databaseBegan
    phases = Phases(reading: (databaseBegan > 0 ? databaseBegan : now) - began, database: database)
    enter(.writing, now)
    return Response.Timing(database: database, application: now - began - database)
  }

  /// The answer has gone.
  package mutating func answered() {
    endRequest()
    let now = MonotonicClock.now
    lastAnswer = now
    let duration = now - began
    phases.writing = duration - phases.reading - phases.database
    (databaseBegan, databaseEnded) = (0, 0)
    requests &+= 1
    slot.pointee.counters.requests.store(requests, ordering: .relaxed)
    slot.pointee.lastDuration.store(duration, ordering: .relaxed)
    slot.pointee.counters.database.store(
      slot.pointee.counters.database.load(ordering: .relaxed) &+ phases.database, ordering: .relaxed)
    slot.pointee.counters.add(duration)
    enter(.idle, now)
  }

  /// Shows which request it is.
  package func shows(method: String, path: Span<UInt8>, requestID: Span<UInt8>) {
    let version = slot.pointee.version.load(ordering: .relaxed)
    slot.pointee.version.store(version &+ 1, ordering: .relaxed)
    atomicMemoryFence(ordering: .releasing)
    write(method.utf8.span, first: 0, length: Scoreboard.methodLength)
    write(path, first: 1, length: Scoreboard.pathLength)
    write(requestID, first: 16, length: Scoreboard.idLength)
    slot.pointee.described.store(began, ordering: .relaxed)
    slot.pointee.version.store(version &+ 2, ordering: .releasing)
  }

  /// Writes a text of at most `length` bytes from a word on, and a zero behind it where there is space.
  private func write(_ text: Span<UInt8>, first: Int, length: Int) {
    text.withUnsafeBytes { bytes in
      let count = min(bytes.count, length)
      var (at, index) = (0, first)
      while at + 8 <= count {
        slot.pointee.text[index].store(bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self), ordering: .relaxed)
        (at, index) = (at + 8, index + 1)
      }
      guard at < length else { return }
      var rest: UInt64 = 0
      withUnsafeMutableBytes(of: &rest) { $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[at..<count])) }
      slot.pointee.text[index].store(rest, ordering: .relaxed)
    }
  }

  // MARK: For workers that serve many requests at a time

  package mutating func countConnection() {
    connections &+= 1
    slot.pointee.counters.connections.store(connections, ordering: .relaxed)
  }

  /// A turn of its loop has begun.
  package func turnBegan(at now: UInt64) { slot.pointee.lastTurn.store(now, ordering: .relaxed) }

  package func hasOpen(_ count: Int) { slot.pointee.open.store(UInt64(count), ordering: .relaxed) }

  /// A request was answered, after this many nanoseconds.
  package mutating func countRequest(_ duration: UInt64) {
    requests &+= 1
    slot.pointee.counters.requests.store(requests, ordering: .relaxed)
    slot.pointee.lastDuration.store(duration, ordering: .relaxed)
    slot.pointee.counters.add(duration)
  }

  package func countGone() { header.pointee.gone.wrappingAdd(1, ordering: .relaxed) }
  package func countShed() { header.pointee.shed.wrappingAdd(1, ordering: .relaxed) }
  package func countSlow() { header.pointee.slowRequests.wrappingAdd(1, ordering: .relaxed) }
  package func countRecycled() { header.pointee.recycled.wrappingAdd(1, ordering: .relaxed) }
}
