// When a connection is made again, and whether it is waited for.

import Testing

@testable import AsyncServer

@Suite struct ConnectionHistoryTests {
  private let second: UInt64 = 1_000_000_000

  @Test("one that was good is made again at once, twice if need be, and then after pauses that grow")
  func good() {
    var history = ConnectionHistory()
    history.connected(at: 0)
    history.hasAnswered = true
    history.failed(at: 1, wasReady: true)
    #expect(history.isReturning && history.pause == nil)
    history.failed(at: 2, wasReady: false)
    #expect(history.isReturning && history.pause == nil)
    for longest in [50, 100, 200, 400, 800, 1600, 2000, 2000] {
      history.failed(at: 3, wasReady: false)
      #expect(!history.isReturning)
      let pause = history.pause ?? .zero
      #expect(pause >= .milliseconds(longest / 2) && pause <= .milliseconds(longest))
    }
    history.connected(at: 4)
    history.failed(at: 5 * second, wasReady: true)
    #expect(history.isReturning && history.pause == nil, "it has lasted")
  }

  @Test("one that breaks at once, each time, has failed")
  func useless() {
    var history = ConnectionHistory()
    for longest in [50, 100, 200] {
      history.connected(at: 0)
      history.failed(at: 1, wasReady: true)
      #expect(history.pause ?? .zero >= .milliseconds(longest / 2))
    }
  }

  @Test("an attempt that takes its time and fails has no other at once")
  func silent() {
    var history = ConnectionHistory()
    history.connected(at: 0)
    history.hasAnswered = true
    history.failed(at: 1, wasReady: true)
    history.failed(at: 3 * second, wasReady: false)
    #expect(!history.isReturning && history.pause != nil)
  }

  @Test("it is not waited for without a limit")
  func patience() {
    var history = ConnectionHistory()
    history.connected(at: 0)
    history.failed(at: 2 * second, wasReady: true)
    let early = history.isGivenUp(at: 3 * second)
    #expect(!early && history.isReturning)
    let late = history.isGivenUp(at: 13 * second)
    #expect(late && !history.isReturning)
    let again = history.isGivenUp(at: 14 * second)
    #expect(!again, "once is enough")
  }
}
