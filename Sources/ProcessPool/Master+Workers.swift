// The master's care for its workers: starts them, lets them go, ends what takes too long, sees them off.

import CLinux
import Glibc
import Platform

extension Master {
  func census(waiting: Int) -> PoolPlan.Census {
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
  mutating func look() {
    var queue = 0
    scoreboard.sampleArrivals(now: MonotonicClock.now) {
      queue = ListeningSocket.waiting(in: listener.number)
      return queue
    }
    let header = scoreboard.header
    header.pointee.maxQueue.max(UInt64(queue), ordering: .relaxed)
    lookAfterReload()
    endFormerQueues()
    if isPaused {
      for process in children.keys { letGo(process) }
      return
    }
    // Of the kept connections on which a request has come one is announced at a time.
    let waiting = queue + (kept?.isWaitedFor == true ? 1 : 0)
    let census = census(waiting: waiting)
    if waiting > 0, census.idle > 0 { wakeIdleWorker() }
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
    let now = MonotonicClock.now
    if !backoff.isWaiting(now) {
      // After a failure one is enough to see whether it is over.
      for _ in 0..<(backoff.recentFailures(now) > 0 ? min(change.start, 1) : change.start) where !startWorker() {
        break
      }
    }
    if change.retire > 0 { retire(change.retire) }
  }

  /// Forks a worker; false if that is not possible now.
  mutating func startWorker() -> Bool { startWorker(of: generation, on: listener.number) != nil }

  /// Forks a worker of some generation, which takes its connections from `listening`.
  mutating func startWorker(of generation: Int, on listening: Int32) -> pid_t? {
    let now = MonotonicClock.now
    guard let slot = scoreboard.vacantSlot else {
      backoff.failed(now: now)
      log.error("can't start a worker: the scoreboard is full")
      return nil
    }
    scoreboard.reserve(slot, generation: generation, now: now)
    let (configuration, duties, master, log) = (configuration, duties, getpid(), log)
    let context = WorkerContext(
      listener: listening, kept: kept?.workerEnds, scoreboard: scoreboard, slot: slot, master: master,
      news: news.number)
    var ours = [signalDescriptor.number] + (status?.descriptors ?? [])
    ours += ([listener.number] + formerListeners.map { $0.socket.number }).filter { $0 != listening }
    if let lot = kept?.descriptors { ours += lot.prefix(2) }
    if let parked = kept?.parked { ours += parked }
    do throws(SystemError) {
      let process = try ChildProcess.fork(parentDeathSignal: Self.parentDeathSignal) {
        for number in ours { close(number) }
        for signal in [SIGHUP, SIGWINCH, SIGTTIN, SIGTTOU] { Glibc.signal(signal, SIG_IGN) }
        clinux_end_soon_on(Self.parentDeathSignal, 1)
        if let account = configuration.daemon.account {
          guard account.assume() else {
            log.error("a worker can't become the user '\(account.name)': \(String(cString: strerror(errno)))")
            return 1
          }
          // Changing the user clears it (prctl(2)).
          _ = clinux_set_parent_death_signal(Self.parentDeathSignal)
          if getppid() != master { return 1 }
        }
        if configuration.limits.requestTime > 0 {
          Self.prepare(duties.emergencyAnswer.ofReads, forWrites: false)
          Self.prepare(duties.emergencyAnswer.ofWrites, forWrites: true)
          clinux_emergency_answer_on(SIGALRM, Self.timedOut)
        }
        return duties.worker(context)
      }
      scoreboard.setProcess(process, of: slot)
      children[process] = Child(slot: slot, generation: generation, started: now)
      return process
    } catch {
      scoreboard.vacate(slot)
      backoff.failed(now: now)
      log.error("can't fork a worker: \(error)")
      return nil
    }
  }

  private static func prepare(_ words: EmergencyAnswer, forWrites: Bool) {
    _ = words.bytes.withUnsafeBytes {
      clinux_set_emergency_answer(forWrites ? 1 : 0, $0.baseAddress, $0.count, words.places)
    }
  }

  /// Has an idle worker look into the listen queue, where somebody stands. A connection wakes one worker (EPOLLEXCLUSIVE), and that
  /// may have ended before it could take it.
  func wakeIdleWorker() {
    let idle = children.filter { _, child in
      child.generation == generation && !child.isLeaving
        && child.slot.map { scoreboard.state($0).state == .idle } == true
    }
    // Any of them: the same one each time might be one that has been stopped.
    if let process = idle.keys.randomElement() { kill(process, Self.nudge) }
  }

  /// Lets go of where workers of before have listened, once what stands there has been answered.
  private mutating func endFormerQueues() {
    for former in formerListeners where ListeningSocket.waiting(in: former.socket.number) == 0 {
      former.socket.endQueue()
    }
    guard !formerListeners.isEmpty, children.values.allSatisfy({ $0.generation >= movedAt }) else { return }
    if !hasFormerQueue { formerListeners = [] } else { _ = startWorkerForFormerQueue() }
  }

  /// Whether somebody stands where workers of before have listened who is to be answered.
  private var hasFormerQueue: Bool {
    scoreboard.mayDrain && formerListeners.contains { ListeningSocket.waiting(in: $0.socket.number) > 0 }
  }

  /// Starts a worker for what is left where others have listened that are not there any more, or did not look: it answers that
  /// and ends. False if there is nothing, or it is not possible now.
  mutating func startWorkerForFormerQueue() -> Bool {
    guard hasFormerQueue, !backoff.isWaiting(MonotonicClock.now),
      let former = formerListeners.first(where: { ListeningSocket.waiting(in: $0.socket.number) > 0 }),
      let process = startWorker(of: movedAt - 1, on: former.socket.number)
    else { return false }
    letGo(process, SIGTERM)
    return true
  }

  /// Tells a worker to end after the request under way.
  mutating func letGo(_ process: pid_t, _ signal: Int32 = SIGQUIT) {
    guard children[process]?.isLeaving == false else { return }
    children[process]?.isLeaving = true
    kill(process, signal)
    // Who is suspended would not hear it.
    kill(process, SIGCONT)
  }

  /// Lets the workers go that have been idle the longest, then any.
  mutating func retire(_ count: Int) {
    let current = children.filter { $0.value.generation == generation && !$0.value.isLeaving }
    let order = current.keys.sorted { age($0) > age($1) }
    for process in order.prefix(count) { letGo(process) }
  }

  /// How long a worker has been idle; 0 if it is not.
  func age(_ process: pid_t) -> UInt64 {
    guard let slot = children[process]?.slot else { return 0 }
    let (state, since, _) = scoreboard.state(slot)
    let now = MonotonicClock.now
    return state == .idle && now > since ? now - since : 0
  }

  /// Lets the workers of before go once there are enough new ones that are ready.
  mutating func replaceGeneration(_ census: PoolPlan.Census) {
    guard hasBegun, census.total - census.starting >= PoolPlan.initial(pool) else { return }
    if !hasSaidReady, !isStopping {
      hasSaidReady = true
      ServiceManager.notify("READY=1\nSTATUS=\(pool.mode.rawValue), generation \(generation)")
    }
    for (process, child) in children where child.generation != generation && !child.isLeaving {
      // What stands where nobody listens any more is nobody else's.
      letGo(process, child.generation < movedAt ? SIGTERM : SIGQUIT)
    }
  }

  /// Ends requests that take too long, and loops that stand still.
  mutating func enforceTimeLimits() {
    let now = MonotonicClock.now
    // As long as we stand still ourselves, nobody is seen to move.
    let sinceLastLook = min(now - lastLook, 1_000_000_000)
    lastLook = now
    for process in children.keys {
      enforceRequestLimit(process, now)
      enforceTurnLimit(process, sinceLastLook)
    }
  }

  /// The worker tells its client and dies; if it can't even do that, it is killed. It takes no other request once this one is
  /// given up, so that no other is hit.
  private mutating func enforceRequestLimit(_ process: pid_t, _ now: UInt64) {
    let limit = configuration.limits.requestTime
    guard let child = children[process] else { return }
    if now >= child.killAt {
      kill(process, SIGKILL)
      return
    }
    guard let slot = child.slot, child.killAt == .max else { return }
    if scoreboard.isGivenUp(slot) {
      // By the program before us.
      children[process]?.killAt = now + 1_000_000_000
      return
    }
    guard limit > 0 else { return }
    let (state, _, began) = scoreboard.state(slot)
    guard state.isServing, now > began, now - began > limit, let report = scoreboard.report(slot),
      scoreboard.giveUp(slot, began: began)
    else { return }
    log.error(
      "worker \(process) killed: \(report.description) took more than \(limit / 1_000_000) ms, now \(state.name)",
      metadata: ["request": "\(report.requestID)"])
    scoreboard.header.pointee.timedOut.wrappingAdd(1, ordering: .relaxed)
    children[process]?.killAt = now + 1_000_000_000
    kill(process, SIGALRM)
  }

  /// Kills a loop that does not go on: it hangs, or has been stopped. Everybody on it would wait for ever.
  private mutating func enforceTurnLimit(_ process: pid_t, _ sinceLastLook: UInt64) {
    let limit = configuration.limits.turn
    guard limit > 0, let child = children[process], let slot = child.slot, !child.hasStoodStill else { return }
    let progress = scoreboard.progress(slot)
    guard progress == child.progress else {
      children[process]?.progress = progress
      children[process]?.stillFor = 0
      return
    }
    children[process]?.stillFor += sinceLastLook
    guard child.stillFor + sinceLastLook > limit else { return }
    children[process]?.hasStoodStill = true
    let report = scoreboard.report(slot)
    log.error(
      "loop \(process) killed: it has stood still for \(limit / 1_000_000) ms, last with \(report?.description ?? "nothing")",
      metadata: ["request": "\(report?.requestID ?? "")"])
    scoreboard.header.pointee.timedOut.wrappingAdd(1, ordering: .relaxed)
    kill(process, SIGKILL)
  }

  mutating func reap() {
    while let ending = ChildProcess.reap() {
      if ending.process == check {
        check = nil
        reload(ending)
        continue
      }
      // Others come to whoever is process 1.
      guard let child = children.removeValue(forKey: ending.process) else { continue }
      // One may also end since it has had enough, and leave somebody behind.
      let hasSeenEmptyQueue =
        child.isDraining && child.generation == generation
        && child.slot.map { scoreboard.state($0).state == .draining } == true
      if let slot = child.slot { scoreboard.vacate(slot) }
      if ending.exitCode == 0 {
        if hasSeenEmptyQueue { queueIsEmpty = true }
        continue
      }
      if child.isDraining, ending.exitCode == 1 { hasBrokenOff = true }
      let now = MonotonicClock.now
      log.warning("worker \(ending.process) \(ending)")
      if child.killAt != .max || child.hasStoodStill || ending.exitCode == Self.timedOut { continue }
      scoreboard.header.pointee.crashed.wrappingAdd(1, ordering: .relaxed)
      if now - child.started < Self.quickDeath {
        backoff.failed(now: now)
        log.error("workers die at once: the next is started in \((backoff.until - now) / 1_000_000) ms")
      }
    }
  }
}
