// Who waits for an execution, and when they go on, as transcripts.

import EventLoop
import Postgres
import Testing

@testable import AsyncServer

@Suite struct ExecutionTests {
  /// Somebody who wants it.
  private final class Waiter {
    let name: Substring
    /// Whether it has gone on.
    var goesOn = false
    init(_ name: Substring) { self.name = name }
  }

  /// Waits as the pool does.
  private static func wait(for execution: Execution, _ waiter: Waiter) async {
    let id = ObjectIdentifier(waiter)
    while execution.isAwaited(by: id) { await withUnsafeContinuation { execution.resume($0, for: id) } }
  }

  /// Replays a transcript; returns it as it has come out. Behind an arrow stand those who go on, in any order. `wanted` and
  /// `abandoned` say whether anybody is left who wants it.
  private static func replay(_ transcript: String, on loop: EventLoop) async -> String {
    let execution = Execution(BoundStatement(Statement("any", readOnly: true, "select 1")), since: 0)
    var waiters: [Waiter] = []
    var lines: [String] = []
    for line in transcript.split(separator: "; ") {
      let words = line.split(separator: " ").prefix { $0 != "→" }
      switch words.count == 1 ? words[0] : words[1] {
      case "joins":
        waiters.append(Waiter(words[0]))
        execution.join(ObjectIdentifier(waiters[waiters.count - 1]))
      case "waits":
        let waiter = waiters.first { $0.name == words[0] } ?? Waiter(words[0])
        if waiters.allSatisfy({ $0 !== waiter }) { waiters.append(waiter) }
        loop.spawn {
          await Self.wait(for: execution, waiter)
          waiter.goesOn = true
        }
      case "leaves":
        if let waiter = waiters.first(where: { $0.name == words[0] }) { execution.leave(ObjectIdentifier(waiter)) }
      case "sent": execution.wasSent()
      case "repeats": execution.repeats()
      case "ends": execution.ended(.failure(.queueFull))
      case "wanted", "abandoned":
        lines.append(execution.isAbandoned ? "abandoned" : "wanted")
        continue
      default:
        lines.append("what is \(line)?")
        continue
      }
      await loop.sleep(.milliseconds(1))
      let names = waiters.filter(\.goesOn).map(\.name).sorted()
      for waiter in waiters { waiter.goesOn = false }
      lines.append(words.joined(separator: " ") + (names.isEmpty ? "" : " → " + names.joined(separator: " ")))
    }
    return lines.joined(separator: "; ")
  }

  @Test(
    "who waits goes on when it has ended, or when it has left what was not sent",
    arguments: [
      "abandoned; a joins; wanted; a waits; wanted; sent; ends → a; abandoned",
      "a joins; ends; a waits → a",
      "ends; a joins; a waits → a",
      // Who has not joined has nothing to wait for.
      "a waits → a",
      // Before it was sent it is let go at once, whether it waits already or not.
      "a joins; a waits; a leaves → a; abandoned; sent; ends",
      "a joins; a leaves; abandoned; a waits → a",
      // After that only with its end.
      "a joins; a waits; sent; a leaves; wanted; ends → a; abandoned",
      "a joins; sent; a leaves; wanted; a waits; ends → a",
      "sent; a joins; a waits; a leaves; ends → a",
      // Or when it is to be sent again: then it is as if it had not been sent.
      "a joins; a waits; sent; a leaves; repeats → a; abandoned",
      "a joins; a waits; sent; repeats; a leaves → a; abandoned",
      "a joins; sent; a leaves; repeats; abandoned; a waits → a",
      "a joins; a waits; sent; repeats; wanted; sent; ends → a",
      // Several, each for itself.
      "a joins; b joins; c joins; a waits; b waits; c waits; ends → a b c; abandoned",
      "a joins; b joins; c joins; a waits; b waits; c waits; b leaves → b; wanted; ends → a c",
      "a joins; b joins; a waits; b waits; a leaves → a; wanted; b leaves → b; abandoned",
      "a joins; b joins; a waits; b waits; a leaves → a; c joins; c waits; sent; b leaves; c leaves; ends → b c",
      "a joins; b joins; c joins; a waits; b waits; c waits; sent; a leaves; c leaves; repeats → a c; wanted; ends → b",
      "a joins; b joins; a waits; sent; a leaves; b leaves; repeats → a; abandoned; b waits → b",
      "a joins; b joins; ends; b waits → b; a waits → a",
    ])
  func transcripts(_ transcript: String) async throws {
    let notes = Notes()
    try await onLoop(clock: .virtual) { loop in notes.lines = [await Self.replay(transcript, on: loop)] }
    #expect(notes.lines == [transcript])
  }

  @Test("what was refused has ended before anybody wants it")
  func refused() async throws {
    let notes = Notes()
    try await onLoop(clock: .virtual) { _ in
      let execution = Execution(BoundStatement(Statement("any", readOnly: true, "select 1")), failed: .queueFull)
      let waiter = Waiter("a")
      execution.join(ObjectIdentifier(waiter))
      await Self.wait(for: execution, waiter)
      if case .failure(let error)? = execution.result { notes.lines.append("\(error)") }
    }
    #expect(notes.lines == ["\(PostgresError.queueFull)"])
  }

  @Test("what is sent again is sent without its name, once that was refused")
  func names() {
    let execution = Execution(BoundStatement(Statement("any", readOnly: true, "select 1")), since: 0)
    execution.wasSent(byName: true, at: 5)
    #expect(execution.isSent && execution.isByName && execution.sentAt == 5 && !execution.isRepeated)
    execution.repeats(avoidingName: true)
    #expect(!execution.isSent && execution.avoidsName && execution.isRepeated)
    execution.wasSent(byName: false, at: 6)
    execution.repeats()
    #expect(execution.avoidsName, "it is refused on every connection")
  }
}
