// A file descriptor with an owner.

import CLinux
import Glibc

/// A file descriptor that closes itself when its owner lets go of it.
package struct Descriptor: ~Copyable {
  package let number: Int32

  /// Takes ownership of `number`.
  package init(owning number: Int32) { self.number = number }

  deinit { close(number) }

  /// Gives the number away: the caller closes it.
  package consuming func release() -> Int32 {
    let number = number
    discard self
    return number
  }

  /// Whether the descriptor survives exec.
  package func setCloseOnExec(_ on: Bool) throws(SystemError) {
    try syscall("fcntl") { clinux_set_close_on_exec(number, on ? 1 : 0) }
  }

  package func setNonblocking(_ on: Bool) throws(SystemError) {
    try syscall("fcntl") { clinux_set_nonblocking(number, on ? 1 : 0) }
  }
}
