// What each worker is doing, in memory that the master and all workers share. A worker writes its own slot, with plain
// stores and no system call; the master reads.

import CLinux
import Glibc
import Platform
import Synchronization

/// What a worker is doing.
package enum WorkerState: UInt32, Sendable, CaseIterable {
  /// Nobody is here.
  case vacant
  /// Connects to the database.
  case starting
  case idle
  /// A request comes in, the database has it, its answer goes out.
  case reading, database, writing
  /// Finishes, and takes nothing new.
  case draining

  /// Whether a request is under way.
  package var isServing: Bool { self == .reading || self == .database || self == .writing }

  package var name: String { "\(self)" }
}

/// How long requests took, in buckets.
package enum Latency {
  /// Upper bounds in nanoseconds; the last bucket has none.
  package static let bounds: [UInt64] = [
    100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 25_000_000, 50_000_000, 100_000_000,
    250_000_000, 500_000_000, 1_000_000_000, 2_500_000_000, 5_000_000_000, 10_000_000_000, 30_000_000_000,
  ]
  static let bucketCount = 18

  static func bucket(_ nanoseconds: UInt64) -> Int {
    var index = 0
    while index < bounds.count, nanoseconds > bounds[index] { index += 1 }
    return index
  }
}

/// Counters of a worker, or of all.
package struct Totals: Equatable, Sendable {
  package var connections: UInt64 = 0
  package var requests: UInt64 = 0
  /// Nanoseconds in requests, and of those in the database.
  package var busy: UInt64 = 0
  package var database: UInt64 = 0
  package var latency = [UInt64](repeating: 0, count: Latency.bucketCount)

  package static func += (total: inout Totals, more: Totals) {
    total.connections += more.connections
    total.requests += more.requests
    total.busy += more.busy
    total.database += more.database
    for index in total.latency.indices { total.latency[index] += more.latency[index] }
  }
}

/// A worker as the scoreboard shows it.
package struct WorkerReport: Equatable, Sendable {
  package let slot: Int
  package let process: pid_t
  package let generation: Int
  package let state: WorkerState
  /// Since when it is in this state, and when it was started, in monotonic nanoseconds.
  package let since: UInt64
  package let started: UInt64
  /// When the request being served began; of the last one otherwise.
  package let requestStarted: UInt64
  package let lastDuration: UInt64
  package let totals: Totals
  package let method: String
  package let path: String
  package let requestID: String
}

