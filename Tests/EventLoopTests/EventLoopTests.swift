import Glibc
import Testing

@testable import EventLoop

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
          var space = [UInt8](repeating: 0, count: 64 << 10)
          while read(there, &space, space.count) > 0 {}
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
      var space = [UInt8](repeating: 0, count: 100)
      for _ in 0..<2 {
        await watch.readable()
        notes.lines.append("read \(read(here, &space, space.count))")
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
