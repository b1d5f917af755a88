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

  /// Puts /dev/null where a process was started without standard input, output or error: the next file that is opened would
  /// be taken for it, and a log line written into a database connection.
  package static func fillStandardStreams() {
    for number in STDIN_FILENO...STDERR_FILENO where fcntl(number, F_GETFD) < 0 { _ = open("/dev/null", O_RDWR) }
  }

  /// How many this process may have at most.
  package static var hardLimit: Int {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1024 }
    return Int(min(limit.rlim_max, 1 << 20))
  }

  /// Allows this process as many descriptors as its hard limit does (setrlimit(2)).
  package static func raiseLimit() {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    limit.rlim_cur = min(limit.rlim_max, 1 << 20)
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }
}
