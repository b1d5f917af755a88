// One request's way through one model: what nginx, the responder and PostgreSQL asked of the kernel, in order.

import Platform

/// A process model that is traced. The raw value is its command, its prefix and the name of its socket.
package enum TracedModel: String, Sendable, CaseIterable {
  case sync, async

  /// As people say it.
  package var title: String { self == .sync ? "prefork pool" : "event loop" }
}

/// Who makes system calls. The raw value is how the others call it.
package enum TracedProcess: String, Sendable, CaseIterable {
  case nginx, forkloop, postgres
}

/// What was traced of one request, and what was made of it.
package struct Timeline: Sendable {
  /// A system call that belongs to the request.
  package struct Event: Equatable, Sendable {
    package let process: TracedProcess
    package let name: String
    /// What it is about: who is at the other end of the socket, a file, `epoll`.
    package let object: String
    /// Microseconds since the first one: when what waits, reads or accepts returned, and when everything else began. So nothing
    /// is received before it was sent.
    package let at: Int64
    /// Microseconds in the kernel. Nil for what had begun before the request.
    package let took: Int64?
    /// What came of it, in a word or two: bytes, an error, how many events.
    package let outcome: String
    package let isWait: Bool
  }

  /// What one process has sent and another has taken, by the places of both calls; nil: the client, who is not traced.
  package struct Message: Equatable, Sendable {
    package let from: Int?
    package let to: Int?
  }

  package let events: [Event]
  package let messages: [Message]
  /// What was left out: wake-ups by a clock in which nothing was sent or received.
  package let timers: Int

  package func count(_ process: TracedProcess) -> Int { events.reduce(0) { $0 + ($1.process == process ? 1 : 0) } }

  /// `calls` are those of each process in their order; what had returned before `start` is of no interest.
  package init(_ calls: [(process: TracedProcess, calls: [TracedCall])], since start: Int64) {
    var timers = 0
    var kept: [(process: TracedProcess, call: TracedCall, at: Int64)] = []
    for (process, calls) in calls {
      for turn in Self.turns(calls.filter { ($0.ended ?? .min) >= start }) {
        if Self.isTimer(turn) {
          timers += 1
        } else {
          kept += turn.map { (process, $0, $0.isReceiving ? $0.ended ?? $0.began : $0.began) }
        }
      }
    }
    self.timers = timers
    // A stable sort: within a process the calls stay in their order, whatever the clock says.
    kept = kept.enumerated().sorted { ($0.element.at, $0.offset) < ($1.element.at, $1.offset) }.map(\.element)
    let first = kept.first?.at ?? 0
    events = kept.map { process, call, at in
      Event(
        process: process, name: call.name, object: call.object(for: process), at: at - first,
        took: call.began < start ? nil : call.took, outcome: call.outcome, isWait: call.isWait)
    }
    messages = Self.messages(kept.map(\.call))
  }

  /// From one wait to the next.
  private static func turns(_ calls: [TracedCall]) -> [[TracedCall]] {
    var turns: [[TracedCall]] = []
    for call in calls {
      if call.isWait || turns.isEmpty { turns.append([]) }
      turns[turns.count - 1].append(call)
    }
    return turns
  }

  /// Whether a turn began because time had passed, and no socket was of use in it. A look that waits for nothing is no timer.
  private static func isTimer(_ turn: [TracedCall]) -> Bool {
    guard let wait = turn.first, wait.isWait, wait.value == 0, wait.took ?? 0 >= 1_000 else { return false }
    return !turn.contains { ($0.isRead || $0.isWrite) && $0.value ?? 0 > 0 && $0.socket != nil }
  }

  // MARK: Messages

  /// Finds out who took what by the sockets' ends.
  private static func messages(_ calls: [TracedCall]) -> [Message] {
    var messages: [Message] = []
    /// Calls whose other half has not been seen, by the socket that they are for.
    var sent: [String: [Int]] = [:]
    var closed: [String: Int] = [:]
    var connecting: [String: Int] = [:]
    for (place, call) in calls.enumerated() {
      guard let socket = call.socket else { continue }
      switch socket.kind {
      case .tcp(_, .some):
        guard call.value ?? 0 > 0 else { continue }
        if call.isRead { messages.append(Message(from: nil, to: place)) }
        if call.isWrite { messages.append(Message(from: place, to: nil)) }
      case .unix(let inode, let peer, _):
        if call.name == "connect" {
          connecting[inode] = place
        } else if call.name.hasPrefix("accept") {
          if let peer, let from = connecting.removeValue(forKey: peer) {
            messages.append(Message(from: from, to: place))
          }
        } else if call.isRead, !call.isPeek, let value = call.value {
          if value > 0 {
            messages += (sent.removeValue(forKey: inode) ?? []).map { Message(from: $0, to: place) }
          } else if value == 0, let from = closed.removeValue(forKey: inode) {
            messages.append(Message(from: from, to: place))
          }
        } else if let peer {
          if call.isWrite, call.value ?? 0 > 0 { sent[peer, default: []].append(place) }
          if call.name == "close" || call.name == "shutdown", closed[peer] == nil { closed[peer] = place }
        }
      default: break
      }
    }
    return messages
  }
}

