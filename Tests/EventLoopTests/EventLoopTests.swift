import Glibc
import Platform
import Testing

@testable import EventLoop

/// What a test's tasks tell it. Only the loop's thread writes, and the test reads when the loop has ended.
private final class Notes: @unchecked Sendable {
  var lines: [String] = []
}

/// Runs `body` on a loop with a thread of its own, until it returns: a loop blocks its thread, and the tests' own threads
/// are few and shared.
private func onLoop(
  clock: EventLoop.Clock = .monotonic, _ body: @escaping @Sendable (EventLoop) async -> Void
) async throws {
  let failure: SystemError? = await withCheckedContinuation { continuation in
    detachThread {
      do throws(SystemError) {
        let loop = try EventLoop(clock: clock)
        Task(executorPreference: loop) {
          await body(loop)
          loop.stop()
        }
        loop.run()
        continuation.resume(returning: nil)
      } catch {
        continuation.resume(returning: error)
      }
    }
  }
  if let failure { throw failure }
}

private func detachThread(_ body: @escaping @Sendable () -> Void) {
  final class Start {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
  var thread = pthread_t()
  pthread_create(
    &thread, nil,
    { start in
      start.map { Unmanaged<Start>.fromOpaque($0).takeRetainedValue().body() }
      return nil
    }, Unmanaged.passRetained(Start(body)).toOpaque())
  pthread_detach(thread)
}

private func socketPair() -> (Int32, Int32) {
  var pair: [Int32] = [0, 0]
  socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0, &pair)
  return (pair[0], pair[1])
}

@Suite("EventLoop")
struct EventLoopTests {
  @Test("runs tasks and their children on its own thread")
  func thread() async throws {
    let notes = Notes()
    try await onLoop { loop in
      let thread = UInt(pthread_self())
      await withTaskGroup(of: Void.self) { group in
        for number in 0..<10 {
          group.addTask {
            notes.lines.append(UInt(pthread_self()) == thread && loop.isCurrent ? "here" : "child \(number) elsewhere")
          }
        }
      }
    }
    #expect(notes.lines == Array(repeating: "here", count: 10))
  }

  @Test("lets a task continue when its descriptor can be read")
  func readable() async throws {
    let (here, there) = socketPair()
    defer { close(here) }
    let notes = Notes()
    try await onLoop { loop in
      guard let watch = try? loop.watch(here, for: [.readable, .hungUp], edgeTriggered: true) else { return }
      await withTaskGroup(of: Void.self) { group in
        group.addTask {
          var byte: UInt8 = 0
          while true {
            switch read(here, &byte, 1) {
            case 1: notes.lines.append("read \(byte)")
            case 0:
              notes.lines.append("end")
              return watch.cancel()
            default: await watch.readable()
            }
          }
        }
        group.addTask {
          for byte: UInt8 in [1, 2, 3] {
            await loop.sleep(.milliseconds(2))
            notes.lines.append("write \(byte)")
            _ = withUnsafeBytes(of: byte) { write(there, $0.baseAddress, 1) }
          }
          close(there)
        }
      }
    }
    #expect(notes.lines.filter { !$0.hasPrefix("write") } == ["read 1", "read 2", "read 3", "end"])
  }

  @Test("remembers readiness that came while nobody waited")
  func pending() async throws {
    let (here, there) = socketPair()
    defer {
      close(here)
      close(there)
    }
    let notes = Notes()
    try await onLoop { loop in
      guard let watch = try? loop.watch(here, for: .readable, edgeTriggered: true) else { return }
      _ = write(there, "x", 1)
      await loop.sleep(.milliseconds(5))
      await watch.readable()
      notes.lines.append("woken")
      watch.cancel()
    }
    #expect(notes.lines == ["woken"])
  }

  @Test("waits until a full socket takes bytes again")
  func writable() async throws {
    let (here, there) = socketPair()
    defer {
      close(here)
      close(there)
    }
    let notes = Notes()
    try await onLoop { loop in
      guard let watch = try? loop.watch(here, for: .writable, edgeTriggered: true) else { return }
      await watch.writable()
      let block = [UInt8](repeating: 0, count: 64 << 10)
      while write(here, block, block.count) > 0 {}
      await withTaskGroup(of: Void.self) { group in
        group.addTask {
          await watch.writable()
          notes.lines.append("writable")
        }
        group.addTask {
          await loop.sleep(.milliseconds(3))
          notes.lines.append("drained")
          var room = [UInt8](repeating: 0, count: 64 << 10)
          while read(there, &room, room.count) > 0 {}
        }
      }
      watch.cancel()
    }
    #expect(notes.lines == ["drained", "writable"])
  }

