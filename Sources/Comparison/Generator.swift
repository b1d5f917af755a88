// The load generator as a process of its own, so that its time is not the testbed's and nothing that it does waits.

import Glibc
import LoadGenerator
import LocalStack
import Platform

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// `forkloop load --plan … --json`: a line when it could begin to measure, which it does when it is told so, a line when it has
/// measured, and its result.
struct Generator: ~Copyable {
  enum News {
    case nothing
    case moment(LoadRun.Moment)
    case result(LoadResult)
  }

  private let process: pid_t
  private let output: Descriptor
  private let log: String
  private var bytes: [UInt8] = []

  init(_ tools: Tools, plan: String, log: String) throws(LocalStackError) {
    var ends: [Int32] = [0, 0]
    guard pipe(&ends) == 0 else { throw LocalStackError("no pipe: \(String(cString: strerror(errno)))") }
    let exit = Descriptor(owning: ends[0])
    let entrance = Descriptor(owning: ends[1])
    let started: pid_t
    do throws(SystemError) {
      try exit.setCloseOnExec(true)
      try entrance.setCloseOnExec(true)
      started = try ChildProcess.start(
        tools.divided(tools.processors.generator, [tools.program, "load", "--plan", plan, "--json"]),
        environment: [Settings.noFile: "1"], log: log, output: entrance.number, parentDeathSignal: SIGKILL)
    } catch {
      throw LocalStackError("can't start the load generator: \(error)")
    }
    process = started
    output = exit
    self.log = log
  }

  /// What it says next.
  mutating func next(within limit: Duration) throws(LocalStackError) -> News {
    while true {
      if let end = bytes.firstIndex(of: UInt8(ascii: "\n")) {
        let line = Array(bytes[..<end])
        bytes.removeFirst(end + 1)
        switch String(decoding: line.prefix(16), as: UTF8.self) {
        case "warm": return .moment(.warm)
        case "measured": return .moment(.measured)
        default:
          wait()
          do {
            return .result(try JSONDecoder().decode(LoadResult.self, from: Data(line)))
          } catch {
            throw LocalStackError("the load generator said what can't be understood: \(error)")
          }
        }
      }
      var event = pollfd(fd: output.number, events: Int16(POLLIN), revents: 0)
      guard poll(&event, 1, Int32(limit.nanoseconds / 1_000_000)) > 0 else { return .nothing }
      let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
      defer { chunk.deallocate() }
      switch Transfer.read(output.number, into: chunk) {
      case .bytes(let count): bytes += chunk[..<count]
      case .wouldBlock: return .nothing
      case .end, .failed:
        wait()
        let last = readText(log)?.lines.last { !$0.isEmpty }.map { ": \($0)" } ?? ""
        throw LocalStackError("the load generator ended before its time\(last)")
      }
    }
  }

  func measure() { kill(process, SIGUSR1) }

  func stop() {
    kill(process, SIGKILL)
    wait()
  }

  private func wait() {
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0, errno == EINTR {}
  }
}
