// One loop of the event-loop responder: a thread, a loop, and everything on it as tasks.

import Application
import CGI
import CLinux
import EventLoop
import FastCGI
import Glibc
import Logging
import Platform
import ProcessPool

/// What became of the loop's own buffers.
struct BufferUse {
  /// Times that one was used again.
  var reused: UInt64 = 0
  /// Answers of which something had to wait for a later turn, mostly since the peer's socket was full.
  var backlogged: UInt64 = 0
}

/// Accepts connections and looks after them until it is told to stop.
///
/// TERM: answer what stands in the queue, then end. QUIT: end after the requests under way.
final class Server {
  let configuration: AsyncConfiguration
  let loop: EventLoop
  let log: Logger
  let pool: DatabasePool
  let application: any Application
  /// Where every connection reads into: one buffer for all of them, since what was read is used up before anybody else
  /// gets a turn.
  let readBuffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 128 << 10, alignment: 16)

  /// Where answers are put together, for all connections in turn: they are copied where a socket does not take them at once.
  var writer = RecordWriter(capacity: 16 << 10)
  var head: [UInt8] = []
  /// How often these were used again, where each request would else have had its own.
  var buffers = BufferUse()

  /// Whether much memory has been freed lately, or is about to be.
  var hasFreedMuch = false

  /// Whether the server is a Unix socket.
  let peersAreLocal: Bool

  private let context: WorkerContext
  private var slot: WorkerSlot
  private let listenerWatch: Watch
  private let signalDescriptor: Descriptor
  private let signalWatch: Watch
  private(set) var isDraining = false
  /// Whether those in the queue are still to be answered.
  private var takesQueue = false
  private var exitCode: Int32 = 0
  private var connections: [ObjectIdentifier: ClientConnection] = [:]

  /// How long an idle connection may still be used after TERM before it is closed.
  private static let idleGrace = Duration.milliseconds(500)
  /// How often time limits are looked after.
  private static let sweepInterval = Duration.seconds(1)
  /// For how long a loop with more connections than another leaves a new one to it.
  private static let courtesy = Duration.milliseconds(2)
  /// How long there is to finish when the master has died, in seconds.
  private static let lastSeconds: UInt32 = 1

  /// On the calling thread, which should be the main one and alone.
  init(_ configuration: AsyncConfiguration, _ context: WorkerContext, log: Logger) throws(SystemError) {
    self.configuration = configuration
    self.context = context
    self.log = log
    let signals = SignalSet([SIGTERM, SIGQUIT, SIGUSR1, Master.parentDeathSignal])
    signals.block()
    signal(SIGINT, SIG_IGN)  // A terminal sends it to everybody; the master decides.
    loop = try EventLoop()
    signalDescriptor = try signals.descriptor()
    // Edges: each new connection is announced to every loop, and to each once.
    listenerWatch = try loop.watch(context.listener, for: .readable, edgeTriggered: true)
    signalWatch = try loop.watch(signalDescriptor.number, for: .readable, edgeTriggered: false)
    peersAreLocal = ListeningSocket.isLocal(context.listener)
    slot = WorkerSlot(context.scoreboard, context.slot)
    application = configuration.application { context.scoreboard.isStopping }
    pool = DatabasePool(configuration, loop: loop, log: log)
  }

  deinit { readBuffer.deallocate() }

  /// Serves until TERM or QUIT; the exit code: 0 when every request that had been accepted was answered, 1 when the drain
  /// took too long.
  func run() -> Int32 {
    if configuration.slowTurn > 0 {
      loop.onTurn(longerThan: configuration.slowTurn) { self.tellOfSlowTurn($0) }
    }
    let slot = slot
    loop.onTurnBegin { slot.turnBegan(at: $0) }
    loop.spawn { [self] in await serve() }
    loop.run()
    return exitCode
  }

  private func serve() async {
    for connection in pool.connections { loop.spawn { await connection.run() } }
    loop.spawn { [self] in await sweep() }
    loop.spawn { [self] in await obeySignals() }
    // Whoever stands in the queue of one that drains at once has asked, too.
    await pool.firstAttempts { isDraining && !takesQueue }
    slot.isReady()
    eventfd_write(context.news, 1)
    while !isDraining {
      await acceptAll()
      if !isDraining { await listenerWatch.readable() }
    }
    if takesQueue { await acceptAll(atMost: configuration.master.drainTimeout) }
    listenerWatch.cancel()
    exitCode = await drain()
    loop.stop()
  }

  // MARK: Signals

  private func obeySignals() async {
    while true {
      await signalWatch.readable()
      while let signal = SignalSet.take(from: signalDescriptor.number) { obey(signal) }
    }
  }

  private func obey(_ signal: Int32) {
    switch signal {
    case SIGUSR1:
      guard let path = configuration.master.daemon.logFile else { return }
      do throws(SystemError) { try LogOutput.open(path) } catch { log.error("the log can't be reopened: \(error)") }
    case Master.parentDeathSignal:
      alarm(Self.lastSeconds)
      beginDrain(takingQueue: false)
    default: beginDrain(takingQueue: signal == SIGTERM)
    }
  }

  private func beginDrain(takingQueue: Bool) {
    takesQueue = takesQueue || takingQueue
    isDraining = true
    listenerWatch.interrupt()
  }

  // MARK: Accepting

  /// Accepts whoever waits, until nobody does, or while draining may; there for at most `limit`. Each connection is a task.
  private func acceptAll(atMost limit: Duration? = nil) async {
    let deadline = limit.map { MonotonicClock.now + $0.nanoseconds } ?? .max
    while MonotonicClock.now < deadline {
      await makeRoom()
      if !isDraining, othersHaveFewer() { await loop.sleep(Self.courtesy) }
      if isDraining, !takesQueue || !context.scoreboard.mayTakeOneMore() { return }
      switch Acceptance.next(of: context.listener, nonblocking: true) {
      case .connection(let number): add(Descriptor(owning: number))
      case .failed: continue
      case .nobody: return
      case .closed:
        // Who closed it tells us to end in a moment.
        if !isDraining { await loop.sleep(.milliseconds(20)) }
        return
      case .exhausted(let code):
        log.warning("can't accept: \(String(cString: strerror(code)))")
        await loop.sleep(.milliseconds(100))
      }
    }
  }

  /// Waits while there are as many connections as there may be: more stay in the listen queue.
  private func makeRoom() async {
    guard !isDraining, connections.count >= configuration.connections else { return }
    log.warning("\(connections.count) connections: no more are accepted for now")
    while !isDraining, connections.count >= configuration.connections { await loop.sleep(.milliseconds(20)) }
  }

  private func add(_ descriptor: consuming Descriptor) {
    if let peers = configuration.master.daemon.peers, !peers.admits(descriptor.number) {
      return log.warning("a peer that is not allowed to was sent away")
    }
    slot.countConnection()
    guard let connection = ClientConnection(owning: descriptor, server: self) else { return }
    connections[ObjectIdentifier(connection)] = connection
    slot.hasOpen(connections.count)
    connection.begin()
  }

  /// A connection has been closed.
  func closed(_ connection: ClientConnection) {
    connections[ObjectIdentifier(connection)] = nil
    slot.hasOpen(connections.count)
  }

  /// Whether another loop holds fewer connections: new ones are its.
  private func othersHaveFewer() -> Bool {
    configuration.master.pool.workers > 1 && context.scoreboard.fewestOpen(asIn: context.slot) < connections.count
  }

  // MARK: Looking after

  /// A request is looked at: the scoreboard shows which, should it be the last.
  func shows(_ request: borrowing Request) {
    slot.shows(method: request.method.rawValue, path: request.path, requestID: request.requestID)
  }

  /// A request was answered; nanoseconds since its last byte had come.
  func answered(in duration: UInt64) { slot.countRequest(duration) }

  /// Looks after time limits, once a second: a clock for each request would cost more than it is worth.
  private func sweep() async {
    while true {
      await loop.sleep(Self.sweepInterval)
      let now = MonotonicClock.now
      for connection in connections.values { connection.enforceTimeLimits(now) }
      pool.enforceTimeLimits(now)
      LineLog.tellLeftOut()
      if hasFreedMuch {
        hasFreedMuch = false
        Memory.trim()
      }
    }
  }

  private func tellOfSlowTurn(_ length: UInt64) {
    let work = pool.lastWork
    log.warning(
      """
      slow: a turn of the loop took \(length / 1_000_000) ms, with \(work.answers) answers from the database; the largest: \
      \(work.largest) bytes for \(work.largestName)
      """)
  }

  /// The answer for `/async/status` and `/async/metrics`; nil for other paths.
  func statusPage(for request: borrowing Request) -> Response? {
    guard let page = MonitoringPage(path: request.path, below: application.prefix) else { return nil }
    return page.answer(request, by: application) {
      let state = StatusPage(
        health: loop.health, buffers: buffers, pool: pool, connections: connections.count,
        underWay: connections.values.reduce(0) { $0 + $1.requestsUnderWay }, context: context,
        listenQueue: ListeningSocket.queue(of: context.listener))
      return page == .status ? state.json() : state.metrics()
    }
  }

  // MARK: The end

  /// Waits until everybody has been answered: 0; or until the time for it is over: 1.
  private func drain() async -> Int32 {
    slot.isDraining()
    let deadline = MonotonicClock.now + configuration.master.drainTimeout.nanoseconds
    let graceEnd = MonotonicClock.now + Self.idleGrace.nanoseconds
    while !connections.isEmpty {
      let now = MonotonicClock.now
      // Those that were busy until now have not heard of it.
      if now < graceEnd { for connection in connections.values { connection.announceEnd() } }
      if now >= deadline {
        log.error("\(connections.count) connections had not ended after \(configuration.master.drainTimeout): closed")
        return 1
      }
      if now >= graceEnd {
        for connection in connections.values { connection.closeIfIdle() }
      }
      await loop.sleep(.milliseconds(10))
    }
    return 0
  }
}
