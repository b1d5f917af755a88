// What each worker is doing, in memory that the master and all workers share. A worker writes its own slot, with plain
// stores and no system call; the master reads.

import CLinux
import Glibc
import Platform
import Synchronization

/// The shared memory: a header, and a slot a worker. It outlives a re-execution of the master, which hands it on as a
/// descriptor.
///
/// Unchecked Sendable: a pointer to memory in which every field is atomic, and which is never unmapped.
package struct Scoreboard: @unchecked Sendable {
  /// Memory that is never touched costs nothing.
  package static let slotCount = 2048
  /// Changes with the layout below, so that another program's scoreboard is not misread. What is added at the end of the header
  /// needs no change: there are zeros in one of before.
  private static let magic: UInt64 = 0x666F_726B_6C6F_6F07
  private static let headerSize = 1024
  private static let slotSize = (MemoryLayout<Slot>.stride + 63) & ~63

  /// `Totals` in shared memory.
  struct Counters: ~Copyable {
    let connections: Atomic<UInt64>
    let requests: Atomic<UInt64>
    let busy: Atomic<UInt64>
    let database: Atomic<UInt64>
    let latency: InlineArray<18, Atomic<UInt64>>

    var totals: Totals {
      var totals = Totals()
      totals.connections = connections.load(ordering: .relaxed)
      totals.requests = requests.load(ordering: .relaxed)
      totals.busy = busy.load(ordering: .relaxed)
      totals.database = database.load(ordering: .relaxed)
      for bucket in totals.latency.indices { totals.latency[bucket] = latency[bucket].load(ordering: .relaxed) }
      return totals
    }

    /// Counts a request's time. Only its worker writes here: a load and a store do, where an atomic addition would lock.
    func add(_ duration: UInt64) {
      busy.store(busy.load(ordering: .relaxed) &+ duration, ordering: .relaxed)
      let bucket = Latency.bucket(duration)
      latency[bucket].store(latency[bucket].load(ordering: .relaxed) &+ 1, ordering: .relaxed)
    }

    func add(_ totals: Totals) {
      connections.wrappingAdd(totals.connections, ordering: .relaxed)
      requests.wrappingAdd(totals.requests, ordering: .relaxed)
      busy.wrappingAdd(totals.busy, ordering: .relaxed)
      database.wrappingAdd(totals.database, ordering: .relaxed)
      for bucket in totals.latency.indices {
        latency[bucket].wrappingAdd(totals.latency[bucket], ordering: .relaxed)
      }
    }
  }

  /// Written by the master, and now and then by a worker.
  package struct Header: ~Copyable {
    let magic: Atomic<UInt64>
    /// Slots that were ever taken: those behind them have no memory yet.
    let slotsUsed: Atomic<UInt64>
    package let slowRequests: Atomic<UInt64>
    package let recycled: Atomic<UInt64>
    package let timedOut: Atomic<UInt64>
    package let shed: Atomic<UInt64>
    package let gone: Atomic<UInt64>
    package let crashed: Atomic<UInt64>
    package let maxChildrenReached: Atomic<UInt64>
    package let maxActive: Atomic<UInt64>
    package let maxQueue: Atomic<UInt64>
    package let reloads: Atomic<UInt64>
    /// When the pool began, in seconds since 1970.
    package let startedAt: Atomic<UInt64>
    /// Of workers that have ended.
    let counters: Counters
    /// Connections that were accepted since the pool began, counted as they are (and only if somebody wants to know).
    let accepted: Atomic<UInt64>
    /// The last looks at the listen queue, see `ArrivalSample`.
    let arrivals: InlineArray<64, Atomic<UInt64>>
    let arrivalsTaken: Atomic<UInt64>
    /// How many connections of the listen queue those that drain may still take: what stood in it when nobody can close it.
    let drainQuota: Atomic<Int64>
    /// 1 from the moment that the pool is to stop.
    let isStopping: Atomic<UInt64>
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
    /// Connections that it holds, where it holds several.
    let open: Atomic<UInt64>
    /// When the request under way began, where there is one at a time: 0 between two, `givenUp` once the master has given it up.
    let underWay: Atomic<UInt64>
    /// When the request began that the text is about.
    let described: Atomic<UInt64>
    /// When its loop's last turn began, where it has a loop: it has one at least every second.
    let lastTurn: Atomic<UInt64>
    /// 1 while it has a database connection, where it has one of its own.
    let database: Atomic<UInt64>
    let counters: Counters
    /// Eight bytes of method, 120 of path, 64 of request id, filled up with zeros.
    let text: InlineArray<24, Atomic<UInt64>>
  }

  /// What `underWay` says of a request that the master has given up.
  static let givenUp: UInt64 = 1

  static let methodLength = 8
  static let pathLength = 120
  static let idLength = 64
  static let textLength = methodLength + pathLength + idLength

  package let descriptor: Int32
  private let memory: UnsafeMutableRawPointer

  package var header: UnsafeMutablePointer<Header> { memory.assumingMemoryBound(to: Header.self) }

  /// Lines of the log that could not be written and have not been told of yet: behind the header, at the end of its space.
  var lostLines: UnsafeMutablePointer<Atomic<Int>> {
    (memory + Self.headerSize - MemoryLayout<Atomic<Int>>.size).assumingMemoryBound(to: Atomic<Int>.self)
  }

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
      header.pointee.drainQuota.store(.max, ordering: .relaxed)
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
    let slot = slot(index)
    header.pointee.counters.add(slot.pointee.counters.totals)
    (memory + Self.headerSize + index * Self.slotSize).initializeMemory(
      as: UInt8.self, repeating: 0, count: Self.slotSize)
    slot.pointee.state.store(WorkerState.vacant.rawValue, ordering: .releasing)
  }

  /// Says how many connections those that drain may take out of the listen queue; nil: all that are in it.
  package func allowDraining(_ count: Int?) {
    header.pointee.drainQuota.store(count.map(Int64.init) ?? .max, ordering: .releasing)
  }

  /// Whether somebody who drains may take one more connection out of the listen queue, which counts it.
  package func mayTakeOneMore() -> Bool {
    header.pointee.drainQuota.wrappingSubtract(1, ordering: .acquiringAndReleasing).oldValue > 0
  }

  /// Whether anybody who drains may take a connection out of the listen queue.
  var mayDrain: Bool { header.pointee.drainQuota.load(ordering: .acquiring) > 0 }

  /// Says to all workers that the pool is to stop.
  package func stop() { header.pointee.isStopping.store(1, ordering: .releasing) }

  /// Whether the pool is to stop: it may go on accepting, but nobody should be sent here any more.
  package var isStopping: Bool { header.pointee.isStopping.load(ordering: .acquiring) == 1 }

  /// Gives up the request that began at `began`. False if that is no longer under way. Its worker takes no other from now on, so
  /// that whatever is done to it hits this request or none.
  func giveUp(_ index: Int, began: UInt64) -> Bool {
    slot(index).pointee.underWay.compareExchange(
      expected: began, desired: Self.givenUp, ordering: .acquiringAndReleasing
    ).exchanged
  }

  /// Whether the request of a worker has been given up, and the worker is still there.
  func isGivenUp(_ index: Int) -> Bool { slot(index).pointee.underWay.load(ordering: .relaxed) == Self.givenUp }

  /// What changes with each turn of a loop, and with each request that it answers: many that compute may be answered in one turn.
  func progress(_ index: Int) -> UInt64 {
    slot(index).pointee.lastTurn.load(ordering: .relaxed)
      &+ slot(index).pointee.counters.requests.load(ordering: .relaxed)
  }

  /// All workers, the totals of those that have ended not among them.
  package func reports() -> [WorkerReport] { (0..<slotsUsed).compactMap(report) }

  private var slotsUsed: Int { min(Int(header.pointee.slotsUsed.load(ordering: .relaxed)), Self.slotCount) }

  package func report(_ index: Int) -> WorkerReport? {
    let slot = slot(index)
    let raw = slot.pointee.state.load(ordering: .acquiring)
    guard let state = WorkerState(rawValue: raw), state != .vacant else { return nil }
    // While a request comes in, the text is still about the one before.
    let isDescribed =
      state != .reading
      || slot.pointee.described.load(ordering: .relaxed) == slot.pointee.requestStarted.load(ordering: .relaxed)
    let text = isDescribed ? text(slot) : [UInt8](repeating: 0, count: Self.textLength)
    return WorkerReport(
      slot: index, process: slot.pointee.process.load(ordering: .relaxed),
      generation: Int(slot.pointee.generation.load(ordering: .relaxed)), state: state,
      since: slot.pointee.since.load(ordering: .relaxed), started: slot.pointee.started.load(ordering: .relaxed),
      requestStarted: slot.pointee.requestStarted.load(ordering: .relaxed),
      lastDuration: slot.pointee.lastDuration.load(ordering: .relaxed),
      open: Int(clamping: slot.pointee.open.load(ordering: .relaxed)), totals: slot.pointee.counters.totals,
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

  /// Whether a worker has a database connection that is not the one in `index`.
  package func hasDatabase(otherThan index: Int) -> Bool {
    (0..<slotsUsed).contains { $0 != index && slot($0).pointee.database.load(ordering: .relaxed) == 1 }
  }

  /// The fewest connections that a worker of the same generation as that in `index` holds.
  package func fewestOpen(asIn index: Int) -> Int {
    let generation = slot(index).pointee.generation.load(ordering: .relaxed)
    var fewest = UInt64.max
    for other in 0..<slotsUsed where state(other).state == .idle {
      let slot = slot(other)
      guard slot.pointee.generation.load(ordering: .relaxed) == generation else { continue }
      fewest = min(fewest, slot.pointee.open.load(ordering: .relaxed))
    }
    return Int(clamping: fewest)
  }

  /// The pool's totals: of those that have ended and of those that are there.
  package func poolTotals() -> Totals {
    var totals = header.pointee.counters.totals
    for index in 0..<slotsUsed where state(index).state != .vacant { totals += slot(index).pointee.counters.totals }
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