  @Test("reports once more what is the case when a watch is changed, and then changes only")
  func changed() async throws {
    let (here, there) = socketPair()
    defer {
      close(here)
      close(there)
    }
    let notes = Notes()
    try await onLoop { loop in
      guard let watch = try? loop.watch(here, for: .readable, edgeTriggered: true) else { return }
      _ = write(there, "x", 1)
      await watch.readable()
      try? watch.change(to: [.readable, .writable])
      await watch.writable()
      notes.lines.append("writable")
      await watch.readable()
      notes.lines.append("readable")
      let turns = loop.health.turns.count
      await loop.sleep(.milliseconds(20))
      notes.lines.append(loop.health.turns.count - turns < 5 ? "quiet" : "woken up again and again")
      watch.cancel()
    }
    #expect(notes.lines == ["writable", "readable", "quiet"])
  }

  @Test("lets a reader come to the end when bytes and hang-up came as one event")
  func bytesAndHangUp() async throws {
    let (here, there) = socketPair()
    defer { close(here) }
    let notes = Notes()
    try await onLoop { loop in
      guard let watch = try? loop.watch(here, for: [.readable, .hungUp], edgeTriggered: true) else { return }
      _ = write(there, "xy", 2)
      close(there)
      var room = [UInt8](repeating: 0, count: 100)
      for _ in 0..<2 {
        await watch.readable()
        notes.lines.append("read \(read(here, &room, room.count))")
      }
      watch.cancel()
    }
    #expect(notes.lines == ["read 2", "read 0"])
  }

  @Test("tells of a hang-up, once, and lets everybody continue on cancel")
  func hangUp() async throws {
    let (here, there) = socketPair()
    defer { close(here) }
    let notes = Notes()
    try await onLoop { loop in
      guard let watch = try? loop.watch(here, for: [.readable, .hungUp], edgeTriggered: true) else { return }
      watch.onHangUp = { notes.lines.append("hung up") }
      close(there)
      await loop.sleep(.milliseconds(5))
      notes.lines.append("\(watch.isHungUp)")
      watch.cancel()
      await watch.readable()
      notes.lines.append("continued")
    }
    #expect(notes.lines == ["hung up", "true", "continued"])
  }

  @Test("tells apart a peer that has closed one side and one that has closed both, if it is to")
  func halfClosed() async throws {
    let (here, there) = socketPair()
    defer { close(here) }
    let notes = Notes()
    try await onLoop { loop in
      guard let watch = try? loop.watch(here, for: [.readable, .hungUp], edgeTriggered: true) else { return }
      watch.hangUp = .closed
      watch.onHangUp = { notes.lines.append("hung up") }
      shutdown(there, Int32(SHUT_WR))
      await watch.readable()
      await loop.sleep(.milliseconds(5))
      notes.lines.append("there is an end to be read: \(watch.isHungUp)")
      close(there)
      await loop.sleep(.milliseconds(5))
      watch.cancel()
    }
    #expect(notes.lines == ["there is an end to be read: true", "hung up"])
  }

  @Test("does not deliver a closed descriptor's events to the next that has its number")
  func staleEvents() async throws {
    let notes = Notes()
    try await onLoop { loop in
      for _ in 0..<200 {
        let (here, there) = socketPair()
        guard let watch = try? loop.watch(here, for: .readable, edgeTriggered: true) else { return }
        _ = write(there, "x", 1)
        watch.cancel()
        close(here)
        close(there)
        let (next, other) = socketPair()
        guard let fresh = try? loop.watch(next, for: .readable, edgeTriggered: true) else { return }
        fresh.onHangUp = { notes.lines.append("stale") }
        await loop.sleep(.zero)
        fresh.cancel()
        close(next)
        close(other)
      }
      notes.lines.append("done")
    }
    #expect(notes.lines == ["done"])
  }

  @Test("wakes sleepers in the order of their deadlines")
  func sleepers() async throws {
    let notes = Notes()
    try await onLoop { loop in
      await withTaskGroup(of: Void.self) { group in
        for milliseconds in [9, 3, 6, 0] {
          group.addTask {
            await loop.sleep(.milliseconds(milliseconds))
            notes.lines.append("\(milliseconds)")
          }
        }
      }
    }
    #expect(notes.lines == ["0", "3", "6", "9"])
  }

