// Asking the server to give up what it is at ("Canceling Queries in Progress" of the libpq chapter).

import CPostgres
import Glibc

/// What it takes to ask for that, apart from the connection. Owns the `PGcancel`.
///
/// Unchecked Sendable: it never changes, and libpq lets any thread send it.
package final class Cancellation: @unchecked Sendable {
  private let handle: OpaquePointer

  /// nil where libpq has no memory for it.
  package init?(of connection: Connection) {
    guard let handle = PQgetCancel(connection.handle) else { return nil }
    self.handle = handle
  }

  deinit { PQfreeCancel(handle) }

  /// Connects, asks, and waits until the server has taken note. Whatever the server is at then is given up, if anything: it need
  /// not be what it was at before.
  package func send() {
    var reason = [CChar](repeating: 0, count: 256)
    PQcancel(handle, &reason, Int32(reason.count))
  }

  /// As `send`, but waits for some milliseconds at most: libpq has no limit of its own, so it waits on a thread that is left behind then.
  /// Whether the server has taken note. If not, it may do so later: the connection must be closed.
  package func send(within milliseconds: Int32) -> Bool {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { return false }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    defer { close(ends[0]) }
    let call = Unmanaged.passRetained(Call(self, end: ends[1]))
    // Signals are for the thread that there was before.
    var all = sigset_t()
    var before = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_SETMASK, &all, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    var thread = pthread_t()
    let body: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = { argument in
      if let argument { Unmanaged<Call>.fromOpaque(argument).takeRetainedValue().run() }
      return nil
    }
    guard pthread_create(&thread, nil, body, call.toOpaque()) == 0 else {
      call.release()
      return false
    }
    pthread_detach(thread)
    var interest = pollfd(fd: ends[0], events: Int16(POLLIN), revents: 0)
    return poll(&interest, 1, milliseconds) > 0
  }

  /// One asking on a thread of its own, and the pipe that it closes when it is over.
  private final class Call {
    private let cancellation: Cancellation
    private let end: Int32

    init(_ cancellation: Cancellation, end: Int32) {
      self.cancellation = cancellation
      self.end = end
    }

    deinit { close(end) }

    func run() { cancellation.send() }
  }
}
