// How the master ends: by becoming another program, or by a drain.

import Glibc
import Logging
import Platform

extension Master {
  /// Lets the program as it is now look at the settings as they are now; what it says decides.
  mutating func beginReload() {
    guard check == nil else { return }
    do throws(SystemError) {
      check = try invocation.check()
    } catch {
      log.error("not reloaded, all stays as it is: \(error)")
    }
  }

  /// Becomes the program as it is now. Workers go on serving meanwhile; the new ones come first, then they go.
  mutating func reload(_ ending: ChildProcess.Ending) {
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
  mutating func drain() -> Int32 {
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
