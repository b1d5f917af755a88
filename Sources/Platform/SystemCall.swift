// The one place that knows errno and EINTR. Everything that calls the kernel goes through `syscall`.

import CLinux
import Glibc

/// A system call that failed: which one, and its errno.
package struct SystemError: Error, Equatable, CustomStringConvertible {
  package let call: String
  package let code: Int32

  package init(_ call: StaticString, code: Int32) {
    self.call = "\(call)"
    self.code = code
  }

  package var description: String { "\(call): \(String(cString: strerror(code)))" }
}

/// Calls until it isn't interrupted by a signal; −1 becomes a `SystemError`.
@discardableResult
package func syscall<Result: FixedWidthInteger>(_ name: StaticString, _ body: () -> Result) throws(SystemError)
  -> Result
{
  while true {
    let result = body()
    if result != -1 { return result }
    let code = errno
    if code != EINTR { throw SystemError(name, code: code) }
  }
}

/// What a read or a write on a socket came to. A peer's absence is no exception to a server: it is one of the outcomes.
package enum Transfer: Equatable {
  /// That many bytes, at least one.
  case bytes(Int)
  /// Nothing can be moved now (EAGAIN).
  case wouldBlock
  /// The peer has closed its side.
  case end
  /// The connection is broken (errno).
  case failed(Int32)
}

extension Transfer {
  /// read(2) into `buffer`.
  package static func read(_ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer) -> Transfer {
    outcome { Glibc.read(descriptor, buffer.baseAddress, buffer.count) }
  }

  /// write(2) from `buffer`; a peer that is gone is `failed(EPIPE)`, not a SIGPIPE.
  package static func write(_ descriptor: Int32, from buffer: UnsafeRawBufferPointer) -> Transfer {
    outcome { send(descriptor, buffer.baseAddress, buffer.count, Int32(MSG_NOSIGNAL)) }
  }

  static func outcome(_ body: () -> Int) -> Transfer {
    while true {
      let count = body()
      if count > 0 { return .bytes(count) }
      if count == 0 { return .end }
      switch errno {
      case EINTR: continue
      case EAGAIN: return .wouldBlock
      case let code: return .failed(code)
      }
    }
  }
}

/// What accept(2) on a non-blocking socket came to. Every server of ours goes by this, so that none takes a lack of
/// descriptors for a connection and spins, or a connection that failed for an empty queue and waits for an edge that has
/// been.
package enum Acceptance: Equatable {
  case connection(Int32)
  /// Nobody waits.
  case nobody
  /// This one has come to nothing before it was accepted: the next may stand behind it (accept(2), "Error handling").
  case failed
  /// There are no descriptors or no memory (errno): the connection stays in the queue, and the same call fails again until
  /// something is closed. Also what nobody expects: it is nothing to be tried again at once.
  case exhausted(Int32)
  /// Nobody is let in any more (listen(2), shutdown(2)).
  case closed

  /// Takes the next connection of `listener`, with FD_CLOEXEC, and non-blocking where asked.
  package static func next(of listener: Int32, nonblocking: Bool) -> Acceptance {
    let number = clinux_accept(listener, nonblocking ? 1 : 0)
    return number >= 0 ? .connection(number) : Acceptance(code: errno)
  }

  init(code: Int32) {
    switch code {
    case EAGAIN: self = .nobody
    case EINVAL: self = .closed
    case EINTR, ECONNABORTED, EPROTO, EPERM, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, ENETUNREACH,
      ETIMEDOUT:
      self = .failed
    default: self = .exhausted(code)
    }
  }
}

/// Prints a line for a person who may be there. A terminal that is stopped (Ctrl-S), a pipe that nobody reads and one that
/// nobody can read any more keep nobody waiting: then the line is lost.
package func tell(_ line: String) {
  var standardOutput = pollfd(fd: STDOUT_FILENO, events: Int16(POLLOUT), revents: 0)
  guard poll(&standardOutput, 1, 0) > 0 else { return }
  var text = line + "\n"
  text.withUTF8 { _ = write(STDOUT_FILENO, $0.baseAddress, $0.count) }
}
