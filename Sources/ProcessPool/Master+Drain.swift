// How the master ends: nobody should be sent here any more, then nobody is let in, what has been accepted is answered, and it goes.

import Glibc
import Logging
import Platform

extension Master {
  /// What a service manager is to wait for beyond the drain's own limit.
  private static let spareTime = Duration.seconds(5)

  /// Begins to stop: from now on `/health` tells whoever sends requests to send them elsewhere, and when `delay` is over, the drain
  /// begins. A pool that has let its workers go answers nobody, so that there is nothing to wait for.
  mutating func stop(after delay: Duration) {
    scoreboard.stop()
    endCheck()
    check = nil
    wantsReload = false
    let delay = isPaused ? .zero : delay
    drainAt = MonotonicClock.now + delay.nanoseconds
    guard delay > .zero else { return beginDrain() }
    let seconds = delay.components.seconds
    log.info("to stop: draining in \(seconds) s, or at the next signal to stop")
    tellOfStop("draining in \(seconds) s", atMost: delay + configuration.drainTimeout)
  }

  mutating func beginDrainIfDue() {
    if let drainAt, !isDraining, MonotonicClock.now >= drainAt { beginDrain() }
  }

  /// Tells the service manager that we end, and how long that may take.
  private func tellOfStop(_ state: String, atMost limit: Duration) {
    let microseconds = (limit + Self.spareTime).nanoseconds / 1_000
    ServiceManager.notify("STOPPING=1\nSTATUS=\(state)\nEXTEND_TIMEOUT_USEC=\(microseconds)")
  }

  /// Lets nobody in, and has the workers answer what has come. What stands in the listen queue has been accepted as far as its
  /// clients can tell. Of a socket that was handed to us that is what stands there now: others may come for ever, and are
  /// for whoever is given the socket next.
  private mutating func beginDrain() {
    log.info("draining")
    tellOfStop("draining", atMost: configuration.drainTimeout)
    drainDeadline = MonotonicClock.now + configuration.drainTimeout.nanoseconds
    status?.removePath()
    let isClosed = listener.refuseNewConnections()
    let waiting = ListeningSocket.waiting(in: listener.number)
    scoreboard.allowDraining(isClosed ? nil : waiting)
    queueIsEmpty = waiting == 0
    kept?.clear()
    for process in children.keys { drain(process) }
    // A pool that is paused, or has nobody as long as nobody comes, or has let some go.
    let draining = children.values.count { $0.isDraining }
    for _ in 0..<max(0, min(waiting, pool.workers) - draining) where !startDrainingWorker() { break }
  }

  private mutating func drain(_ process: pid_t) {
    // One that was told to end already may have passed the queue by.
    if let child = children[process], !child.isLeaving { children[process]?.isDraining = true }
    kill(process, SIGTERM)
    // Who is suspended would not hear it.
    kill(process, SIGCONT)
  }

  /// Starts a worker for what nobody else takes: it answers that and ends.
  private mutating func startDrainingWorker() -> Bool {
    guard !backoff.isWaiting(MonotonicClock.now), startWorker() else { return false }
    for (process, child) in children where !child.isDraining && !child.isLeaving { drain(process) }
    return true
  }

  /// Goes on with a drain; the exit code when it is over: 0 when every request that had been accepted was answered, 1 when that
  /// took too long.
  mutating func drain(until deadline: UInt64) -> Int32? {
    kept?.clear()
    if ListeningSocket.waiting(in: listener.number) == 0 { listener.endQueue() }
    if children.isEmpty {
      if startWorkerForFormerQueue() {
        // The one that listens here comes when that has ended.
      } else if !queueIsEmpty || kept?.takeHasHandedOn() == true {
        _ = startDrainingWorker()
      } else if kept?.parked.isEmpty ?? true {
        log.info("stopped")
        return hasBrokenOff ? 1 : 0
      }
    }
    guard MonotonicClock.now >= deadline else { return nil }
    log.error("\(children.count) workers had not ended after \(configuration.drainTimeout): killed")
    for process in children.keys { kill(process, SIGKILL) }
    return 1
  }
}
