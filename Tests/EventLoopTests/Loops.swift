// Loops for tests to run on, and sockets for them to watch.

import Glibc
import Platform

@testable import EventLoop

/// What a test's tasks tell it. Only the loop's thread writes, and the test reads when the loop has ended.
final class Notes: @unchecked Sendable {
  var lines: [String] = []
}

/// Runs `body` on a loop with a thread of its own, until it returns: a loop blocks its thread, and the tests' own threads
/// are few and shared.
func onLoop(
  clock: EventLoop.Clock = .monotonic, _ body: @escaping @Sendable (EventLoop) async -> Void
) async throws {
  let failure: SystemError? = await withCheckedContinuation { continuation in
    detachThread {
      do throws(SystemError) {
        let loop = try EventLoop(clock: clock)
        loop.spawn {
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

/// Tasks to be started together.
final class Tasks {
  fileprivate var bodies: [() async -> Void] = []
  func add(_ body: @escaping () async -> Void) { bodies.append(body) }
}

/// Starts what `fill` adds, and waits until all have ended.
func together(on loop: EventLoop, _ fill: (Tasks) -> Void) async {
  let tasks = Tasks()
  fill(tasks)
  await loop.spawnAll(tasks.bodies)
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

func socketPair() -> (Int32, Int32) {
  var pair: [Int32] = [0, 0]
  socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0, &pair)
  return (pair[0], pair[1])
}