/// The shared memory: a header, and a slot a worker. It outlives a re-execution of the master, which hands it on as a
/// descriptor.
package struct Scoreboard: @unchecked Sendable {
  /// Memory that is never touched costs nothing.
  package static let slotCount = 2048
  /// Changes with the layout below, so that another program's scoreboard is not misread.
  private static let magic: UInt64 = 0x666F_726B_6C6F_6F02
  private static let headerSize = 1024
  private static let slotSize = (MemoryLayout<Slot>.stride + 63) & ~63

  /// Written by the master, and now and then by a worker.
  struct Header: ~Copyable {
    let magic: Atomic<UInt64>
    /// Slots that were ever taken: those behind them have no memory yet.
    let slotsUsed: Atomic<UInt64>
    let slowRequests: Atomic<UInt64>
    let recycled: Atomic<UInt64>
    let timedOut: Atomic<UInt64>
    let shed: Atomic<UInt64>
    let crashed: Atomic<UInt64>
    let maxChildrenReached: Atomic<UInt64>
    let maxActive: Atomic<UInt64>
    let maxQueue: Atomic<UInt64>
    let reloads: Atomic<UInt64>
    /// When the pool began, in seconds since 1970.
    let startedAt: Atomic<UInt64>
    /// Of workers that have ended.
    let connections: Atomic<UInt64>
    let requests: Atomic<UInt64>
    let busy: Atomic<UInt64>
    let database: Atomic<UInt64>
    let latency: InlineArray<18, Atomic<UInt64>>
    /// Connections that were accepted since the pool began, counted as they are (and only if somebody wants to know).
    let accepted: Atomic<UInt64>
    /// The last looks at the listen queue, see `ArrivalSample`.
    let arrivals: InlineArray<64, Atomic<UInt64>>
    let arrivalsTaken: Atomic<UInt64>
  }

  /// One worker's. The text is guarded by `version`, odd while it changes.
  struct Slot: ~Copyable {
    let process: Atomic<Int32>
    let generation: Atomic<UInt32>
    let state: Atomic<UInt32>
    let version: Atomic<UInt32>
    let since: Atomic<UInt64>
    let started: Atomic<UInt64>
    let requestStarted: Atomic<UInt64>
    let lastDuration: Atomic<UInt64>
    let connections: Atomic<UInt64>
    let requests: Atomic<UInt64>
    let busy: Atomic<UInt64>
    let database: Atomic<UInt64>
    let latency: InlineArray<18, Atomic<UInt64>>
    /// Eight bytes of method, 120 of path, 64 of request id, filled up with zeros.
    let text: InlineArray<24, Atomic<UInt64>>
  }

  static let methodLength = 8
  static let pathLength = 120
  static let idLength = 64

  package let descriptor: Int32
  private let memory: UnsafeMutableRawPointer

  var header: UnsafeMutablePointer<Header> { memory.assumingMemoryBound(to: Header.self) }

  func slot(_ index: Int) -> UnsafeMutablePointer<Slot> {
    (memory + Self.headerSize + index * Self.slotSize).assumingMemoryBound(to: Slot.self)
  }

  /// A new one, or that of the program that was executed before us; nil if that has another layout.
  package init?(inherited: Int32? = nil) throws(SystemError) {
    let size = Self.headerSize + Self.slotCount * Self.slotSize
    let number: Int32
    if let inherited {
      number = inherited
      var status = stat()
      guard fstat(number, &status) == 0, status.st_size == size else { return nil }
    } else {
      number = try syscall("memfd_create") { clinux_shared_memory("forkloop-scoreboard", size) }
    }
    let address = mmap(nil, size, PROT_READ | PROT_WRITE, Int32(MAP_SHARED), number, 0)
    guard let address, address != MAP_FAILED else { throw SystemError("mmap", code: errno) }
    descriptor = number
    memory = address
    if inherited == nil {
      header.pointee.magic.store(Self.magic, ordering: .relaxed)
      header.pointee.startedAt.store(UInt64(time(nil)), ordering: .relaxed)
    }
    guard header.pointee.magic.load(ordering: .relaxed) == Self.magic else { return nil }
  }

  // MARK: The master's side

  package var vacantSlot: Int? {
    let used = slotsUsed
    let free = (0..<used).first { slot($0).pointee.state.load(ordering: .relaxed) == WorkerState.vacant.rawValue }
    return free ?? (used < Self.slotCount ? used : nil)
  }

  /// Marks a slot as taken by a worker that is about to be forked.
  package func reserve(_ index: Int, generation: Int, now: UInt64) {
    header.pointee.slotsUsed.max(UInt64(index + 1), ordering: .relaxed)
    let slot = slot(index)
    slot.pointee.generation.store(UInt32(truncatingIfNeeded: generation), ordering: .relaxed)
    slot.pointee.started.store(now, ordering: .relaxed)
    slot.pointee.since.store(now, ordering: .relaxed)
    slot.pointee.state.store(WorkerState.starting.rawValue, ordering: .releasing)
  }

  package func setProcess(_ process: pid_t, of index: Int) {
    slot(index).pointee.process.store(process, ordering: .releasing)
  }

  /// Adds a gone worker's counters to those of the pool, and empties its slot.
  package func vacate(_ index: Int) {
    let totals = totals(slot(index))
    let (slot, header) = (slot(index), header)
    header.pointee.connections.wrappingAdd(totals.connections, ordering: .relaxed)
    header.pointee.requests.wrappingAdd(totals.requests, ordering: .relaxed)
    header.pointee.busy.wrappingAdd(totals.busy, ordering: .relaxed)
    header.pointee.database.wrappingAdd(totals.database, ordering: .relaxed)
    for bucket in 0..<Latency.bucketCount {
      header.pointee.latency[bucket].wrappingAdd(totals.latency[bucket], ordering: .relaxed)
    }
    (memory + Self.headerSize + index * Self.slotSize).initializeMemory(
      as: UInt8.self, repeating: 0, count: Self.slotSize)
    slot.pointee.state.store(WorkerState.vacant.rawValue, ordering: .releasing)
  }

  /// All workers, the totals of those that have ended not among them.
  package func reports() -> [WorkerReport] { (0..<slotsUsed).compactMap(report) }

  private var slotsUsed: Int { min(Int(header.pointee.slotsUsed.load(ordering: .relaxed)), Self.slotCount) }

  package func report(_ index: Int) -> WorkerReport? {
    let slot = slot(index)
    let raw = slot.pointee.state.load(ordering: .acquiring)
    guard let state = WorkerState(rawValue: raw), state != .vacant else { return nil }
    let text = text(slot)
    return WorkerReport(
      slot: index, process: slot.pointee.process.load(ordering: .relaxed),
      generation: Int(slot.pointee.generation.load(ordering: .relaxed)), state: state,
      since: slot.pointee.since.load(ordering: .relaxed), started: slot.pointee.started.load(ordering: .relaxed),
      requestStarted: slot.pointee.requestStarted.load(ordering: .relaxed),
      lastDuration: slot.pointee.lastDuration.load(ordering: .relaxed), totals: totals(slot),
      method: Self.string(text, 0, Self.methodLength), path: Self.string(text, Self.methodLength, Self.pathLength),
      requestID: Self.string(text, Self.methodLength + Self.pathLength, Self.idLength))
  }

  /// The state and its age alone, without the text: what the master looks at many times a second.
  func state(_ index: Int) -> (state: WorkerState, since: UInt64, requestStarted: UInt64) {
    let slot = slot(index)
    let state = WorkerState(rawValue: slot.pointee.state.load(ordering: .acquiring)) ?? .vacant
    return (
      state, slot.pointee.since.load(ordering: .relaxed), slot.pointee.requestStarted.load(ordering: .relaxed)
    )
  }

  /// The pool's totals: of those that have ended and of those that are there.
  package func poolTotals() -> Totals {
    var totals = Totals()
    totals.connections = header.pointee.connections.load(ordering: .relaxed)
    totals.requests = header.pointee.requests.load(ordering: .relaxed)
    totals.busy = header.pointee.busy.load(ordering: .relaxed)
    totals.database = header.pointee.database.load(ordering: .relaxed)
    for bucket in 0..<Latency.bucketCount {
      totals.latency[bucket] = header.pointee.latency[bucket].load(ordering: .relaxed)
    }
    for index in 0..<slotsUsed where state(index).state != .vacant { totals += self.totals(slot(index)) }
    return totals
  }

  private func totals(_ slot: UnsafeMutablePointer<Slot>) -> Totals {
    var totals = Totals()
    totals.connections = slot.pointee.connections.load(ordering: .relaxed)
    totals.requests = slot.pointee.requests.load(ordering: .relaxed)
    totals.busy = slot.pointee.busy.load(ordering: .relaxed)
    totals.database = slot.pointee.database.load(ordering: .relaxed)
    for bucket in 0..<Latency.bucketCount {
      totals.latency[bucket] = slot.pointee.latency[bucket].load(ordering: .relaxed)
    }
    return totals
  }

  /// The text, read again while it changes under our eyes; as it is after a few attempts (the worker may be stopped in
  /// the middle of it for ever).
  private func text(_ slot: UnsafeMutablePointer<Slot>) -> [UInt8] {
    var bytes: [UInt8] = []
    for _ in 0..<8 {
      let before = slot.pointee.version.load(ordering: .acquiring)
      bytes.removeAll(keepingCapacity: true)
      for index in 0..<24 {
        withUnsafeBytes(of: slot.pointee.text[index].load(ordering: .relaxed)) { bytes.append(contentsOf: $0) }
      }
      atomicMemoryFence(ordering: .acquiring)
      if before & 1 == 0, slot.pointee.version.load(ordering: .relaxed) == before { break }
    }
    return bytes
  }

  private static func string(_ bytes: [UInt8], _ start: Int, _ length: Int) -> String {
    String(decoding: bytes[start..<start + length].prefix { $0 != 0 }, as: UTF8.self)
  }
}

