// What docs/sync-and-async.md says of waiting: of state that changes meanwhile, and of clients who go. Its wrong lines and its right
// ones.

import Application
import CGI
import EventLoop
import Testing

@testable import AsyncServer
@testable import FastCGI

private class Small: Application {
  let prefix = "/small"
  let longestBody = 0
  func begin(_ request: borrowing Request) -> Step { .respond(refuse(.nothingHere)) }
  func refuse(_ refusal: Refusal) -> Response { Response(.notFound) }
  func objection(to request: borrowing Request) -> Response? { nil }
}

/// One seat. Whoever gets it pays, which takes a while.
private class Seats: Small {
  var seats = 1
}

private final class SeatsTakenAfterTheWait: Seats {
  override func begin(_ request: borrowing Request) -> Step {
    guard seats > 0 else { return .respond(Response(.conflict)) }
    return .wait(.milliseconds(5)) { [self] in
      seats -= 1
      return .respond(Response(.ok))
    }
  }
}

private final class SeatsTakenBeforeTheWait: Seats {
  override func begin(_ request: borrowing Request) -> Step {
    guard seats > 0 else { return .respond(Response(.conflict)) }
    seats -= 1
    return .wait(.milliseconds(5)) { .respond(Response(.ok)) }
  }
}

/// Four steps per request.
private final class Steps: Small {
  var taken = 0

  override func begin(_ request: borrowing Request) -> Step { next() }

  private func next() -> Step {
    taken += 1
    return taken < 4 ? .wait(.seconds(1)) { [self] in next() } : .respond(Response(.ok))
  }
}

@Suite struct GuideTests {
  private static func request(id: UInt16, for application: any Application) -> RequestUnderWay {
    let assembled = AssembledRequest(id: id, keepsConnection: true, params: [], body: [], bodyIsTooLarge: false)
    return RequestUnderWay(assembled, for: application, at: 0)
  }

  /// What two requests at once are answered, and how many seats are left.
  private static func twoRequests(_ make: @escaping @Sendable () -> Seats) async throws -> [String] {
    let notes = Notes()
    try await onLoop(clock: .virtual) { loop in
      let application = make()
      await together(on: loop) { tasks in
        for id in UInt16(1)...2 {
          let request = Self.request(id: id, for: application)
          tasks.add { notes.lines.append("\(await Self.answer(request, by: application, on: loop))") }
        }
      }
      notes.lines.append("\(application.seats)")
    }
    return notes.lines
  }

  /// As `ClientConnection` does it.
  private static func answer(
    _ request: RequestUnderWay, by application: any Application, on loop: EventLoop
  ) async -> Int {
    var step = request.begin(by: application)
    while true {
      switch consume step {
      case .respond(let response): return response.status.code
      case .query: return 0
      case .wait(let duration, let then): step = await request.sleep(duration, on: loop, then)
      }
    }
  }

  /// As nobody should.
  private static func answerWhoeverHasGone(
    _ request: RequestUnderWay, by application: any Application, on loop: EventLoop
  ) async {
    var step = request.begin(by: application)
    while true {
      switch consume step {
      case .respond, .query: return
      case .wait(let duration, let then):
        await loop.sleep(duration)
        step = then()
      }
    }
  }

  /// How many steps are taken for a client who goes during the first wait.
  private static func stepsTaken(looking: Bool) async throws -> [String] {
    let notes = Notes()
    try await onLoop(clock: .virtual) { loop in
      let application = Steps()
      let request = Self.request(id: 1, for: application)
      await together(on: loop) { tasks in
        tasks.add {
          if looking {
            _ = await Self.answer(request, by: application, on: loop)
          } else {
            await Self.answerWhoeverHasGone(request, by: application, on: loop)
          }
        }
        tasks.add {
          await loop.sleep(.milliseconds(500))
          request.abandon()
        }
      }
      notes.lines.append("\(application.taken)")
    }
    return notes.lines
  }

  @Test("whoever has gone gets no further step where somebody looks, and all of them where nobody does")
  func gone() async throws {
    let (looked, didNot) = (try await Self.stepsTaken(looking: true), try await Self.stepsTaken(looking: false))
    #expect(looked == ["1"])
    #expect(didNot == ["4"])
  }

  @Test("a check before a wait is no check behind it")
  func takenAfterTheWait() async throws {
    let answers = try await Self.twoRequests { SeatsTakenAfterTheWait() }
    #expect(answers == ["200", "200", "-1"])
  }

  @Test("what is changed before the wait is seen by whoever comes meanwhile")
  func takenBeforeTheWait() async throws {
    let answers = try await Self.twoRequests { SeatsTakenBeforeTheWait() }
    #expect(answers == ["409", "200", "0"])
  }
}
