// When a worker ends, and how: told to, or since it has served enough.

import CLinux
import Glibc
import Platform
import ProcessPool

extension Worker {
  /// Whether TERM or QUIT has come. While the listener is ready, epoll_pwait returns without letting a signal in: then what
  /// is pending is looked at, now and then between requests, and always if it was ready for nothing, as it is when nobody
  /// is let in any more.
  mutating func isToldToEnd(hasServed: Bool) -> Bool {
    if clinux_flagged() != 0 { return true }
    guard !hasServed || slot.lastAnswer >= nextSignalCheck else { return false }
    nextSignalCheck = slot.lastAnswer + Self.signalInterval
    let pending = SignalSet.pending
    if pending.contains(SIGUSR1), SignalSet([SIGUSR1]).wait(timeout: .zero) != nil { reopenLog() }
    return pending.contains(SIGTERM) || pending.contains(SIGQUIT)
  }

  /// Ends without leaving anybody behind who has been let in.
  mutating func leave(_ waiting: inout WorkerWait) {
    waiting.close()
    // Somebody may have been announced to us just before.
    _ = serveNext()
    if !slot.isGivenUp { _ = serveParked() }
    if slot.isGivenUp { return }
    guard clinux_flagged() == SIGTERM || SignalSet.isPending(SIGTERM) else { return slot.isDraining() }
    let deadline = MonotonicClock.now + configuration.master.drainTimeout.nanoseconds
    // What stands in the queue has been accepted as far as its client can tell.
    while getppid() == context.master, MonotonicClock.now < deadline, !slot.isGivenUp,
      serveParked() || context.scoreboard.mayTakeOneMore() && serveNext() || waitsForDescriptors()
    {}
    slot.isDraining()
  }

  /// Whether a connection may still stand in the queue for which there was no descriptor; waits a little if so.
  mutating func waitsForDescriptors() -> Bool {
    guard isExhausted else { return false }
    isExhausted = false
    usleep(UInt32(Self.pause) * 1_000)
    return true
  }

  /// Whether it is time to give its place to a new worker: never in the middle of a request.
  func hasHadEnough() -> Bool {
    let limit = configuration.master.limits.memory
    let isOld = mostRequests > 0 && slot.requests >= mostRequests
    let isFat =
      limit > 0 && slot.requests > 0 && slot.requests % Self.memoryInterval == 0
      && Memory.resident(of: getpid()) > limit
    guard isOld || isFat else { return false }
    slot.countRecycled()
    return true
  }

  func reopenLog() {
    guard let path = configuration.master.daemon.logFile else { return }
    do throws(SystemError) { try LogOutput.open(path) } catch {
      log.error("the log \(path) can't be reopened: \(error)")
    }
  }
}
