// What a request waits for, and that it does not when nobody wants its answer any more.

import Application
import CGI
import EventLoop
import Postgres
import Testing

@testable import AsyncServer
@testable import FastCGI

/// Begins nothing.
private final class Nothing: Application {
  let prefix = "/nothing"
  let longestBody = 0
  func begin(_ request: borrowing Request) -> Step { .respond(Response(.ok, body: request.body)) }
  func refuse(_ refusal: Refusal) -> Response { Response(.serviceUnavailable) }
  func objection(to request: borrowing Request) -> Response? { nil }
}

@Suite struct RequestUnderWayTests {
  private static func request(body: [UInt8] = []) -> RequestUnderWay {
    let assembled = AssembledRequest(id: 1, keepsConnection: true, params: [], body: body, bodyIsTooLarge: false)
    return RequestUnderWay(assembled, for: Nothing(), at: 0)
  }

  /// Waits as the pool does.
  private static func outcome(of request: RequestUnderWay) async -> Outcome {
    while let execution = request.awaited {
      await withUnsafeContinuation { execution.resume($0, for: ObjectIdentifier(request)) }
    }
    return request.outcome
  }

  private static func execution() -> Execution {
    Execution(BoundStatement(Statement("any", readOnly: true, "select 1")), since: 0)
  }

  @Test(
    "sleeps as long as it was told to, or until it is abandoned",
    arguments: [
      // How long, when it is abandoned, and when it goes on, all in milliseconds.
      (5_000, nil, 5_000), (0, nil, 0), (5_000, 1_000, 1_000), (5_000, 0, 0), (1_000, 5_000, 1_000),
      (3_600_000, 1, 1),
    ] as [(Int, Int?, Int)])
  func sleep(_ length: Int, _ abandoned: Int?, _ end: Int) async throws {
    let notes = Notes()
    try await onLoop(clock: .virtual) { loop in
      let request = Self.request()
      if abandoned == 0 { request.abandon() }
      await together(on: loop) { tasks in
        tasks.add {
          await request.sleep(.milliseconds(length), on: loop)
          notes.lines.append("\(loop.now / 1_000_000)")
        }
        if let abandoned, abandoned > 0 {
          tasks.add {
            await loop.sleep(.milliseconds(abandoned))
            request.abort()
          }
        }
      }
    }
    #expect(notes.lines == ["\(end)"])
  }

  @Test("one sleep after another lasts as long as it was told to, whatever the one before has left behind")
  func sleeps() async throws {
    let notes = Notes()
    try await onLoop(clock: .virtual) { loop in
      let request = Self.request()
      for length in [100, 50, 200, 1] {
        await request.sleep(.milliseconds(length), on: loop)
        notes.lines.append("\(loop.now / 1_000_000)")
      }
      loop.spawn {
        await loop.sleep(.milliseconds(10))
        request.abandon()
      }
      // What is abandoned sleeps no more, however often it is told to.
      for _ in 0..<3 {
        await request.sleep(.milliseconds(1_000), on: loop)
        notes.lines.append("\(loop.now / 1_000_000)")
      }
    }
    #expect(notes.lines == ["100", "150", "350", "351", "361", "361", "361"])
  }

  @Test(
    "has the results of all its statements in their order, in whichever they end",
    arguments: [
      [0, 1, 2], [2, 1, 0], [1, 2, 0],
    ])
  func several(_ order: [Int]) async throws {
    let notes = Notes()
    try await onLoop(clock: .virtual) { loop in
      let request = Self.request()
      let all = (0..<3).map { _ in Self.execution() }
      request.wants(all[0])
      for execution in all[1...] { request.wantsToo(execution) }
      await together(on: loop) { tasks in
        tasks.add {
          let outcome = await Self.outcome(of: request)
          let ended = ([outcome.first] + outcome.others).map { execution in all.firstIndex { $0 === execution } ?? -1 }
          notes.lines.append("\(ended) at \(loop.now / 1_000_000)")
        }
        tasks.add {
          for number in order {
            await loop.sleep(.milliseconds(10))
            all[number].ended(.failure(.queueFull))
          }
        }
      }
    }
    #expect(notes.lines == ["[0, 1, 2] at 30"])
  }

  @Test(
    "leaves all that it waits for when it is abandoned, and goes on when what was sent has ended",
    arguments: [
      // Which of three have been sent, and when it goes on; it is abandoned at 10.
      ([], 10), ([0], 20), ([2], 20), ([0, 1, 2], 20),
    ] as [([Int], Int)])
  func abandoned(_ sent: [Int], _ end: Int) async throws {
    let notes = Notes()
    try await onLoop(clock: .virtual) { loop in
      let request = Self.request()
      let all = (0..<3).map { _ in Self.execution() }
      request.wants(all[0])
      for execution in all[1...] { request.wantsToo(execution) }
      for number in sent { all[number].wasSent() }
      await together(on: loop) { tasks in
        tasks.add {
          let outcome = await Self.outcome(of: request)
          notes.lines.append("\(outcome.first == nil ? "nobody" : "somebody") at \(loop.now / 1_000_000)")
        }
        tasks.add {
          await loop.sleep(.milliseconds(10))
          request.abandon()
          notes.lines.append("left \((0..<3).filter { all[$0].isAbandoned })")
          await loop.sleep(.milliseconds(10))
          for execution in all { execution.ended(.failure(.queueFull)) }
        }
      }
    }
    let left = (0..<3).filter { !sent.contains($0) }
    #expect(notes.lines == ["left \(left)", "nobody at \(end)"])
  }

  @Test("wants nothing any more of what it wanted before")
  func again() async throws {
    let notes = Notes()
    try await onLoop(clock: .virtual) { _ in
      let request = Self.request()
      let (first, second) = (Self.execution(), Self.execution())
      request.wants(first)
      request.wantsToo(Self.execution())
      first.ended(.failure(.queueFull))
      request.wants(second)
      second.ended(.failure(.queueFull))
      let outcome = await Self.outcome(of: request)
      notes.lines.append("\(outcome.first === second) \(outcome.others.count)")
    }
    #expect(notes.lines == ["true 0"])
  }

  @Test("gives its body to the application once")
  func body() {
    let request = Self.request(body: [1, 2, 3])
    let sizes = (0..<2).map { _ in
      if case .respond(let response) = request.begin(by: Nothing()) { response.body.count } else { -1 }
    }
    #expect(sizes == [3, 0] && request.request.body.isEmpty)
  }
}
