// The walk through the places for those that may wait, and what a database's "no" means.

import CPostgres
import Glibc

extension ConnectionPlan {
  /// Connects, and waits for it: like `ConnectionAttempt` of the event loop. libpq's own way of waiting would show what the server
  /// says by the way on standard error, before anybody can keep it from that.
  func connect(codesOnly: Bool = false) throws(PostgresError) -> Connection {
    let plan = try resolved()
    var failures: [String] = []
    for walk in plan.walks.indices {
      failures = []
      var place = 0
      repeat {
        let connection = try plan.startConnecting(walk: walk, from: place)
        if codesOnly { PQsetErrorVerbosity(connection.handle, PQERRORS_SQLSTATE) }
        switch plan.wait(for: connection, from: &place) {
        case .connected:
          if let fault = connection.encodingFault { throw fault }
          return connection
        case .failed(let why):
          failures.append(why)
          place = plan.places.count
        case .wait:
          failures.append("no connection within \(plan.limit ?? 0) s to \(plan.name(of: place))")
          place += 1
        }
      } while place < plan.places.count
    }
    throw .unavailable(failures.joined(separator: ", "))
  }

  /// Takes the steps; `wait` where the place that it has come to has had its time.
  private func wait(for connection: Connection, from place: inout Int) -> Connection.ConnectStep {
    var wait = Connection.Wait.writable
    var deadline = end()
    while true {
      let now = index(of: connection, from: place)
      if now != place { deadline = end() }
      place = now
      guard connection.socket >= 0 else { return .failed(connection.failure) }
      var watched = pollfd(
        fd: connection.socket, events: Int16(wait == .readable ? POLLIN : POLLOUT), revents: 0)
      let left = deadline.map { Int32(clamping: Int64(($0 - .now) / .milliseconds(1))) }
      guard left ?? 0 >= 0 else { return .wait(wait) }
      let ready = poll(&watched, 1, left.map { $0 + 1 } ?? -1)
      if ready == 0 { return .wait(wait) }
      if ready < 0, errno == EINTR { continue }
      switch connection.connectStep(pipelines: false) {
      case .wait(let next): wait = next
      case let step: return step
      }
    }
  }

  private func end() -> ContinuousClock.Instant? { limit.map { ContinuousClock.now + .seconds($0) } }
}

extension Connection {
  /// Whether an attempt that has failed with `error` was answered with a "no" that will not pass by itself: by all hosts that are
  /// meant. Asks once more, since libpq tells a SQLSTATE only where it is told to tell nothing else.
  package static func isRefused(_ error: PostgresError, by info: ConnectionInfo, _ options: Options) -> Bool {
    guard case .unavailable(let why) = error else { return false }
    if error.isRefusedParameter || isLasting(why) { return true }
    // What a server has said stands behind its severity, in whichever language, and two blanks.
    guard why.utf8.contains(":  ".utf8) else { return false }
    do throws(PostgresError) {
      _ = try ConnectionPlan(info, options).connect(codesOnly: true)
      return false
    } catch {
      guard case .unavailable(let why) = error else { return false }
      return isLasting(why)
    }
  }

  /// Whether each place's answer is one that lasts.
  private static func isLasting(_ message: String) -> Bool {
    let start = Array("connection to server ".utf8)
    var rest = Array(message.utf8)[...]
    var answers: [ArraySlice<UInt8>] = []
    while let range = rest.firstRange(of: start) {
      let end = rest[range.upperBound...].firstRange(of: start)?.lowerBound ?? rest.endIndex
      answers.append(rest[range.lowerBound..<end])
      rest = rest[end...]
    }
    return !answers.isEmpty
      && answers.allSatisfy { answer in
        isLastingCode(answer) || complaints.contains { answer.firstRange(of: Array($0.utf8)) != nil }
      }
  }

  /// Whether an answer ends with the SQLSTATE of one that lasts: what is wrong with the settings (22, 42), who is let in (28), no
  /// such database (3D), one that takes nobody (55000), a setting that nobody can make (55P02). Too many connections (53), a server
  /// that starts or stops (57) and all else may pass.
  private static func isLastingCode(_ answer: ArraySlice<UInt8>) -> Bool {
    func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x2C }
    let words = answer.split(whereSeparator: isBlank)
    guard let last = words.last, last.count == 5 else { return false }
    return lastingCodes.contains { last.starts(with: $0.utf8) }
  }

  private static let lastingCodes = ["22", "28", "3D", "42", "55000", "55P02"]

  /// Of libpq's own, which has no codes: the server is none that is wanted, or can't do what is asked for; and PgBouncer's.
  private static let complaints = [
    "session is read-only", "session is not read-only", "server is in hot standby mode",
    "server is not in hot standby mode", "server does not support SSL", "certificate", "no password supplied",
    "requirepeer", "channel binding", "no such database", "no such user",
  ]
}
