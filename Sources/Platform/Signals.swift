// Signals as a server wants them: held back while it works, taken where it waits.

import CLinux
import Glibc

/// A set of signals, and the ways to wait for one.
package struct SignalSet: Sendable {
  package private(set) var mask = sigset_t()

  package init(_ signals: [Int32]) {
    sigemptyset(&mask)
    for signal in signals { sigaddset(&mask, signal) }
  }

  /// Holds the set back in this thread and in every thread and process that it starts.
  package func block() {
    var mask = mask
    pthread_sigmask(SIG_BLOCK, &mask, nil)
  }

  /// Lets the set in again.
  package func unblock() {
    var mask = mask
    pthread_sigmask(SIG_UNBLOCK, &mask, nil)
  }

  /// Waits until a blocked signal of the set comes; nil when `timeout` has passed first.
  package func wait(timeout: Duration) -> Int32? {
    var mask = mask
    var time = timespec(
      tv_sec: Int(timeout.nanoseconds / 1_000_000_000), tv_nsec: Int(timeout.nanoseconds % 1_000_000_000))
    let signal = sigtimedwait(&mask, nil, &time)
    return signal > 0 ? signal : nil
  }

  /// Whether a signal that is blocked has come.
  package static func isPending(_ signal: Int32) -> Bool {
    var pending = sigset_t()
    return sigpending(&pending) == 0 && sigismember(&pending, signal) == 1
  }

  /// A descriptor that becomes readable when a blocked signal of the set comes (signalfd(2)).
  package func descriptor() throws(SystemError) -> Descriptor {
    var mask = mask
    return Descriptor(owning: try syscall("signalfd") { signalfd(-1, &mask, clinux_SFD) })
  }

  /// Takes one signal from a descriptor made by `descriptor()`; nil when none has come.
  package static func take(from descriptor: Int32) -> Int32? {
    var information = signalfd_siginfo()
    let size = MemoryLayout<signalfd_siginfo>.size
    return read(descriptor, &information, size) == size ? Int32(bitPattern: information.ssi_signo) : nil
  }
}