/// How many connections had come at a moment: those accepted and those in the queue. The queue is first in, first out, so
/// that the n-th to be accepted had come by the first moment at which n had; which is how a worker knows for how long a
/// connection has waited, although the kernel does not say. One word, so that it is read whole: milliseconds on the
/// monotonic clock and the count, 32 bits each, both going round.
struct ArrivalSample {
  let milliseconds: UInt32
  let count: UInt32

  init(now: UInt64, count: UInt64) {
    milliseconds = UInt32(truncatingIfNeeded: now / 1_000_000)
    self.count = UInt32(truncatingIfNeeded: count)
  }

  init(word: UInt64) {
    milliseconds = UInt32(truncatingIfNeeded: word >> 32)
    count = UInt32(truncatingIfNeeded: word)
  }

  var word: UInt64 { UInt64(milliseconds) << 32 | UInt64(count) }
}

extension Scoreboard {
  /// How many looks are kept.
  static let sampleCount = 64

  /// Takes a look at the queue. What was accepted is read before what waits: a connection that is accepted in between is
  /// missed and seems younger than it is, never older.
  package func sampleArrivals(now: UInt64, waiting: () -> Int) {
    let accepted = header.pointee.accepted.load(ordering: .acquiring)
    let sample = ArrivalSample(now: now, count: accepted &+ UInt64(waiting()))
    let index = header.pointee.arrivalsTaken.load(ordering: .relaxed)
    header.pointee.arrivals[Int(index % UInt64(Self.sampleCount))].store(sample.word, ordering: .releasing)
    header.pointee.arrivalsTaken.store(index &+ 1, ordering: .releasing)
  }

