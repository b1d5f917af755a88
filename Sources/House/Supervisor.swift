// Starts the house's processes in their order, restarts what dies, and stops them in the reverse order.

import CLinux
import Glibc
import Platform

/// A process that belongs to the house.
package struct Service: Sendable {
  package let name: String
  package let arguments: [String]
  package let environment: [String: String]
  package let account: Account?
  /// Where its output goes.
  package let log: String
  /// Tells it to finish what it has begun and stop.
  package let stopSignal: Int32
  /// How long that may take, in nanoseconds.
  package let stopLimit: UInt64
  /// Where it answers once it is ready.
  package let readiness: Readiness

  package enum Readiness: Sendable {
    case unix(String)
    case tcp(UInt16)
  }

  package init(
    _ name: String, _ arguments: [String], environment: [String: String], as account: Account?, log: String,
    stopSignal: Int32, stopLimit: UInt64 = 40_000_000_000, readiness: Readiness
  ) {
    self.name = name
    self.arguments = arguments
    self.environment = environment
    self.account = account
    self.log = log
    self.stopSignal = stopSignal
    self.stopLimit = stopLimit
    self.readiness = readiness
  }
}

/// Runs services until it is told to stop. One thread; it waits in sigtimedwait.
package struct Supervisor: ~Copyable {
  private struct Running {
    let service: Service
    var process: pid_t?
    var started: UInt64 = 0
    var restartAt: UInt64 = 0
    var quickDeaths = 0
  }

  private static let signals = SignalSet([SIGTERM, SIGINT, SIGCHLD])
  private static let startLimit: UInt64 = 30_000_000_000
  private static let healthyAge: UInt64 = 10_000_000_000

  private var running: [Running] = []
  private let say: @Sendable (String) -> Void
  /// Whether TERM or INT has come.
  package private(set) var isAskedToStop = false

  /// `say` gets a line for what a person at the terminal wants to know.
  package init(say: @escaping @Sendable (String) -> Void) {
    self.say = say
    Self.signals.block()
  }

  /// Starts a service and waits until it answers.
  package mutating func start(_ service: Service) throws(HouseError) {
    running.append(Running(service: service))
    let index = running.count - 1
    try launch(index)
    let deadline = MonotonicClock.now + Self.startLimit
    while !Self.answers(service.readiness) {
      if isAskedToStop { return }
      waitForSignal(.milliseconds(10))
      if running[index].process == nil {
        let lastLine = readText(service.log)?.split(separator: "\n").last.map { ": \($0)" } ?? ""
        throw HouseError("\(service.name) did not start\(lastLine) (\(service.log))")
      }
      if MonotonicClock.now > deadline { throw HouseError("\(service.name) does not answer; see \(service.log)") }
    }
  }

  /// Restarts what dies, until TERM or INT.
  package mutating func supervise() {
    while !isAskedToStop {
      for index in running.indices where running[index].process == nil && running[index].restartAt <= MonotonicClock.now
      {
        do throws(HouseError) {
          try launch(index)
          say("restarted \(running[index].service.name)")
        } catch {
          say("\(error)")
          running[index].restartAt = MonotonicClock.now + 1_000_000_000
        }
      }
      waitForSignal(running.contains { $0.process == nil } ? .milliseconds(50) : .seconds(3600))
    }
  }

  /// Stops everything, the last started first, each given time to finish. False if something had to be killed.
  package mutating func stop() -> Bool {
    isAskedToStop = true
    var wasOrderly = true
    for index in running.indices.reversed() {
      guard let process = running[index].process else { continue }
      kill(process, running[index].service.stopSignal)
      let deadline = MonotonicClock.now + running[index].service.stopLimit
      while running[index].process != nil {
        if MonotonicClock.now > deadline {
          say("\(running[index].service.name) did not stop: killed")
          kill(process, SIGKILL)
          wasOrderly = false
        }
        waitForSignal(.milliseconds(20))
      }
    }
    return wasOrderly
  }

  private mutating func launch(_ index: Int) throws(HouseError) {
    let service = running[index].service
    // A PostgreSQL told to stop by TERM waits for its clients; what outlives us should not.
    let deathSignal = service.stopSignal == SIGINT ? SIGINT : SIGTERM
    do throws(SystemError) {
      running[index].process = try ChildProcess.start(
        service.arguments, environment: service.environment, as: service.account, log: service.log,
        parentDeathSignal: deathSignal)
    } catch {
      throw HouseError("can't start \(service.name): \(error)")
    }
    running[index].started = MonotonicClock.now
  }

  private mutating func waitForSignal(_ timeout: Duration) {
    switch Self.signals.wait(timeout: timeout) {
    case SIGTERM, SIGINT: isAskedToStop = true
    default: break
    }
    while let ending = ChildProcess.reap() {
      guard let index = running.firstIndex(where: { $0.process == ending.process }) else { continue }
      running[index].process = nil
      // What a service that was killed has left behind would keep its sockets: nginx's workers, for one.
      kill(-ending.process, SIGKILL)
      let age = MonotonicClock.now - running[index].started
      running[index].quickDeaths = age < Self.healthyAge ? running[index].quickDeaths + 1 : 0
      let pause: UInt64 = age < Self.healthyAge ? 250_000_000 << UInt64(min(running[index].quickDeaths, 5)) : 0
      running[index].restartAt = MonotonicClock.now + pause
      if !isAskedToStop { say("\(running[index].service.name) \(ending); see \(running[index].service.log)") }
    }
  }

  /// Whether somebody accepts connections there.
  package static func answers(_ readiness: Service.Readiness) -> Bool {
    switch readiness {
    case .unix(let path):
      var address = sockaddr_un()
      address.sun_family = sa_family_t(AF_UNIX)
      withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix(ListenAddress.longestPath)) }
      return connects(AF_UNIX, &address)
    case .tcp(let port):
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = port.bigEndian
      address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
      return connects(AF_INET, &address)
    }
  }

  private static func connects<Address>(_ family: Int32, _ address: inout Address) -> Bool {
    let number = clinux_stream_socket(family, 0)
    guard number >= 0 else { return false }
    let descriptor = Descriptor(owning: number)
    return withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor.number, $0, socklen_t(MemoryLayout<Address>.size))
      } == 0
    }
  }
}
