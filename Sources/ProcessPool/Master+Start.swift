// What the master begins with: its own, or what the program before it has left.

import CLinux
import Glibc
import Logging
import Platform

extension Master {
  static func make<Value: ~Copyable>(
    _ body: () throws(SystemError) -> Value
  ) throws(ListeningSocket.Failure) -> Value {
    do throws(SystemError) { return try body() } catch { throw .system(nil, error) }
  }

  /// Does what a program that was executed for a reload can do without: its workers serve, and go on. The check before
  /// the reload has found nothing, so that this is rare: something has changed in the moment between.
  static func tryOrGoOn(
    _ inheritance: Inheritance?, _ log: Logger, _ body: () throws(ListeningSocket.Failure) -> Void
  ) throws(ListeningSocket.Failure) {
    do throws(ListeningSocket.Failure) {
      try body()
    } catch {
      guard inheritance != nil else { throw error }
      log.error("reloaded without this: \(error)")
    }
  }

  /// Takes a socket over if it is bound to `address`, and binds one otherwise. After a reload one that can't be bound is not worth
  /// letting go of the one that we have: that is gone on with, where it is.
  static func listen(
    _ address: ListenAddress, _ backlog: Int32, _ inherited: Int32?, _ bound: String?, _ setting: String, _ log: Logger
  ) throws(ListeningSocket.Failure) -> ListeningSocket {
    guard let inherited, inherited >= 0, let bound, let former = try? ListenAddress(bound) else {
      return try ListeningSocket(address, backlog: backlog)
    }
    if address.isSame(as: former) {
      return try ListeningSocket(adopting: inherited, boundTo: address, backlog: backlog)
    }
    do throws(ListeningSocket.Failure) {
      return try ListeningSocket(address, backlog: backlog)
    } catch {
      log.error("reloaded without \(setting), which stays \(former): \(error)")
      return try ListeningSocket(adopting: inherited, boundTo: former, backlog: backlog)
    }
  }

  static func statusServer(
    _ address: ListenAddress?, _ inheritance: Inheritance?, _ roots: [String], _ log: Logger
  ) throws(ListeningSocket.Failure) -> StatusServer? {
    var server: StatusServer?
    if let address {
      try tryOrGoOn(inheritance, log) { () throws(ListeningSocket.Failure) in
        server = StatusServer(
          owning: try listen(
            address, ListeningSocket.longestQueue, inheritance?.status, inheritance?.statusAddress, "--status-listen",
            log),
          roots: roots)
      }
    }
    // Nobody would be answered where the program before us has, if that was elsewhere.
    if let inheritance, inheritance.status >= 0, server?.listenerNumber != inheritance.status,
      let former = try? ListenAddress(inheritance.statusAddress)
    {
      try ListeningSocket(adopting: inheritance.status, boundTo: former).removePath()
    }
    return server
  }

  static func scoreboard(_ inheritance: Inheritance?) throws(SystemError) -> Scoreboard {
    if let inheritance, let scoreboard = try Scoreboard(inherited: inheritance.scoreboard) {
      clinux_set_close_on_exec(inheritance.scoreboard, 1)
      return scoreboard
    }
    guard let scoreboard = try Scoreboard() else { throw SystemError("mmap", code: EINVAL) }
    return scoreboard
  }

  /// One that was left to us is gone on with even where connections are no longer kept: somebody stands in it.
  static func keptConnections(
    _ configuration: MasterConfiguration, _ inheritance: Inheritance?
  ) throws(SystemError) -> KeptConnections? {
    if let inheritance, !inheritance.kept.isEmpty {
      return try KeptConnections(descriptors: inheritance.kept, parked: inheritance.parked)
    }
    return configuration.keepsConnections ? try KeptConnections() : nil
  }

  /// Takes over the workers of the program before us.
  mutating func adopt(_ inheritance: Inheritance) {
    scoreboard.header.pointee.reloads.wrappingAdd(1, ordering: .relaxed)
    let reports = scoreboard.reports()
    for process in inheritance.workers {
      let report = reports.first { $0.process == process }
      children[process] = Child(
        slot: report?.slot, generation: report?.generation ?? inheritance.generation,
        started: report?.started ?? MonotonicClock.now)
    }
    // Where nobody listens any more, what has come is answered, and no more comes.
    for former in inheritance.formers { adoptFormer(former.number, former.address) }
    movedAt = inheritance.movedAt
    guard listener.number != inheritance.listener, let former = adoptFormer(inheritance.listener, inheritance.address)
    else { return }
    movedAt = generation
    let isClosed = former.socket.refuseNewConnections()
    scoreboard.allowDraining(isClosed ? nil : ListeningSocket.waiting(in: former.socket.number))
  }

  @discardableResult
  private mutating func adoptFormer(_ number: Int32, _ address: String) -> FormerListener? {
    guard let address = try? ListenAddress(address) else { return nil }
    do throws(ListeningSocket.Failure) {
      let former = FormerListener(try ListeningSocket(adopting: number, boundTo: address))
      formerListeners.append(former)
      return former
    } catch {
      log.error("\(error)")
      return nil
    }
  }
}
