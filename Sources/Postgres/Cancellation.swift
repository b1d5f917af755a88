// Asking the server to give up what it is at ("Canceling Queries in Progress" of the libpq chapter).

import CPostgres
import Glibc

/// What it takes to ask for that, apart from the connection. Owns the `PGcancel`.
package final class Cancellation {
  private let handle: OpaquePointer

  /// nil where libpq has no memory for it.
  package init?(of connection: Connection) {
    guard let handle = PQgetCancel(connection.handle) else { return nil }
    self.handle = handle
  }

  deinit { PQfreeCancel(handle) }

  /// Connects, asks, and waits until the server has taken note: PQcancel has no limit of its own.
  fileprivate func send() {
    var reason = [CChar](repeating: 0, count: 256)
    PQcancel(handle, &reason, Int32(reason.count))
  }

  /// Asks on a thread of its own. Whatever the server is at then is given up, if anything: it need not be what it was at before. A
  /// descriptor, which is the caller's, that can be read from (there is nothing but the end) when the server has taken note, or can't
  /// be asked; nil where there is no thread or descriptor to be had.
  package func start() -> Int32? {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { return nil }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
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
      close(ends[0])
      return nil
    }
    pthread_detach(thread)
    return ends[0]
  }

  /// Asks, and waits for some milliseconds at most. Whether the server has taken note. If not, it may do so later: the connection must be
  /// closed.
  package func send(within milliseconds: Int32) -> Bool {
    guard let end = start() else { return false }
    defer { close(end) }
    var interest = pollfd(fd: end, events: Int16(POLLIN), revents: 0)
    return poll(&interest, 1, milliseconds) > 0
  }

  /// One asking, and the pipe's end that it closes when it is over.
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
