// What is taken for slow, and for how long.

import Postgres
import Testing

@testable import AsyncServer

@Suite struct StatementTimesTests {
  let fast = Statement("fast", readOnly: true, "select 1")
  let slow = Statement("slow", readOnly: true, "select pg_sleep(0.1)")
  let millisecond: UInt64 = 1_000_000

  @Test("one that has never run may be slow, and is not after it was not")
  func unknown() {
    var times = StatementTimes()
    #expect(times.isSlow(fast))
    times.note([fast], took: millisecond)
    #expect(!times.isSlow(fast))
  }

  @Test("one that takes a hundred milliseconds is slow from its first run on")
  func first() {
    var times = StatementTimes()
    times.note([slow], took: 100 * millisecond)
    #expect(times.isSlow(slow))
  }

  @Test("one that takes twice as long as may be is found slow within a few runs")
  func several() {
    var times = StatementTimes()
    for _ in 0..<3 { times.note([slow], took: 10 * millisecond) }
    #expect(times.isSlow(slow))
  }

  @Test("a hiccup of the machine makes nothing slow")
  func hiccup() {
    var times = StatementTimes()
    for _ in 0..<10 {
      times.note([fast], took: 12 * millisecond)
      #expect(!times.isSlow(fast))
      for _ in 0..<4 { times.note([fast], took: millisecond / 4) }
    }
  }

  @Test(
    "a single run of any length makes no fast one slow, and two in a row do",
    arguments: [20, 200, 20_000] as [UInt64])
  func standstill(length: UInt64) {
    var times = StatementTimes()
    for _ in 0..<10 { times.note([fast], took: millisecond) }
    // However many were in the segment that it held up.
    times.note(Array(repeating: fast, count: 3), took: 3 * length * millisecond)
    #expect(!times.isSlow(fast))
    times.note([fast], took: length * millisecond)
    #expect(times.isSlow(fast))
    var runs = 0
    while times.isSlow(fast), runs < 100 {
      times.note([fast], took: millisecond / 4)
      runs += 1
    }
    #expect(runs <= 2)
  }

  @Test("one that is given up is slow at once, and not tried for longer each time, until it has been fast")
  func givenUp() {
    var times = StatementTimes()
    let blockade = StatementTimes.blockade
    var now = blockade
    times.note([slow], took: millisecond)
    for pause in [2, 4, 8, 16, 16] as [UInt64] {
      times.isGivenUp(slow, at: now)
      // Asked for again before it has stopped.
      times.isGivenUp(slow, at: now + 1)
      times.note([slow], took: blockade)
      #expect(times.isSlow(slow) && times.isPaused(slow, at: now + pause * blockade - 1))
      now += pause * blockade
      #expect(!times.isPaused(slow, at: now) && !times.isPaused(fast, at: now - 1))
    }
    times.isGivenUp(slow, at: now)
    times.note([slow], took: millisecond)
    #expect(!times.isPaused(slow, at: now + 1))
  }

  @Test("one that was only near a slow one is cleared as soon as it has run alone")
  func cleared() {
    var times = StatementTimes()
    times.note([fast, slow], took: 100 * millisecond)
    #expect(times.isSlow(fast) && times.isSlow(slow))
    var runs = 0
    while times.isSlow(fast), runs < 100 {
      times.note([fast], took: millisecond / 4)
      times.note([slow], took: 100 * millisecond)
      runs += 1
    }
    #expect(runs < 10)
    #expect(times.isSlow(slow))
  }

  @Test("many fast ones that come together are not slow for it")
  func many() {
    var times = StatementTimes()
    for _ in 0..<10 { times.note(Array(repeating: fast, count: 16), took: 20 * millisecond) }
    #expect(!times.isSlow(fast))
  }

  @Test("one that has become fast is forgotten")
  func forgotten() {
    var times = StatementTimes()
    times.note([slow], took: 1000 * millisecond)
    for _ in 0..<30 { times.note([slow], took: millisecond / 4) }
    #expect(!times.isSlow(slow))
    // Its past weighs nothing any more.
    times.note([slow], took: 19 * millisecond)
    #expect(!times.isSlow(slow))
  }

  @Test("one that takes a tenth of a millisecond is light, and one that takes half a one, or has never run, is not")
  func light() {
    var times = StatementTimes()
    #expect(!times.isLight(fast))
    for _ in 0..<10 {
      times.note([fast, fast], took: millisecond / 5)
      times.note([slow], took: millisecond / 2)
    }
    #expect(times.isLight(fast) && !times.isLight(slow) && !times.isSlow(slow))
    for _ in 0..<10 { times.note([fast], took: millisecond) }
    #expect(!times.isLight(fast))
  }

  @Test("nothing that took any time says nothing")
  func none() {
    var times = StatementTimes()
    times.note([fast], took: millisecond)
    times.note([], took: 1000 * millisecond)
    #expect(!times.isSlow(fast))
  }
}