  @Test("takes jobs from other threads")
  func outside() async throws {
    let notes = Notes()
    try await onLoop { loop in
      let answer = await Task.detached { UInt(pthread_self()) }.value != UInt(pthread_self()) ? "elsewhere" : "here"
      notes.lines.append("\(answer) \(loop.isCurrent)")
    }
    #expect(notes.lines == ["elsewhere true"])
  }
}

@Suite("Timers")
struct TimersTests {
  @Test("gives waiters in the order of deadlines, equal ones in the order they came")
  func order() {
    var timers = Timers<Int>()
    var generator = SystemRandomNumberGenerator()
    let deadlines = (0..<500).map { _ in UInt64.random(in: 0..<50, using: &generator) }
    for (index, deadline) in deadlines.enumerated() { timers.add(deadline: deadline, index) }
    var taken: [Int] = []
    for now in 0..<50 as Range<UInt64> { while let waiter = timers.takeDue(now) { taken.append(waiter) } }
    #expect(taken == deadlines.indices.sorted { (deadlines[$0], $0) < (deadlines[$1], $1) })
    #expect(timers.isEmpty)
  }

  @Test("wakes sleepers in the order of their deadlines, equal ones in the order in which they lay down")
  func order() async throws {
    let notes = Notes()
    try await onLoop(clock: .virtual) { loop in
      await withTaskGroup(of: Void.self) { group in
        for (name, hours) in [("a", 5), ("b", 1), ("c", 5), ("d", 3), ("e", 1)] {
          group.addTask {
            await loop.sleep(.seconds(3600 * hours))
            notes.lines.append("\(name) at \(loop.now / 3_600_000_000_000)")
          }
        }
      }
    }
    #expect(notes.lines == ["b at 1", "e at 1", "d at 3", "a at 5", "c at 5"])
  }

  @Test("lets time pass only when nobody has anything to do")
  func noTimeForWork() async throws {
    let notes = Notes()
    try await onLoop(clock: .virtual) { loop in
      await withTaskGroup(of: Void.self) { group in
        group.addTask {
          for _ in 0..<1000 { await Task.yield() }
          notes.lines.append("worked until \(loop.now)")
        }
        group.addTask {
          await loop.sleep(.nanoseconds(1))
          notes.lines.append("slept until \(loop.now)")
          await loop.sleep(.zero)
          notes.lines.append("and no longer: \(loop.now)")
        }
      }
    }
    #expect(notes.lines == ["worked until 0", "slept until 1", "and no longer: 1"])
  }

  @Test("knows how long its turns were and by how much its timers were late")
  func health() async throws {
    let notes = Notes()
    try await onLoop { loop in
      await withTaskGroup(of: Void.self) { group in
        group.addTask { await loop.sleep(.milliseconds(1)) }
        // Jobs run in the order in which they came: after this the other one sleeps.
        await Task.yield()
        // Whoever blocks the loop makes a turn long, and timers late.
        usleep(20_000)
      }
      let (turns, lags) = (loop.health.turns, loop.health.lags)
      notes.lines = [
        "\(turns.longest >= 20_000_000)", "\(turns.sum >= turns.longest)",
        "\(turns.counts.reduce(0, +) == turns.count)",
        "\(lags.longest >= 19_000_000)", "\(lags.count)",
      ]
    }
    #expect(notes.lines == ["true", "true", "true", "true", "1"])
  }

  @Test("lets a thousand sleepers sleep again and again, and none of them too long")
  func manyTimers() async throws {
    let notes = Notes()
    try await onLoop(clock: .virtual) { loop in
      await withTaskGroup(of: Void.self) { group in
        for number in 1...1000 {
          group.addTask {
            for turn in 1...10 {
              await loop.sleep(.nanoseconds(number))
              if loop.now != UInt64(number * turn) { notes.lines.append("\(number) woke at \(loop.now)") }
            }
          }
        }
      }
      if loop.health.lags.longest != 0 { notes.lines.append("late by \(loop.health.lags.longest)") }
      if loop.health.lags.count != 10_000 { notes.lines.append("\(loop.health.lags.count) timers") }
    }
    #expect(notes.lines == [])
  }
}
