// The prefork pool's master: binds, forks, watches over the workers, answers for them, reloads, drains. It has one thread
// and serves no request of the API.

import CGI
import CLinux
import FastCGI
import Glibc
import Logging
import Platform
import Shop

/// Runs the pool until it is told to stop.
///
/// TERM, INT and QUIT drain; HUP and USR2 reload; TTIN and TTOU allow a worker more or less; WINCH lets all workers go until
/// HUP or TTIN.
package struct Master: ~Copyable {
  private struct Child {
    let slot: Int?
    let generation: Int
    let started: UInt64
    /// Told to end.
    var isLeaving = false
    /// Told that its request takes too long, and killed at this time if it is still there.
    var killAt = UInt64.max
  }

  /// What a worker gets when its master dies: it has a second to finish.
  static let parentDeathSignal = SIGUSR2
  /// A worker that died younger than this has failed at once.
  private static let quickDeath: UInt64 = 1_000_000_000
  /// How often the pool is looked at, in milliseconds: often enough to know how long somebody has waited.
  private var interval: Int32 {
    let patience = configuration.limits.queueWait / 1_000_000
    return patience == 0 ? 100 : Int32(min(100, max(5, patience / 8)))
  }

  private let log: Logger
  private let configuration: SyncConfiguration
  private var pool: PoolConfiguration
  private let invocation: Invocation
  private static let signals = SignalSet([
    SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD, SIGTTIN, SIGTTOU, SIGWINCH,
  ])
  private let listener: ListeningSocket
  private var status: StatusServer?
  private var parking: ParkingLot?
  private let scoreboard: Scoreboard
  private let generation: Int
  /// Whether the workers of before listen where we do.
  private let sameAddress: Bool
  /// Rung by a worker that is ready.
  private let news: Descriptor
  private let signalDescriptor: Descriptor
  /// What a worker says to its client at the end of its time, in FastCGI.
  private let lastWords: [UInt8]

  private var children: [pid_t: Child] = [:]
  private var plan = PoolPlan()
  private var backoff = Backoff()
  private var hasBegun = false
  private var isPaused = false
  private var wasAtLimit = false
  /// Whether the service manager has been told that we are ready, and when it wants the next sign of life.
  private var hasSaidReady = false
  private var watchdogDue: UInt64 = 0
  /// The program being checked before a reload.
  private var check: pid_t?

  /// Listens. On the calling thread, which should be the main one and alone: signals are blocked here.
  package init(
    _ configuration: SyncConfiguration, _ invocation: Invocation, log: Logger
  ) throws(ListeningSocket.Failure) {
    let inheritance = Inheritance.take()
    try Self.make { () throws(SystemError) in try configuration.daemon.apply() }
    let listener = try Self.listen(configuration.listen, inheritance?.listener, inheritance?.address)
    let status = try Self.statusServer(configuration.status, inheritance)
    let scoreboard = try Self.make { () throws(SystemError) in try Self.scoreboard(inheritance) }
    let news = try Self.make { () throws(SystemError) in
      Descriptor(owning: try syscall("eventfd") { eventfd(0, clinux_EFD) })
    }
    let parking = try Self.make { () throws(SystemError) in try Self.parkingLot(configuration, inheritance) }
    Self.signals.block()
    let signalDescriptor = try Self.make { () throws(SystemError) in try Self.signals.descriptor() }
    if let account = configuration.daemon.account {
      try Self.make { () throws(SystemError) in
        try listener.give(to: account.user, account.group)
        try status?.give(to: account.user, account.group)
      }
    }
    self.configuration = configuration
    self.invocation = invocation
    self.log = log
    self.listener = listener
    self.status = status
    self.parking = parking
    self.scoreboard = scoreboard
    self.news = news
    self.signalDescriptor = signalDescriptor
    pool = configuration.pool
    generation = (inheritance?.generation ?? 0) + 1
    sameAddress = inheritance.map { $0.address == configuration.listen.description } ?? true
    lastWords = Self.lastWords()
    if let inheritance { adopt(inheritance) }
  }

  private static func make<Value: ~Copyable>(
    _ body: () throws(SystemError) -> Value
  ) throws(ListeningSocket.Failure) -> Value {
    do throws(SystemError) { return try body() } catch { throw .system(nil, error) }
  }

  /// Takes a socket over if it is bound to `address`, and binds one otherwise.
  private static func listen(
    _ address: ListenAddress, _ inherited: Int32?, _ bound: String?
  ) throws(ListeningSocket.Failure) -> ListeningSocket {
    if let inherited, inherited >= 0, bound == address.description {
      return try ListeningSocket(adopting: inherited, boundTo: address)
    }
    return try ListeningSocket(address)
  }

  private static func statusServer(
    _ address: ListenAddress?, _ inheritance: Inheritance?
  ) throws(ListeningSocket.Failure) -> StatusServer? {
    guard let address else { return nil }
    return StatusServer(owning: try listen(address, inheritance?.status, inheritance?.statusAddress))
  }

  private static func scoreboard(_ inheritance: Inheritance?) throws(SystemError) -> Scoreboard {
    if let inheritance, let scoreboard = try Scoreboard(inherited: inheritance.scoreboard) {
      clinux_set_close_on_exec(inheritance.scoreboard, 1)
      return scoreboard
    }
    guard let scoreboard = try Scoreboard() else { throw SystemError("mmap", code: EINVAL) }
    return scoreboard
  }

  /// One that was left to us is gone on with even where connections are no longer kept: somebody stands in it.
  private static func parkingLot(
    _ configuration: SyncConfiguration, _ inheritance: Inheritance?
  ) throws(SystemError) -> ParkingLot? {
    if configuration.keepsConnections {
      var limit = rlimit()
      getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
      limit.rlim_cur = min(limit.rlim_max, 1 << 20)
      setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
    if let inheritance, !inheritance.parking.isEmpty {
      return try ParkingLot(descriptors: inheritance.parking, parked: inheritance.parked)
    }
    return configuration.keepsConnections ? try ParkingLot() : nil
  }

  private static func lastWords() -> [UInt8] {
    var writer = RecordWriter()
    var head: [UInt8] = []
    let response = Shop.timedOut()
    response.writeHead(to: &head)
    // nginx's requests all have this id.
    writer.answer(requestID: 1, head: head, body: response.body)
    return writer.bytes
  }

  /// Takes over the workers of the program before us.
  private mutating func adopt(_ inheritance: Inheritance) {
    scoreboard.header.pointee.reloads.wrappingAdd(1, ordering: .relaxed)
    let reports = scoreboard.reports()
    for process in inheritance.workers {
      let report = reports.first { $0.process == process }
      children[process] = Child(
        slot: report?.slot, generation: report?.generation ?? inheritance.generation,
        started: report?.started ?? MonotonicClock.now)
    }
    // Where nobody listens any more, what has come is answered, and no more comes.
    if !sameAddress { shutdown(inheritance.listener, Int32(SHUT_RD)) }
  }

  /// Serves until it is told to stop; the exit code: 0 when every request that had been accepted was answered, 1 when the
  /// drain took too long.
  package mutating func run() -> Int32 {
    log.info("listening on \(configuration.listen), \(pool.mode.rawValue), \(pool.workers) workers at most")
    while true {
      look()
      feedWatchdog()
      wait()
      while let signal = SignalSet.take(from: signalDescriptor.number) {
        if let code = obey(signal) { return code }
      }
      reap()
    }
  }

  private mutating func feedWatchdog() {
    guard let interval = ServiceManager.watchdogInterval else { return }
    let now = MonotonicClock.now
    guard now >= watchdogDue else { return }
    watchdogDue = now + interval
    ServiceManager.notify("WATCHDOG=1")
  }

  /// Until a signal, a status request, a worker that is ready, or the time for another look.
  private mutating func wait() {
    var interests = [
      pollfd(fd: signalDescriptor.number, events: Int16(POLLIN), revents: 0),
      pollfd(fd: news.number, events: Int16(POLLIN), revents: 0),
      pollfd(fd: awaitsFirstConnection ? listener.number : -1, events: Int16(POLLIN), revents: 0),
    ]
    let own = interests.count
    if let more = parking?.interests { interests += more }
    let parkings = interests.count
    if let more = status?.interests { interests += more }
    guard poll(&interests, nfds_t(interests.count), interval) > 0 else { return }
    if interests[1].revents != 0 {
      var count: eventfd_t = 0
      eventfd_read(news.number, &count)
    }
    if interests[own..<parkings].contains(where: { $0.revents != 0 }) { parking?.serve() }
    if interests[parkings...].contains(where: { $0.revents != 0 }) { serveStatus() }
  }

  private mutating func serveStatus(accepting: Bool = true) {
    let (scoreboard, pool, generation, listener) = (scoreboard, pool, generation, listener.number)
    let parked = parking?.parked.count ?? 0
    status?.serve(accepting: accepting) { path in
      let page = StatusPage(scoreboard, pool: pool, generation: generation, listener: listener, parked: parked)
      switch path {
      case "/sync/status": return Response(.ok, contentType: .json, body: page.json())
      case "/sync/metrics": return Response(.ok, contentType: .openMetrics, body: page.metrics())
      default: return nil
      }
    }
  }

  /// Answers those who have come to ask for the status; not for long, should one of them never ask.
  private mutating func finishStatus() {
    let deadline = MonotonicClock.now + 200_000_000
    while status?.hasClients == true, MonotonicClock.now < deadline {
      var interests = Array(status?.interests.dropFirst() ?? [])
      poll(&interests, nfds_t(interests.count), 10)
      serveStatus(accepting: false)
    }
  }

  /// Whether somebody has to be started as soon as a connection comes: nobody else waits for it.
  private var awaitsFirstConnection: Bool {
    guard pool.mode == .ondemand, !isPaused, !backoff.isWaiting(MonotonicClock.now) else { return false }
    let census = census(waiting: 0)
    return census.idle == 0 && census.starting == 0 && census.total < pool.workers
  }

  // MARK: Signals

  /// Does what a signal asks for; the exit code if that is the end.
  private mutating func obey(_ signal: Int32) -> Int32? {
    switch signal {
    case SIGTERM, SIGINT, SIGQUIT: return drain()
    case SIGHUP, SIGUSR2: beginReload()
    case SIGTTIN:
      isPaused = false
      pool.workers = min(pool.workers + 1, 1024)
      log.info("up to \(pool.workers) workers from now on")
    case SIGTTOU:
      pool.workers = max(1, pool.workers - 1)
      log.info("up to \(pool.workers) workers from now on")
    case SIGWINCH:
      isPaused = true
      log.info("all workers are let go until HUP or TTIN")
    case SIGUSR1:
      guard let path = configuration.daemon.logFile else { break }
      do throws(SystemError) { try LogFile.open(path) } catch { log.error("the log can't be reopened: \(error)") }
      for process in children.keys { kill(process, SIGUSR1) }
    default: break
    }
    return nil
  }

  // MARK: Workers

  private func census(waiting: Int) -> PoolPlan.Census {
    var census = PoolPlan.Census()
    let now = MonotonicClock.now
    for child in children.values where child.generation == generation && !child.isLeaving {
      guard let slot = child.slot else { continue }
      let (state, since, _) = scoreboard.state(slot)
      census.total += 1
      switch state {
      case .starting: census.starting += 1
      case .idle:
        census.idle += 1
        if now > since, now - since > pool.idleTimeout.nanoseconds { census.idleTooLong += 1 }
      default: break
      }
    }
    census.waiting = waiting
    return census
  }

  /// Looks at the scoreboard: starts and lets go, ends what takes too long, notes what was the most.
  private mutating func look() {
    var queue = 0
    scoreboard.sampleArrivals(now: MonotonicClock.now) {
      queue = ListeningSocket.queue(of: listener.number)?.waiting ?? 0
      return queue
    }
    let header = scoreboard.header
    header.pointee.maxQueue.max(UInt64(queue), ordering: .relaxed)
    enforceTimeLimit()
    if isPaused {
      for process in children.keys { letGo(process) }
      return
    }
    let census = census(waiting: queue)
    header.pointee.maxActive.max(UInt64(census.total - census.idle - census.starting), ordering: .relaxed)
    replaceGeneration(census)
    var change: PoolPlan.Change
    if hasBegun {
      change = plan.change(census, pool)
    } else {
      change = PoolPlan.Change(start: PoolPlan.initial(pool))
      hasBegun = true
    }
    if change.isAtLimit, !wasAtLimit {
      header.pointee.maxChildrenReached.wrappingAdd(1, ordering: .relaxed)
      log.warning("all \(pool.workers) workers are busy: consider more of them")
    }
    wasAtLimit = change.isAtLimit
    if !backoff.isWaiting(MonotonicClock.now) {
      // After a failure one is enough to see whether it is over.
      for _ in 0..<(backoff.failures > 0 ? min(change.start, 1) : change.start) where !startWorker() { break }
    }
    if change.retire > 0 { retire(change.retire) }
  }

  /// Forks a worker; false if that is not possible now.
  private mutating func startWorker() -> Bool {
    let now = MonotonicClock.now
    guard let slot = scoreboard.vacantSlot else { return false }
    scoreboard.reserve(slot, generation: generation, now: now)
    let (configuration, scoreboard, log) = (configuration, scoreboard, log)
    let (listening, news, lastWords) = (listener.number, news.number, lastWords)
    let master = getpid()
    let ends = parking?.workerEnds
    var ours = [signalDescriptor.number] + (status?.descriptors ?? [])
    if let lot = parking?.descriptors { ours += lot.prefix(2) }
    if let parked = parking?.parked { ours += parked }
    do throws(SystemError) {
      let process = try ChildProcess.fork(parentDeathSignal: Self.parentDeathSignal) {
        for number in ours { close(number) }
        for signal in [SIGHUP, SIGWINCH, SIGTTIN, SIGTTOU] { Glibc.signal(signal, SIG_IGN) }
        clinux_end_soon_on(Self.parentDeathSignal, 1)
        if let account = configuration.daemon.account {
          guard account.assume() else { return 1 }
          // Changing the user clears it (prctl(2)).
          _ = clinux_set_parent_death_signal(Self.parentDeathSignal)
          if getppid() != master { return 1 }
        }
        return lastWords.withUnsafeBytes {
          let limit = configuration.limits.requestTime
          clinux_last_words_on(SIGALRM, $0.baseAddress, $0.count, limit, Worker.timedOut)
          return Worker(
            configuration, listener: listening, parking: ends, scoreboard: scoreboard, slot: slot, news: news, log: log
          ).run()
        }
      }
      scoreboard.setProcess(process, of: slot)
      children[process] = Child(slot: slot, generation: generation, started: now)
      return true
    } catch {
      scoreboard.vacate(slot)
      backoff.failed(now: now)
      log.error("can't fork a worker: \(error)")
      return false
    }
  }

  /// Tells a worker to end after the request under way.
  private mutating func letGo(_ process: pid_t, _ signal: Int32 = SIGQUIT) {
    guard children[process]?.isLeaving == false else { return }
    children[process]?.isLeaving = true
    kill(process, signal)
  }

  /// Lets the workers go that have been idle the longest, then any.
  private mutating func retire(_ count: Int) {
    let current = children.filter { $0.value.generation == generation && !$0.value.isLeaving }
    let order = current.keys.sorted { age($0) > age($1) }
    for process in order.prefix(count) { letGo(process) }
  }

  /// How long a worker has been idle; 0 if it is not.
  private func age(_ process: pid_t) -> UInt64 {
    guard let slot = children[process]?.slot else { return 0 }
    let (state, since, _) = scoreboard.state(slot)
    let now = MonotonicClock.now
    return state == .idle && now > since ? now - since : 0
  }

  /// Lets the workers of before go once there are enough new ones that are ready.
  private mutating func replaceGeneration(_ census: PoolPlan.Census) {
    guard hasBegun, census.total - census.starting >= min(PoolPlan.initial(pool), pool.workers) else { return }
    if !hasSaidReady {
      hasSaidReady = true
      ServiceManager.notify("READY=1\nSTATUS=\(pool.mode.rawValue), generation \(generation)")
    }
    for (process, child) in children where child.generation != generation && !child.isLeaving {
      letGo(process, sameAddress ? SIGQUIT : SIGTERM)
    }
  }

  /// Ends requests that take too long: the worker tells its client and dies; if it can't even do that, it is killed.
  private mutating func enforceTimeLimit() {
    let limit = configuration.limits.requestTime
    guard limit > 0 else { return }
    let now = MonotonicClock.now
    for (process, child) in children {
      if now >= child.killAt {
        kill(process, SIGKILL)
        continue
      }
      guard let slot = child.slot, child.killAt == .max else { continue }
      let (state, _, began) = scoreboard.state(slot)
      guard state.isServing, now > began, now - began > limit, let report = scoreboard.report(slot) else { continue }
      log.error(
        "worker \(process) killed: \(report.method) \(report.path) took more than \(limit / 1_000_000) ms, now \(state.name)",
        metadata: ["request": "\(report.requestID)"])
      scoreboard.header.pointee.timedOut.wrappingAdd(1, ordering: .relaxed)
      children[process]?.killAt = now + 1_000_000_000
      kill(process, SIGALRM)
    }
  }

  private mutating func reap() {
    while let ending = ChildProcess.reap() {
      if ending.process == check {
        check = nil
        reload(ending)
        continue
      }
      // Others come to whoever is process 1.
      guard let child = children.removeValue(forKey: ending.process) else { continue }
      if let slot = child.slot { scoreboard.vacate(slot) }
      if ending.exitCode == 0 { continue }
      let now = MonotonicClock.now
      log.warning("worker \(ending.process) \(ending)")
      if child.killAt != .max || ending.exitCode == Worker.timedOut { continue }
      scoreboard.header.pointee.crashed.wrappingAdd(1, ordering: .relaxed)
      if now - child.started < Self.quickDeath {
        backoff.failed(now: now)
        log.error("workers die at once: the next is started in \((backoff.until - now) / 1_000_000) ms")
      }
    }
  }

  // MARK: Reload and drain

  /// Lets the program as it is now look at the settings as they are now; what it says decides.
  private mutating func beginReload() {
    guard check == nil else { return }
    do throws(SystemError) {
      check = try invocation.check()
    } catch {
      log.error("not reloaded, all stays as it is: \(error)")
    }
  }

  /// Becomes the program as it is now. Workers go on serving meanwhile; the new ones come first, then they go.
  private mutating func reload(_ ending: ChildProcess.Ending) {
    guard ending.exitCode == 0 else {
      return log.error("not reloaded, all stays as it is: the new program \(ending), see above")
    }
    log.info("reloading")
    finishStatus()
    // Type=notify-reload: since when, on the clock that the service manager has (sd_notify(3)).
    ServiceManager.notify("RELOADING=1\nMONOTONIC_USEC=\(MonotonicClock.now / 1000)")
    parking?.serve()
    var inheritance = Inheritance(
      listener: listener.number, address: configuration.listen.description, status: status?.listenerNumber ?? -1,
      statusAddress: configuration.status?.description ?? "", scoreboard: scoreboard.descriptor,
      generation: generation, workers: Array(children.keys))
    inheritance.parking = parking?.descriptors ?? []
    inheritance.parked = Array(parking?.parked ?? [])
    let code = invocation.execute(inheritance)
    ServiceManager.notify("READY=1")
    log.error("not reloaded, all stays as it is: exec: \(String(cString: strerror(code)))")
  }

  /// Lets nobody in, lets the workers answer what has come, and waits for them.
  private mutating func drain() -> Int32 {
    log.info("draining")
    ServiceManager.notify("STOPPING=1\nSTATUS=draining")
    status?.removePath()
    listener.refuseNewConnections()
    parking?.clear()
    for process in children.keys { kill(process, SIGTERM) }
    let deadline = MonotonicClock.now + configuration.drainTimeout.nanoseconds
    while !children.isEmpty || parking?.parked.isEmpty == false {
      let now = MonotonicClock.now
      guard now < deadline else {
        log.error("\(children.count) workers had not ended after \(configuration.drainTimeout): killed")
        for process in children.keys { kill(process, SIGKILL) }
        return 1
      }
      _ = Self.signals.wait(
        timeout: .nanoseconds(Int64(min(deadline - now, parking == nil ? 1_000_000_000 : 20_000_000))))
      enforceTimeLimit()
      reap()
      parking?.clear()
      // Who was parked by the last one to go, and has asked for more since then, gets a worker of its own.
      if children.isEmpty, parking?.takeHasHandedOn() == true, startWorker() {
        for process in children.keys { kill(process, SIGTERM) }
      }
    }
    log.info("stopped")
    return 0
  }
}
