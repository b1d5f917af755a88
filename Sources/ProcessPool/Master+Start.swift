// What the master begins with: its own, or what the program before it has left.

import CLinux
import Glibc
import Platform

extension Master {
  static func make<Value: ~Copyable>(
    _ body: () throws(SystemError) -> Value
  ) throws(ListeningSocket.Failure) -> Value {
    do throws(SystemError) { return try body() } catch { throw .system(nil, error) }
  }

  /// Takes a socket over if it is bound to `address`, and binds one otherwise.
  static func listen(
    _ address: ListenAddress, _ inherited: Int32?, _ bound: String?
  ) throws(ListeningSocket.Failure) -> ListeningSocket {
    if let inherited, inherited >= 0, bound == address.description {
      return try ListeningSocket(adopting: inherited, boundTo: address)
    }
    return try ListeningSocket(address)
  }

  static func statusServer(
    _ address: ListenAddress?, _ inheritance: Inheritance?
  ) throws(ListeningSocket.Failure) -> StatusServer? {
    guard let address else { return nil }
    return StatusServer(owning: try listen(address, inheritance?.status, inheritance?.statusAddress))
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
  static func parkingLot(
    _ configuration: MasterConfiguration, _ inheritance: Inheritance?
  ) throws(SystemError) -> ParkingLot? {
    if configuration.keepsConnections { Descriptor.raiseLimit() }
    if let inheritance, !inheritance.parking.isEmpty {
      return try ParkingLot(descriptors: inheritance.parking, parked: inheritance.parked)
    }
    return configuration.keepsConnections ? try ParkingLot() : nil
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
    if !sameAddress { shutdown(inheritance.listener, Int32(SHUT_RD)) }
  }
}
