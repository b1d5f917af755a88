// What a start would need, tried without starting: for `--check`, and above all before a reload, after which nobody is left
// who could go back.

import Glibc
import Platform

/// Tries what `Master.init` will do, so that a configuration is called good only if it can be started with.
package enum Rehearsal {
  /// Set for a program that is to be reloaded into: where its server is already, and where its status, a line each.
  package static let variable = "FORKLOOP_BOUND"

  /// Whether this process is the check before a reload.
  package static var isBeforeReload: Bool { getenv(variable) != nil }

  /// Everything that is bound is let go of again. That somebody listens at an address is no fault where a person asks: it may
  /// be the very server that the settings are for.
  package static func run(_ configuration: MasterConfiguration) throws(ListeningSocket.Failure) {
    let bound = getenv(variable).map { String(cString: $0).parts(by: "\n").map(String.init) }
    try run(configuration.daemon)
    var server: ListeningSocket?
    if !isSame(configuration.listen, as: bound?.first) {
      server = try bind(configuration.listen, toleratesUse: bound == nil)
    }
    defer { server?.removePath() }
    guard let status = configuration.status, !isSame(status, as: bound?.dropFirst().first) else { return }
    // While the server has its place: both may be spellings of one.
    if let socket = try bind(status, toleratesUse: bound == nil) { return socket.removePath() }
    guard server != nil else { return }
    server?.removePath()
    server = nil
    if let socket = try bind(status, toleratesUse: true) {
      socket.removePath()
      throw .inUse("\(status)")
    }
  }

  /// Without what is to be bound: for whoever will make the folder of that first.
  package static func run(_ daemon: DaemonConfiguration) throws(ListeningSocket.Failure) {
    if let path = daemon.logFile {
      do throws(SystemError) { try LogOutput.check(path) } catch { throw .log(path, error) }
    }
    do throws(SystemError) { try daemon.applyLimits() } catch { throw .system(nil, error) }
  }

  /// Whether that is bound already, whatever it was called then.
  private static func isSame(_ address: ListenAddress, as bound: String?) -> Bool {
    guard let bound, let former = try? ListenAddress(bound) else { return false }
    return address.isSame(as: former)
  }

  /// Nil if there is nothing to bind, or somebody else is there and may be.
  private static func bind(
    _ address: ListenAddress, toleratesUse: Bool
  ) throws(ListeningSocket.Failure) -> ListeningSocket? {
    do throws(ListeningSocket.Failure) {
      return try ListeningSocket.attempt(address)
    } catch {
      if case .inUse = error, toleratesUse { return nil }
      throw error
    }
  }
}
