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
    var assembler = RequestAssembler(limits: RequestLimits(params: 16 << 10, pairs: 100, body: 0))
    var unsent: [UInt8] = []
    var endsAfterSending = false
    let deadline: UInt64
  }

  private static let mostClients = 64
  /// A peer that has not asked and taken its answer by then is let go.
  private static let patience: UInt64 = 10_000_000_000

  private let listener: ListeningSocket
  private var clients: [Client] = []

  init(owning listener: consuming ListeningSocket) { self.listener = listener }

  var listenerNumber: Int32 { listener.number }
  func removePath() { listener.removePath() }
  func give(to user: uid_t?, _ group: gid_t?) throws(SystemError) { try listener.give(to: user, group) }

  /// What to poll, and for what.
  var interests: [pollfd] {
    let accepting = clients.count < Self.mostClients
    return [pollfd(fd: accepting ? listener.number : -1, events: Int16(POLLIN), revents: 0)]
      + clients.map { pollfd(fd: $0.number, events: Int16($0.unsent.isEmpty ? POLLIN : POLLOUT), revents: 0) }
  }

  /// Everything that a forked child has to close.
  var descriptors: [Int32] { [listener.number] + clients.map(\.number) }

  /// Whether somebody has come who has no answer yet.
  var hasClients: Bool { !clients.isEmpty }

  /// Does what can be done at once. `page` makes the answer for a path; nil: there is nothing there. Who has not been
  /// accepted can wait for the program that comes after us.
  mutating func serve(accepting: Bool = true, _ page: (String) -> Response?) {
    while accepting, clients.count < Self.mostClients {
      let number = clinux_accept(listener.number, 1)
      if number < 0 { break }
      clients.append(Client(number: number, deadline: MonotonicClock.now + Self.patience))
    }
    let now = MonotonicClock.now
    var kept: [Client] = []
    for var client in clients {
      if now < client.deadline, Self.advance(&client, page) { kept.append(client) } else { close(client.number) }
    }
    clients = kept
  }

  /// Reads, answers and writes as far as it goes without waiting; false when the connection is at its end.
  private static func advance(_ client: inout Client, _ page: (String) -> Response?) -> Bool {
    withUnsafeTemporaryAllocation(byteCount: 16 << 10, alignment: 1) { buffer in
      while true {
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
            case .request(let request): answer(request, &client, page)
            }
          }
          client.unsent += client.assembler.takeReplies()
        }
      }
    }
  }

  private static func answer(_ request: AssembledRequest, _ client: inout Client, _ page: (String) -> Response?) {
    var path = ""
    var isHead = false
    var walk = NameValuePairs()
    while let pair = try? walk.next(request.params.span) {
      // By bytes: a String's comparison normalizes, which takes quadratic time. No page has a longer path.
      let (name, value) = (request.params[pair.name], request.params[pair.value])
      if name.elementsEqual("PATH_INFO".utf8), value.count < 64 {
        path = String(decoding: value, as: UTF8.self)
      } else if name.elementsEqual("REQUEST_METHOD".utf8) {
        isHead = value.elementsEqual("HEAD".utf8)
      }
    }
    var response = page(path) ?? Response(.notFound)
    response.omitsBody = isHead
    var head: [UInt8] = []
    response.writeHead(to: &head)
    var writer = RecordWriter()
    writer.answer(requestID: request.id, head: head, body: response.omitsBody ? [] : response.body)
    client.unsent += writer.bytes
    client.endsAfterSending = !request.keepsConnection
    client.assembler.finished(request.id)
  }
}
