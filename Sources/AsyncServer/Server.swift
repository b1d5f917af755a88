// The event-loop responder: one thread, one loop, and everything on it as tasks.

import CLinux
import EventLoop
import Glibc
import Logging
import Platform
import Shop

/// Accepts connections and looks after them until it is told to stop.
///
/// Unchecked Sendable: made and used on its loop's thread only.
package final class Server: @unchecked Sendable {
  let configuration: AsyncConfiguration
  let loop: EventLoop
  let log: Logger
  let pool: DatabasePool
  let shop = Shop(mode: .async)
  /// Where every connection reads into: one buffer for all of them, since what was read is used up before anybody else
  /// gets a turn.
  let readBuffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 128 << 10, alignment: 16)

  private let listener: ListeningSocket
  private let listenerWatch: Watch
  private let signalDescriptor: Descriptor
  private let signalWatch: Watch
  private(set) var isDraining = false
  private var exitCode: Int32 = 0
  private var connections: [ObjectIdentifier: ClientConnection] = [:]

  /// How long an idle connection may still be used after TERM before it is closed.
  private static let idleGrace = Duration.milliseconds(500)
  /// How often time limits are looked after.
  private static let sweepInterval = Duration.seconds(1)

  package enum Failure: Error, CustomStringConvertible {
    case listening(ListeningSocket.Failure)
    case system(SystemError)

    package var description: String {
      switch self {
      case .listening(let failure): "\(failure)"
      case .system(let error): "\(error)"
      }
    }
  }

  /// Listens, on the calling thread, which should be the main one and alone: signals are blocked here.
  package init(_ configuration: AsyncConfiguration, log: Logger) throws(Failure) {
    self.configuration = configuration
    self.log = log
    let signals = SignalSet([SIGTERM, SIGINT])
    signals.block()
    // Neither means anything here yet, and their default is to kill.
    signal(SIGHUP, SIG_IGN)
    signal(SIGUSR1, SIG_IGN)
    do throws(ListeningSocket.Failure) {
      listener = try ListeningSocket(configuration.listen)
    } catch {
      throw .listening(error)
    }
    do throws(SystemError) {
      loop = try EventLoop()
      signalDescriptor = try signals.descriptor()
      listenerWatch = try loop.watch(listener.number, for: [], edgeTriggered: false)
      signalWatch = try loop.watch(signalDescriptor.number, for: .readable, edgeTriggered: false)
    } catch {
      throw .system(error)
    }
    pool = DatabasePool(configuration, shop: shop, loop: loop, log: log)
  }

  deinit { readBuffer.deallocate() }

  /// Serves until TERM or INT; the exit code: 0 when every request that had been accepted was answered, 1 when the drain
  /// took too long.
  package func run() -> Int32 {
    // A connection is one.
    Descriptor.raiseLimit()
    Task(executorPreference: loop) { await self.serve() }
    loop.run()
    listener.removePath()
    return exitCode
  }

  private func serve() async {
    await withDiscardingTaskGroup { group in
      for connection in pool.connections { group.addTask { await connection.run() } }
      group.addTask { await self.sweep() }
      group.addTask { await self.waitForSignal() }
      await pool.firstAttempts { isDraining }
      accepts(true)
      log.info("listening on \(configuration.listen) with \(pool.connections.count) database connections")
      while !isDraining {
        await listenerWatch.readable()
        if !isDraining { await acceptAll(into: &group) }
      }
      listener.refuseNewConnections()
      await acceptAll(into: &group)
      // From now on it would be ready for ever.
      listenerWatch.cancel()
      exitCode = await drain()
      // The tasks that go on for ever end with the process: the group would wait for them.
      loop.stop()
    }
  }

  private func waitForSignal() async {
    await signalWatch.readable()
    // A second one changes nothing.
    signalWatch.cancel()
    isDraining = true
    listenerWatch.interrupt()
  }

  /// Whether the loop looks at the listening socket: not where nobody would accept.
  private func accepts(_ on: Bool) {
    do throws(SystemError) { try listenerWatch.change(to: on ? .readable : []) } catch { log.error("\(error)") }
  }

  /// Accepts whoever waits. Each connection is a task.
  private func acceptAll(into group: inout DiscardingTaskGroup) async {
    while true {
      let number = clinux_accept(listener.number, 1)
      if number >= 0 {
        let descriptor = Descriptor(owning: number)
        guard let connection = ClientConnection(owning: descriptor, server: self) else { continue }
        connections[ObjectIdentifier(connection)] = connection
        group.addTask {
          await connection.serve()
          self.connections[ObjectIdentifier(connection)] = nil
        }
        continue
      }
      switch errno {
      case EINTR, ECONNABORTED: continue
      case EMFILE, ENFILE, ENOBUFS, ENOMEM:
        log.warning("can't accept: \(String(cString: strerror(errno)))")
        accepts(false)
        await loop.sleep(.milliseconds(100))
        accepts(true)
        return
      default: return
      }
    }
  }

  /// Looks after time limits, once a second: a clock for each request would cost more than it is worth.
  private func sweep() async {
    while true {
      await loop.sleep(Self.sweepInterval)
      let now = MonotonicClock.now
      for connection in connections.values { connection.enforceTimeLimit(now) }
      pool.enforceTimeLimits(now)
    }
  }

  /// Waits until everybody has been answered: 0; or until the time for it is over: 1.
  private func drain() async -> Int32 {
    log.info("draining \(connections.count) connections")
    let deadline = MonotonicClock.now + configuration.drainTimeout.nanoseconds
    let graceEnd = MonotonicClock.now + Self.idleGrace.nanoseconds
    while !connections.isEmpty {
      let now = MonotonicClock.now
      if now >= deadline {
        log.error("\(connections.count) connections had not ended after \(configuration.drainTimeout): closed")
        return 1
      }
      if now >= graceEnd {
        for connection in connections.values { connection.closeIfIdle() }
      }
      await loop.sleep(.milliseconds(10))
    }
    log.info("stopped")
    return 0
  }
}
