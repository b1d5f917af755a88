// What a start would need, tried without starting: for `--check`, and above all before a reload, after which nobody is left
// who could go back.

import Glibc
import Platform

/// Tries what `Master.init` will do, so that a configuration is called good only if it can be started with.
package enum Rehearsal {
  /// Set for a program that is to be reloaded into: the addresses that are its already, one a line.
  static let variable = "FORKLOOP_BOUND"

  /// Whether this process is the check before a reload.
  package static var isBeforeReload: Bool { getenv(variable) != nil }

  /// Everything that is bound is let go of again. That somebody listens at an address is no fault where a person asks: it may
  /// be the very server that the settings are for.
  package static func run(_ configuration: MasterConfiguration) throws(ListeningSocket.Failure) {
    let bound = getenv(variable).map { String(cString: $0).utf8.split(separator: UInt8(ascii: "\n")).map(String.init) }
    if let path = configuration.daemon.logFile {
      do throws(SystemError) { try LogOutput.check(path) } catch { throw .log(path, error) }
    }
    do throws(SystemError) { try configuration.daemon.applyLimits() } catch { throw .system(nil, error) }
    for address in [configuration.listen, configuration.status].compactMap({ $0 })
    where bound?.contains(address.description) != true {
      do throws(ListeningSocket.Failure) {
        try ListeningSocket.attempt(address)
      } catch {
        if case .inUse = error, bound == nil { continue }
        throw error
      }
    }
  }
}