// MARK: What a call means

extension TracedCall {
  private static let waits: Set = ["epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6"]
  private static let reads: Set = ["read", "readv", "recvfrom", "recvmsg", "pread64"]
  private static let writes: Set = ["write", "writev", "sendto", "sendmsg", "sendfile", "pwrite64", "pwritev"]

  var isWait: Bool { Self.waits.contains(name) }
  var isRead: Bool { Self.reads.contains(name) }
  var isWrite: Bool { Self.writes.contains(name) }
  /// Whether what it returns was somebody else's doing.
  var isReceiving: Bool { isWait || isRead || name.hasPrefix("accept") }
  /// Whether it leaves what it has read where it was.
  var isPeek: Bool { arguments.contains { $0.contains("MSG_PEEK") } }

  /// The descriptor that it is about: what it accepted, what it put into an epoll, else its first argument.
  var descriptor: TracedDescriptor? {
    if name.hasPrefix("accept") || name == "socket" || name == "openat", let result, let made = TracedDescriptor(result)
    {
      return made
    }
    guard let argument = name == "epoll_ctl" ? arguments.dropFirst(2).first : arguments.first else { return nil }
    // poll(2) has a list: `[{fd=7<UNIX-STREAM:[1->2]>, events=POLLIN}]`.
    let first = argument.hasPrefix("[{fd=") ? argument.halves(by: "=")?.1.halves(by: ",")?.0 : nil
    return TracedDescriptor(first.map(String.init) ?? argument)
  }

  /// The same, where it is a socket.
  var socket: TracedDescriptor? {
    guard let descriptor else { return nil }
    switch descriptor.kind {
    case .tcp, .unix: return descriptor
    default: return nil
    }
  }

  /// What it is about, seen from `process`.
  func object(for process: TracedProcess) -> String {
    guard let descriptor else { return "" }
    switch descriptor.kind {
    case .tcp(_, let peer): return peer == nil ? "listener" : "client"
    case .unix(_, let peer, let path):
      switch process {
      case .nginx, .postgres: return TracedProcess.forkloop.rawValue
      case .forkloop:
        // What was accepted has the path that it came by; a client's end has none.
        if path == nil { return TracedProcess.postgres.rawValue }
        return peer == nil ? "listener" : TracedProcess.nginx.rawValue
      }
    case .anonymous("eventpoll"): return "epoll"
    case .anonymous(let name): return name
    case .other(let path): return String(path.parts(by: "/").last ?? "")
    }
  }

  /// In a word or two.
  var outcome: String {
    if let error { return error }
    if isWait { return value.map { "\($0) event\($0 == 1 ? "" : "s")" } ?? "" }
    if isRead || isWrite { return isPeek ? "peek" : value.map { "\($0) B" } ?? "" }
    // EPOLL_CTL_ADD, SHUT_WR.
    if name == "epoll_ctl", arguments.count > 1 {
      return arguments[1].parts(by: "_").last.map { $0.lowercased() } ?? ""
    }
    return ""
  }
}