  /// Counts a connection that was just accepted; whether it has waited for longer than `limit` nanoseconds.
  package func acceptedOneThatWaited(longerThan limit: UInt64, now: UInt64) -> Bool {
    let number = UInt32(
      truncatingIfNeeded: header.pointee.accepted.wrappingAdd(1, ordering: .acquiringAndReleasing).newValue)
    let taken = header.pointee.arrivalsTaken.load(ordering: .acquiring)
    let (milliseconds, limit) = (UInt32(truncatingIfNeeded: now / 1_000_000), limit / 1_000_000)
    for index in 0..<min(Int(taken), Self.sampleCount) {
      let sample = ArrivalSample(word: header.pointee.arrivals[index].load(ordering: .relaxed))
      let age = UInt64(milliseconds &- sample.milliseconds)
      // Half a round away would be the future.
      guard age > limit, age < 1 << 31 else { continue }
      if Int32(bitPattern: sample.count &- number) >= 0 { return true }
    }
    return false
  }
}

/// A worker's own slot: the only thing of the scoreboard that it writes, but for the pool's rare counters.
struct WorkerSlot {
  private let slot: UnsafeMutablePointer<Scoreboard.Slot>
  private let header: UnsafeMutablePointer<Scoreboard.Header>
  private(set) var requests: UInt64 = 0
  private var connections: UInt64 = 0
  private var began: UInt64 = 0
  private var databaseBegan: UInt64 = 0
  private(set) var phases = Phases()
  /// When the last answer had gone, in monotonic nanoseconds.
  private(set) var lastAnswer: UInt64 = 0

