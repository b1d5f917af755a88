// The master's own FastCGI responder, for what it knows without any worker: a few connections, none of which it waits for.

import CGI
import CLinux
import FastCGI
import Glibc
import Platform

/// Answers on a socket of its own. The master polls its descriptors and calls `serve` when one is ready.
struct StatusServer: ~Copyable {
  private struct Client {
    let number: Int32
    var assembler = RequestAssembler(limits: RequestLimits(body: 0))
    var unsent: [UInt8] = []
    var endsAfterSending = false
    let deadline: UInt64
  }

  /// What answers a request; whether its header is more than anybody wants to read.
  typealias Page = (borrowing Request, _ headerIsTooLarge: Bool) -> Response

  private static let mostClients = 64
  private static let readsAtOnce = 4
  /// Who asks for more in one go is let go: nobody needs it, and the master has other duties.
  private static let answersAtOnce = 4
  /// A peer that has not asked and taken its answer by then is let go.
  private static let patience: UInt64 = 10_000_000_000

  /// For how long nobody is accepted when there are no descriptors for them.
  private static let pause: UInt64 = 100_000_000

  private let listener: ListeningSocket
  /// The oldest first.
  private var clients: [Client] = []
  private var pausedUntil: UInt64 = 0

  /// What the paths begin with that are known here: see `Request.finish`.
  private let roots: [String]

  init(owning listener: consuming ListeningSocket, roots: [String]) {
    self.listener = listener
    self.roots = roots
  }

  var address: ListenAddress { listener.address }

  var listenerNumber: Int32 { listener.number }
  func removePath() { listener.removePath() }
  func give(to user: uid_t?, _ group: gid_t?) throws(SystemError) { try listener.give(to: user, group) }

  /// What to poll, and for what.
  var interests: [pollfd] {
    let accepting = MonotonicClock.now >= pausedUntil
    return [pollfd(fd: accepting ? listener.number : -1, events: Int16(POLLIN), revents: 0)]
      + clients.map { pollfd(fd: $0.number, events: Int16($0.unsent.isEmpty ? POLLIN : POLLOUT), revents: 0) }
  }

  /// Everything that a forked child has to close.
  var descriptors: [Int32] { [listener.number] + clients.map(\.number) }

  /// Whether somebody has come who has no answer yet.
  var hasClients: Bool { !clients.isEmpty }

  /// Does what can be done at once. `page` makes the answer to a request. Who has not been
  /// accepted can wait for the program that comes after us. To be called now and then even if nothing has come: for the
  /// time limit of those who are silent.
  mutating func serve(accepting: Bool = true, _ page: Page) {
    let now = MonotonicClock.now
    if accepting, now >= pausedUntil { accept(now) }
    var kept: [Client] = []
    for var client in clients {
      if now < client.deadline, advance(&client, page) { kept.append(client) } else { close(client.number) }
    }
    clients = kept
  }

  /// Accepts who waits, at most as many as there is space for, so that those who ask get their turn in between. Where all places
  /// are taken, whoever has had one for the longest gives it up.
  private mutating func accept(_ now: UInt64) {
    for _ in 0..<Self.mostClients {
      switch Acceptance.next(of: listener.number, nonblocking: true) {
      case .connection(let number):
        if clients.count == Self.mostClients { close(clients.removeFirst().number) }
        clients.append(Client(number: number, deadline: now + Self.patience))
      case .failed: continue
      case .nobody, .closed: return
      case .exhausted:
        pausedUntil = now + Self.pause
        return
      }
    }
  }

  /// Reads, answers and writes as far as it goes without waiting; false when the connection is at its end.
  private func advance(_ client: inout Client, _ page: Page) -> Bool {
    var answers = 0
    return withUnsafeTemporaryAllocation(byteCount: 16 << 10, alignment: 1) { buffer in
      // Whoever sends without a pause leaves the master to its other duties.
      for _ in 0..<Self.readsAtOnce {
        while !client.unsent.isEmpty {
          switch client.unsent.withUnsafeBytes({ Transfer.write(client.number, from: $0) }) {
          case .bytes(let count): client.unsent.removeFirst(count)
          case .wouldBlock: return true
          case .end, .failed: return false
          }
        }
        if client.endsAfterSending { return false }
        switch Transfer.read(client.number, into: buffer) {
        case .wouldBlock: return true
        case .end, .failed: return false
        case .bytes(let count):
          var position = 0
          let bytes = Span<UInt8>(
            _unsafeElements: UnsafeBufferPointer(rebasing: buffer.bindMemory(to: UInt8.self)[..<count]))
          while let action = client.assembler.next(bytes, &position) {
            switch action {
            case .close: return false
            case .aborted: break
            case .request(let request):
              answers += 1
              if answers > Self.answersAtOnce { return false }
              answer(request, &client, page)
            }
          }
          client.unsent += client.assembler.takeReplies()
        }
      }
      return true
    }
  }

  private func answer(_ assembled: AssembledRequest, _ client: inout Client, _ page: Page) {
    let request = Request(assembled, roots: roots)
    let response = page(request, assembled.paramsAreTooLarge)
    var head: [UInt8] = []
    response.writeHead(to: &head, requestID: request.requestID)
    var writer = RecordWriter()
    writer.answer(requestID: assembled.id, head: head, body: response.omitsBody ? [] : response.body)
    client.unsent += writer.bytes
    client.endsAfterSending = !assembled.keepsConnection
    client.assembler.finished(assembled.id)
  }
}
