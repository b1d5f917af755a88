// The prefork pool's master: binds, forks, replaces what dies, drains. It has one thread and serves no request.

import Glibc
import Logging
import Platform

/// Runs the pool until it is told to stop.
package struct Master {
  private struct Child {
    let slot: Int
    let started: UInt64
  }

  /// A worker that died younger than this is not replaced at once: whatever ended it may end the next one too.
  private static let quickDeath: UInt64 = 1_000_000_000

  private let configuration: SyncConfiguration
  private let log: Logger
  private let signals = SignalSet([SIGTERM, SIGINT, SIGCHLD])
  private var children: [pid_t: Child] = [:]
  /// Slots without a worker, and when they get one (monotonic nanoseconds).
  private var vacant: [Int: UInt64] = [:]

  package init(_ configuration: SyncConfiguration, log: Logger) {
    self.configuration = configuration
    self.log = log
  }

  /// Serves until TERM or INT; the exit code: 0 when every request that had been accepted was answered, 1 when the drain
  /// took too long.
  package mutating func run() throws(ListeningSocket.Failure) -> Int32 {
    let listener = try ListeningSocket(configuration.listen)
    signals.block()
    // Neither means anything here yet, and their default is to kill.
    signal(SIGHUP, SIG_IGN)
    signal(SIGUSR1, SIG_IGN)
    for slot in 0..<configuration.workers { vacant[slot] = 0 }
    log.info("listening on \(configuration.listen) with \(configuration.workers) workers")
    while true {
      fillVacantSlots(listener)
      let signal = signals.wait(timeout: .milliseconds(vacant.isEmpty ? 60_000 : 100))
      reap()
      if signal == SIGTERM || signal == SIGINT { return drain(listener) }
    }
  }

  private mutating func fillVacantSlots(_ listener: borrowing ListeningSocket) {
    let now = MonotonicClock.now
    for (slot, due) in vacant where due <= now {
      do throws(SystemError) {
        let number = listener.number
        let process = try ChildProcess.fork(parentDeathSignal: SIGTERM) { [configuration, log] in
          Worker(configuration, listener: number, log: log).run()
        }
        children[process] = Child(slot: slot, started: now)
        vacant[slot] = nil
      } catch {
        log.error("can't fork a worker: \(error)")
        vacant[slot] = now + Self.quickDeath
      }
    }
  }

  private mutating func reap() {
    while let ending = ChildProcess.reap() {
      guard let child = children.removeValue(forKey: ending.process) else { continue }
      let age = MonotonicClock.now - child.started
      vacant[child.slot] = age < Self.quickDeath ? MonotonicClock.now + Self.quickDeath : 0
      log.warning("worker \(ending.process) \(ending)")
    }
  }

  /// Lets nobody in, lets the workers answer what has come, and waits for them.
  private mutating func drain(_ listener: borrowing ListeningSocket) -> Int32 {
    log.info("draining")
    listener.refuseNewConnections()
    for process in children.keys { kill(process, SIGTERM) }
    let deadline = MonotonicClock.now + configuration.drainTimeout.nanoseconds
    while !children.isEmpty {
      let now = MonotonicClock.now
      guard now < deadline else {
        log.error("\(children.count) workers had not ended after \(configuration.drainTimeout): killed")
        for process in children.keys { kill(process, SIGKILL) }
        return 1
      }
      _ = signals.wait(timeout: .nanoseconds(Int64(min(deadline - now, 1_000_000_000))))
      reap()
    }
    log.info("stopped")
    return 0
  }
}
