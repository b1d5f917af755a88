import Glibc
import Testing

@testable import EventLoop

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
      await together(on: loop) { tasks in
        for (name, hours) in [("a", 5), ("b", 1), ("c", 5), ("d", 3), ("e", 1)] {
          tasks.add {
            await loop.sleep(.seconds(3600 * hours))
            notes.lines.append("\(name) at \(loop.now / 3_600_000_000_000)")
          }
        }
      }
    }
    #expect(notes.lines == ["b at 1", "e at 1", "d at 3", "a at 5", "c at 5"])
  }

  @Test("gives each who wants a turn alone one, in the order of their asking, and nobody else waits for that")
  func turnsAlone() async throws {
    let notes = Notes()
    try await onLoop(clock: .virtual) { loop in
      await together(on: loop) { tasks in
        let first = loop.health.turns.count
        for name in ["a", "b", "c"] {
          tasks.add {
            await withUnsafeContinuation { waiter in loop.inTurn { waiter.resume() } }
            notes.lines.append("\(name) in \(loop.health.turns.count - first)")
          }
        }
        tasks.add {
          for _ in 1...2 {
            await loop.sleep(.zero)
            notes.lines.append("- in \(loop.health.turns.count - first)")
          }
        }
      }
    }
    #expect(notes.lines.sorted() == ["- in 1", "- in 2", "a in 1", "b in 2", "c in 3"])
  }

  @Test("lets time pass only when nobody has anything to do")
  func noTimeForWork() async throws {
    let notes = Notes()
    try await onLoop(clock: .virtual) { loop in
      await together(on: loop) { tasks in
        tasks.add {
          for _ in 0..<1000 { await Task.yield() }
          notes.lines.append("worked until \(loop.now)")
        }
        tasks.add {
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
      await together(on: loop) { tasks in
        tasks.add { await loop.sleep(.milliseconds(1)) }
        tasks.add {
          // Jobs run in the order in which they came: after this the other one sleeps.
          await Task.yield()
          // Whoever blocks the loop makes a turn long, and timers late.
          usleep(20_000)
        }
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
      await together(on: loop) { tasks in
        for number in 1...1000 {
          tasks.add {
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
