// How the master becomes another program, or itself with other settings.

import Glibc
import Logging
import Platform

extension Master {
  /// Lets the program as it is now look at the settings as they are now, and try what its start will need; what it says decides.
  mutating func beginReload() {
    guard check == nil else { return }
    do throws(SystemError) {
      check = try invocation.check(bound: [listener.address, status?.address].compactMap { $0 })
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
      listener: listener.number, address: listener.address.description, status: status?.listenerNumber ?? -1,
      statusAddress: status?.address.description ?? "", scoreboard: scoreboard.descriptor,
      generation: generation, workers: Array(children.keys))
    inheritance.parking = parking?.descriptors ?? []
    inheritance.parked = Array(parking?.parked ?? [])
    let code = invocation.execute(inheritance)
    ServiceManager.notify("READY=1")
    log.error("not reloaded, all stays as it is: exec: \(String(cString: strerror(code)))")
  }
}
