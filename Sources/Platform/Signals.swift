// Signals as a server wants them: held back while it works, taken where it waits; and none as somebody else wanted them.

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

  /// Holds back the set and nothing else.
  package func becomeMask() {
    var mask = mask
    pthread_sigmask(SIG_SETMASK, &mask, nil)
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
  package static func isPending(_ signal: Int32) -> Bool { pending.contains(signal) }

  /// The blocked signals that have come.
  package static var pending: SignalSet {
    var set = SignalSet([])
    sigpending(&set.mask)
    return set
  }

  package func contains(_ signal: Int32) -> Bool {
    var mask = mask
    return sigismember(&mask, signal) == 1
  }

  /// Whether a signal is ignored.
  package static func isIgnored(_ signal: Int32) -> Bool { clinux_is_ignored(signal) != 0 }

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

/// What whoever started a process has left in it: signals that are ignored, and the mask. Both survive fork and exec
/// (signal(7)), and so decide what a process hears that knows nothing of them.
package enum InheritedSignals {
  /// The first thing that a process of ours does: nothing that it inherited counts. Every signal has its default, none is
  /// blocked.
  ///
  /// Where CHLD is still ignored, children vanish without a word: a master replaces no worker, no reload gets its answer, and a
  /// stop waits until its limit. Where TERM is blocked, what does not ask for it is deaf.
  ///
  /// PIPE is ignored: a log, a terminal or a peer that is gone ends no process. Who writes learns it from write(2). XFSZ the
  /// same: a log that has reached its limit.
  ///
  /// HUP stays ignored if it is: so does nohup say that a closed terminal should not matter. A server that takes HUP for a
  /// command blocks it and fetches it, which works all the same: what is blocked is not dropped.
  ///
  /// The mask stays where it holds signals back for this very process, until it can take them.
  package static func drop(keepsMask: Bool) {
    resetIgnored(but: SIGHUP)
    for number in [SIGPIPE, SIGXFSZ] { signal(number, SIG_IGN) }
    if !keepsMask { SignalSet([]).becomeMask() }
  }

  /// For another program, before exec: what we have set is ours alone.
  static func dropForExec() {
    resetIgnored(but: nil)
    SignalSet([]).becomeMask()
  }

  /// SIGRTMAX.
  private static let highest: Int32 = 64

  /// Handlers do not survive exec. What is at its default is not set to it again, since that may drop what is pending.
  private static func resetIgnored(but exception: Int32?) {
    for number in 1...highest where number != exception && SignalSet.isIgnored(number) { signal(number, SIG_DFL) }
  }
}