  /// How long the last request was in each phase, in nanoseconds.
  struct Phases {
    var reading: UInt64 = 0
    var database: UInt64 = 0
    var writing: UInt64 = 0
    var total: UInt64 { reading + database + writing }
  }

  init(_ scoreboard: Scoreboard, _ index: Int) {
    slot = scoreboard.slot(index)
    header = scoreboard.header
    slot.pointee.process.store(getpid(), ordering: .relaxed)
  }

  private func enter(_ state: WorkerState, _ now: UInt64) {
    slot.pointee.since.store(now, ordering: .relaxed)
    slot.pointee.state.store(state.rawValue, ordering: .releasing)
  }

  func isReady() { enter(.idle, MonotonicClock.now) }
  func isDraining() { enter(.draining, MonotonicClock.now) }

  /// A connection was accepted.
  mutating func accepted() {
    began = MonotonicClock.now
    connections &+= 1
    slot.pointee.connections.store(connections, ordering: .relaxed)
    slot.pointee.requestStarted.store(began, ordering: .relaxed)
    enter(.reading, began)
  }

  /// Nothing came over it.
  func cameToNothing() { enter(.idle, MonotonicClock.now) }

  /// The request is in, and the database is asked.
  mutating func asksDatabase() {
    databaseBegan = MonotonicClock.now
    enter(.database, databaseBegan)
  }

  /// The answer goes out.
  mutating func writes() {
    let now = MonotonicClock.now
    phases = Phases(
      reading: (databaseBegan > 0 ? databaseBegan : now) - began, database: databaseBegan > 0 ? now - databaseBegan : 0)
    enter(.writing, now)
  }

  /// The answer has gone.
  mutating func answered() {
    let now = MonotonicClock.now
    lastAnswer = now
    let duration = now - began
    phases.writing = duration - phases.reading - phases.database
    databaseBegan = 0
    requests &+= 1
    slot.pointee.requests.store(requests, ordering: .relaxed)
    slot.pointee.lastDuration.store(duration, ordering: .relaxed)
    slot.pointee.busy.store(slot.pointee.busy.load(ordering: .relaxed) &+ duration, ordering: .relaxed)
    slot.pointee.database.store(slot.pointee.database.load(ordering: .relaxed) &+ phases.database, ordering: .relaxed)
    let bucket = Latency.bucket(duration)
    slot.pointee.latency[bucket].store(
      slot.pointee.latency[bucket].load(ordering: .relaxed) &+ 1, ordering: .relaxed)
    enter(.idle, now)
  }

  /// Shows which request it is.
  func shows(method: String, path: Span<UInt8>, requestID: Span<UInt8>) {
    let version = slot.pointee.version.load(ordering: .relaxed)
    slot.pointee.version.store(version &+ 1, ordering: .relaxed)
    atomicMemoryFence(ordering: .releasing)
    write(method.utf8.span, first: 0, length: Scoreboard.methodLength)
    write(path, first: 1, length: Scoreboard.pathLength)
    write(requestID, first: 16, length: Scoreboard.idLength)
    slot.pointee.version.store(version &+ 2, ordering: .releasing)
  }

  private func write(_ text: Span<UInt8>, first: Int, length: Int) {
    var at = 0
    for index in first..<first + length / 8 {
      var word: UInt64 = 0
      let end = min(at + 8, text.count)
      var shift: UInt64 = 0
      while at < end {
        word |= UInt64(text[at]) << shift
        shift += 8
        at += 1
      }
      slot.pointee.text[index].store(word, ordering: .relaxed)
    }
  }

  func countShed() { header.pointee.shed.wrappingAdd(1, ordering: .relaxed) }
  func countSlow() { header.pointee.slowRequests.wrappingAdd(1, ordering: .relaxed) }
  func countRecycled() { header.pointee.recycled.wrappingAdd(1, ordering: .relaxed) }
}
