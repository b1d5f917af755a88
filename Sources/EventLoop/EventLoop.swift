// An event loop that runs Swift tasks: epoll(7) as a `TaskExecutor` (SE-0417).
//
// One turn: wait for events, wake the tasks that waited for them, run jobs until none is left, then let those who gather
// work (queries for the database) send it in one go. Everything that a loop's tasks touch belongs to its thread.

import CLinux
import Glibc
import Platform
import Synchronization

/// A loop and its thread. Its tasks are started by `spawn`, and by nothing else: what they use is the loop's thread's alone, and
/// not Sendable, so that the compiler refuses to take it elsewhere.
///
/// Unchecked Sendable: `enqueue` is the only entrance from other threads and goes through a mutex; everything else traps
/// when another thread calls it.
package final class EventLoop: TaskExecutor, @unchecked Sendable {
  private let thread: pthread_t
  private let epoll: Epoll
  private let wakeup: Wakeup
  private let fromOutside = Mutex<[UnownedJob]>([])

  /// Jobs to run, and the batch that is being run: two buffers that change places and keep their memory.
  private var jobs: [UnownedJob] = []
  private var batch: [UnownedJob] = []
  private var watches: [Watch?] = []
  private var freeSlots: [Int] = []
  private var timers = Timers<UnsafeContinuation<Void, Never>>()
  private var turnEnders: [() -> Void] = []
  /// What is to be done in a turn of its own, the first first.
  private var claims: [() -> Void] = []
  private var isStopped = false
  /// When the turn under way began, in monotonic nanoseconds: the time, for whoever can do without its last microseconds.
  package private(set) var now: UInt64
  private let clock: Clock
  package private(set) var health = LoopHealth()
  private var slowTurn: (limit: UInt64, tell: (UInt64) -> Void)?
  private var tellOfTurn: ((UInt64) -> Void)?

  private static let wakeupToken = UInt64.max

  /// How time passes.
  package enum Clock: Sendable {
    case monotonic
    /// From 0, and only while everybody waits: then at once to the next timer. For tests, which so have neither to wait nor
    /// to hope.
    case virtual
  }

  /// A loop of the calling thread, which must then call `run`.
  package init(clock: Clock = .monotonic) throws(SystemError) {
    self.clock = clock
    now = clock == .virtual ? 0 : MonotonicClock.now
    thread = pthread_self()
    epoll = try Epoll()
    wakeup = try Wakeup()
    try epoll.add(wakeup.number, .readable, token: Self.wakeupToken)
  }

  /// Whether the caller runs on the loop's thread.
  package var isCurrent: Bool { pthread_equal(thread, pthread_self()) != 0 }

  package func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    if isCurrent {
      jobs.append(job)
    } else {
      fromOutside.withLock { $0.append(job) }
      wakeup.ring()
    }
  }

  /// Starts a task. The one place where the compiler is told that what a loop's task holds stays on the loop's thread: whoever
  /// calls is on it, and the task prefers it, as do the functions that it awaits (SE-0417).
  package func spawn(_ body: @escaping () async -> Void) {
    precondition(isCurrent, "a loop's tasks are started on its thread")
    nonisolated(unsafe) let body = body
    Task(executorPreference: self) { await body() }
  }

  /// Starts several, and waits until all have ended.
  package func spawnAll(_ bodies: [() async -> Void]) async {
    var left = bodies.count
    guard left > 0 else { return }
    await withUnsafeContinuation { (waiter: UnsafeContinuation<Void, Never>) in
      for body in bodies {
        spawn {
          await body()
          left -= 1
          if left == 0 { waiter.resume() }
        }
      }
    }
  }

  /// Calls `body` at the end of each turn, before the loop waits again.
  package func atEndOfTurn(_ body: @escaping () -> Void) { turnEnders.append(body) }

  /// Calls `tell` with the time at which each turn begins, in monotonic nanoseconds: for whoever watches that they go on.
  package func onTurnBegin(_ tell: @escaping (UInt64) -> Void) { tellOfTurn = tell }

  /// Calls `tell` with the length of each turn that took longer than `limit`, both in nanoseconds.
  package func onTurn(longerThan limit: UInt64, _ tell: @escaping (UInt64) -> Void) { slowTurn = (limit, tell) }

  /// Runs turns until `stop`.
  package func run() {
    precondition(isCurrent, "a loop is run by the thread that made it")
    let executor = asUnownedTaskExecutor()
    while !isStopped {
      runJobs(executor)
      for end in turnEnders { end() }
      if !claims.isEmpty { claims.removeFirst()() }
      if isStopped { break }
      let end = clock == .virtual ? now : MonotonicClock.now
      turnEnded(at: end)
      // A turn's end may have woken somebody.
      let timeout = jobs.isEmpty && !canLeap ? timeToNextTimer(end) : 0
      epoll.wait(timeout: timeout) { token, readiness in
        if token == Self.wakeupToken { takeJobsFromOutside() } else { deliver(readiness, to: token) }
      }
      now = time()
      tellOfTurn?(now)
      wakeTimers()
    }
  }

  /// Ends `run` after the current turn.
  package func stop() {
    precondition(isCurrent)
    isStopped = true
  }

  private var canLeap: Bool { clock == .virtual && !timers.isEmpty }

  private func time() -> UInt64 {
    guard clock == .virtual else { return MonotonicClock.now }
    return jobs.isEmpty ? max(now, timers.next ?? now) : now
  }

  private func turnEnded(at end: UInt64) {
    let length = end - now
    health.turns.add(length)
    if let slowTurn, length > slowTurn.limit {
      health.slowTurns += 1
      slowTurn.tell(length)
    }
  }

  private func runJobs(_ executor: UnownedTaskExecutor) {
    while !jobs.isEmpty {
      swap(&batch, &jobs)
      health.jobs += UInt64(batch.count)
      for job in batch { job.runSynchronously(on: executor) }
      batch.removeAll(keepingCapacity: true)
    }
  }

  private func takeJobsFromOutside() {
    wakeup.silence()
    fromOutside.withLock {
      jobs.append(contentsOf: $0)
      $0.removeAll(keepingCapacity: true)
    }
  }

  // MARK: Descriptors

  /// A token is the watch's slot and, in the upper half, its serial: an event that was on its way when a descriptor was
  /// closed can't reach the watch that got the slot next.
  private static func token(slot: Int, serial: UInt32) -> UInt64 { UInt64(serial) << 32 | UInt64(slot) }

  /// Watches `number` until the watch is cancelled. Edge-triggered watches report what has changed, for whoever reads and
  /// writes until it would block; the others report what is, for libpq, which reads as much as it likes.
  package func watch(_ number: Int32, for readiness: Readiness, edgeTriggered: Bool) throws(SystemError) -> Watch {
    let slot = freeSlots.popLast() ?? watches.count
    if slot == watches.count { watches.append(nil) }
    nextSerial &+= 1
    let mask = readiness.union(edgeTriggered ? .edge : [])
    let watch = Watch(loop: self, number: number, token: Self.token(slot: slot, serial: nextSerial), mask: mask)
    do throws(SystemError) {
      try epoll.add(number, mask, token: watch.token)
    } catch {
      freeSlots.append(slot)
      throw error
    }
    watches[slot] = watch
    return watch
  }

  private var nextSerial: UInt32 = 0

  private func deliver(_ readiness: Readiness, to token: UInt64) {
    let slot = Int(token & 0xFFFF_FFFF)
    guard slot < watches.count, let watch = watches[slot], watch.token == token else { return }
    watch.deliver(readiness)
  }

  func change(_ watch: Watch, to mask: Readiness) throws(SystemError) {
    try epoll.change(watch.number, mask, token: watch.token)
  }

  func remove(_ watch: Watch) {
    let slot = Int(watch.token & 0xFFFF_FFFF)
    guard watches[slot] === watch else { return }
    epoll.remove(watch.number)
    watches[slot] = nil
    freeSlots.append(slot)
  }

  // MARK: Time

  /// Lets the task continue when `duration` has passed.
  package func sleep(_ duration: Duration) async {
    let deadline = (clock == .virtual ? now : MonotonicClock.now) + duration.nanoseconds
    await withUnsafeContinuation { timers.add(deadline: deadline, $0) }
  }

  /// Calls `body`, which wakes somebody up, at the end of a turn in which that is done for nobody else: what takes milliseconds is
  /// done once in a turn, and all others have their turns in between.
  package func inTurn(_ body: @escaping () -> Void) { claims.append(body) }

  /// In nanoseconds; −1: there is none.
  private func timeToNextTimer(_ now: UInt64) -> Int64 {
    guard let next = timers.next else { return -1 }
    return next <= now ? 0 : Int64(min(next - now, 3_600_000_000_000))
  }

  private func wakeTimers() {
    guard !timers.isEmpty else { return }
    while let next = timers.next, let waiter = timers.takeDue(now) {
      health.lags.add(now - next)
      waiter.resume()
    }
  }
}
