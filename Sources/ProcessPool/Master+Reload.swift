// How the master becomes another program, or itself with other settings.

import Glibc
import Logging
import Platform

extension Master {
  /// How long a check may take.
  private static let checkLimit: UInt64 = 60_000_000_000

  /// Goes on with what was asked for. Whoever asks while the settings are being looked at may have changed them since: then they
  /// are looked at once more.
  mutating func lookAfterReload() {
    guard check == nil else {
      if MonotonicClock.now >= checkDeadline {
        log.error("the check before the reload has not ended within \(Self.checkLimit / 1_000_000_000) s: killed")
        endCheck()
      }
      return
    }
    guard wantsReload else { return }
    wantsReload = false
    beginReload()
  }

  /// Lets the program as it is now look at the settings as they are now, and try what its start will need; what it says decides.
  private mutating func beginReload() {
    do throws(SystemError) {
      check = try invocation.check(listen: listener.address, status: status?.address)
      checkDeadline = MonotonicClock.now + Self.checkLimit
    } catch {
      log.error("not reloaded, all stays as it is: \(error)")
    }
  }

  /// Ends a check that is under way, and what it has started: it has a session of its own.
  mutating func endCheck() {
    guard let check else { return }
    checkDeadline = .max
    for target in [check, -check] { kill(target, SIGKILL) }
  }

  /// Becomes the program as it is now. Workers go on serving meanwhile; the new ones come first, then they go.
  mutating func reload(_ ending: ChildProcess.Ending) {
    guard ending.exitCode == 0 else {
      return log.error("not reloaded, all stays as it is: the new program \(ending), see above")
    }
    if wantsReload { return }
    log.info("reloading")
    finishStatus()
    // Type=notify-reload: since when, on the clock that the service manager has (sd_notify(3)).
    ServiceManager.notify("RELOADING=1\nMONOTONIC_USEC=\(MonotonicClock.now / 1000)")
    kept?.serve()
    var inheritance = Inheritance(
      listener: listener.number, address: listener.address.description, status: status?.listenerNumber ?? -1,
      statusAddress: status?.address.description ?? "", scoreboard: scoreboard.descriptor,
      generation: generation, workers: Array(children.keys))
    inheritance.movedAt = movedAt
    inheritance.formers = formerListeners.map { .init(number: $0.socket.number, address: "\($0.socket.address)") }
    inheritance.kept = kept?.descriptors ?? []
    inheritance.parked = Array(kept?.parked ?? [])
    let code = invocation.execute(inheritance)
    ServiceManager.notify("READY=1")
    log.error("not reloaded, all stays as it is: exec: \(String(cString: strerror(code)))")
  }
}
