// Starts the stack's processes in their order, restarts what dies, and stops them in the reverse order.

import CLinux
import Glibc
import Platform

/// Runs services until it is told to stop. One thread; it waits in sigtimedwait.
///
/// Every signal that would end us stops the stack in its order instead, as soon as there is a supervisor; a second one, while
/// that is under way, changes nothing but that it is no longer put off. USR1 goes on to the services that can open their logs anew.
package struct Supervisor: ~Copyable {
  private struct Running {
    let service: Service
    var process: pid_t?
    var started: UInt64 = 0
    var restartAt: UInt64 = 0
    var quickDeaths = 0
  }

  /// Those whose default ends a process, but for faults. The last are real-time signals.
  private static let stopping: [Int32] =
    [
      SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, SIGSTKFLT, SIGXCPU,
    ] + (34...64)
  private static let healthyAge: UInt64 = 10_000_000_000
  /// How long a part of the start may take to end when it is given up.
  private static let stepLimit: UInt64 = 5_000_000_000

  private let signals: SignalSet
  private var running: [Running] = []
  /// The service that is being started, by its index.
  private var starting: Int?
  /// A child that does a part of the start, and what became of it.
  private var step: (process: pid_t, ending: ChildProcess.Ending?)?
  private let say: @Sendable (String) -> Void
  /// Whether a signal to stop has come.
  package private(set) var isAskedToStop = false
  /// Whether that is to be at once: QUIT, or a second signal.
  private var isInHaste = false

  /// `say` gets a line for what a person at the terminal wants to know.
  package init(say: @escaping @Sendable (String) -> Void) {
    self.say = say
    // Where HUP is ignored, somebody wants us to outlive the terminal.
    let stopping = Self.stopping.filter { !SignalSet.isIgnored($0) }
    // TTOU: a terminal that does not let a process in the background write would suspend us.
    signals = SignalSet(stopping + [SIGUSR1, SIGCHLD, SIGTTIN, SIGTTOU])
    signals.block()
  }

  // MARK: Starting

  /// Starts a service and waits until it answers, for as long as it lives.
  package mutating func start(_ service: Service) throws(LocalStackError) {
    running.append(Running(service: service))
    let index = running.count - 1
    starting = index
    defer { starting = nil }
    try launch(index)
    var patience = Patience()
    while !service.readiness.isAnswered(by: running[index].process) {
      if isAskedToStop { return }
      waitForSignal(patience.pause)
      if running[index].process == nil {
        throw LocalStackError("\(service.name) did not start\(service.lastLine) (\(service.log))")
      }
      if let seconds = patience.due {
        say("waiting for \(service.name) to start (\(seconds) s)\(service.lastLine)")
      }
      if patience.isOver { throw LocalStackError("\(service.name) does not answer; see \(service.log)") }
    }
  }

  /// Runs `body` in a process of its own, so that it can be given up when a signal to stop comes, and waits for it.
  package mutating func perform(_ body: () throws(LocalStackError) -> Void) throws(LocalStackError) {
    var ends: [Int32] = [0, 0]
    guard pipe(&ends) == 0 else { throw LocalStackError("no pipe: \(String(cString: strerror(errno)))") }
    let exit = Descriptor(owning: ends[0])
    let entrance = Descriptor(owning: ends[1])
    let process: pid_t
    do throws(SystemError) {
      process = try ChildProcess.fork(parentDeathSignal: SIGKILL) {
        setsid()
        SignalSet([]).becomeMask()
        do throws(LocalStackError) {
          try body()
          return 0
        } catch {
          var text = error.description
          text.withUTF8 { _ = write(entrance.number, $0.baseAddress, $0.count) }
          return 1
        }
      }
    } catch {
      throw LocalStackError("\(error)")
    }
    _ = consume entrance
    guard let ending = wait(for: process), ending.exitCode != 0 else { return }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = max(0, read(exit.number, &bytes, bytes.count))
    let text = String(decoding: bytes[..<count], as: UTF8.self)
    throw LocalStackError(text.isEmpty ? "a part of the start \(ending)" : text)
  }

  /// Waits for a child that does a part of the start. When a signal to stop comes it is told to end: then nil.
  package mutating func wait(for process: pid_t) -> ChildProcess.Ending? {
    step = (process, nil)
    defer { step = nil }
    var toldAt: UInt64?
    while step?.ending == nil {
      waitForSignal(.milliseconds(100))
      guard isAskedToStop, step?.ending == nil else { continue }
      let isDeaf = toldAt.map { MonotonicClock.now - $0 > Self.stepLimit } ?? false
      if toldAt == nil || isDeaf {
        for target in [process, -process] { kill(target, isDeaf ? SIGKILL : SIGTERM) }
      }
      toldAt = toldAt ?? MonotonicClock.now
    }
    return isAskedToStop ? nil : step?.ending
  }

  /// Waits until the processes of an `up` that was killed have ended.
  package mutating func outwaitLeftovers(in folders: Folders) throws(LocalStackError) {
    let leftovers = Leftovers(of: folders)
    var patience = Patience()
    var hasSaid = false
    while !isAskedToStop {
      let left = leftovers.processes()
      if left.isEmpty {
        if leftovers.removeStaleLocks() { say("removed the lock of a PostgreSQL that is not there any more") }
        return
      }
      let names = left.map { "\($0.name) (\($0.id))" }.joined(separator: ", ")
      if patience.due != nil || !hasSaid { say("waiting for \(names) of the 'forkloop up' before to end") }
      hasSaid = true
      let isEnding = leftovers.postgresIsStopping || left.contains { $0.name != "postgres" }
      if patience.isOver || (!isEnding && patience.seconds >= 10) {
        throw LocalStackError("\(names) on \(folders.state) is still there, and does not end: stop it first")
      }
      waitForSignal(.milliseconds(50))
    }
  }

  // MARK: Supervising

  /// Restarts what dies, until it is told to stop.
  package mutating func supervise() {
    while !isAskedToStop {
      for index in running.indices where running[index].process == nil && running[index].restartAt <= MonotonicClock.now
      {
        do throws(LocalStackError) {
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

  /// Tells the services that can do so to announce that they will stop, and leaves everything up for `delay`; not so long if another
  /// signal to stop comes.
  package mutating func announceStop(for delay: Duration) {
    if isInHaste { return }
    for part in running {
      if let process = part.process, let signal = part.service.announcementSignal { kill(process, signal) }
    }
    let end = MonotonicClock.now + delay.nanoseconds
    while !isInHaste, MonotonicClock.now < end { waitForSignal(.milliseconds(100)) }
  }

  /// Stops everything, the last started first, each given time to finish. False if something had to be killed.
  package mutating func stop() -> Bool {
    isAskedToStop = true
    var wasOrderly = true
    for index in running.indices.reversed() {
      guard let process = running[index].process else { continue }
      let service = running[index].service
      kill(process, service.stopSignal)
      // Who is suspended would not hear it.
      kill(-process, SIGCONT)
      var patience = Patience(limit: service.stopLimit)
      var isKilled = false
      while running[index].process != nil {
        if let seconds = patience.due, !isKilled { say("waiting for \(service.name) to stop (\(seconds) s)") }
        if patience.isOver, !isKilled {
          say("\(service.name) did not stop: killed")
          kill(process, SIGKILL)
          isKilled = true
          wasOrderly = false
        }
        waitForSignal(.milliseconds(20))
      }
    }
    return wasOrderly
  }

  // MARK: Processes

  private mutating func launch(_ index: Int) throws(LocalStackError) {
    let service = running[index].service
    service.makeLog()
    // A PostgreSQL told to stop by TERM waits for its clients; what outlives us should not.
    let deathSignal =
      service.stopSignal == SIGINT || service.announcementSignal != nil ? service.stopSignal : SIGTERM
    do throws(SystemError) {
      running[index].process = try ChildProcess.start(
        service.arguments, environment: service.environment, as: service.account, log: service.log,
        parentDeathSignal: deathSignal)
    } catch {
      throw LocalStackError("can't start \(service.name): \(error)")
    }
    running[index].started = MonotonicClock.now
  }

  private mutating func waitForSignal(_ timeout: Duration) {
    switch signals.wait(timeout: timeout) {
    case nil, SIGCHLD, SIGTTIN, SIGTTOU: break
    case SIGUSR1: reopenLogs()
    case let signal?:
      isInHaste = isAskedToStop || signal == SIGQUIT
      isAskedToStop = true
    }
    while let ending = ChildProcess.reap() {
      if ending.process == step?.process { step?.ending = ending }
      guard let index = running.firstIndex(where: { $0.process == ending.process }) else { continue }
      running[index].process = nil
      // What a service that was killed has left behind would keep its sockets: nginx's workers, for one.
      kill(-ending.process, SIGKILL)
      let age = MonotonicClock.now - running[index].started
      running[index].quickDeaths = age < Self.healthyAge ? running[index].quickDeaths + 1 : 0
      let pause: UInt64 = age < Self.healthyAge ? 250_000_000 << UInt64(min(running[index].quickDeaths, 5)) : 0
      running[index].restartAt = MonotonicClock.now + pause
      if !isAskedToStop, index != starting {
        say("\(running[index].service.name) \(ending); see \(running[index].service.log)")
      }
    }
  }

  /// Only those that answer: before that, the signal would end them.
  private func reopenLogs() {
    for part in running {
      guard let process = part.process, let signal = part.service.reopenSignal,
        part.service.readiness.isAnswered(by: process)
      else { continue }
      part.service.makeLog()
      kill(process, signal)
    }
  }
}

/// How long something has been waited for, when that is to be told, and when it has been long enough.
struct Patience {
  private let began = MonotonicClock.now
  private let limit: UInt64
  private var tellAt: UInt64
  private static let interval: UInt64 = 5_000_000_000

  /// Ten minutes, unless another limit is given: a recovery after a crash, or a checkpoint before an end, may take as long.
  init(limit: UInt64 = 600_000_000_000) {
    self.limit = limit
    tellAt = began + Self.interval
  }

  var isOver: Bool { MonotonicClock.now - began > limit }
  var seconds: UInt64 { (MonotonicClock.now - began) / 1_000_000_000 }

  /// Until the next look.
  var pause: Duration { seconds < 2 ? .milliseconds(10) : .milliseconds(200) }

  /// The seconds that have passed, every five of them.
  var due: UInt64? {
    mutating get {
      guard MonotonicClock.now >= tellAt else { return nil }
      tellAt += Self.interval
      return seconds
    }
  }
}
