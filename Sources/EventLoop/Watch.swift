// A descriptor that a loop watches, and the tasks that wait for it.

import Platform

/// A registration with the loop. At most one task waits to read and one to write, or one for either.
package final class Watch {
  private let loop: EventLoop
  let number: Int32
  let token: UInt64
  private var mask: Readiness
  /// What has been reported and nobody has waited for yet.
  private var pending: Readiness = []
  private var reader: UnsafeContinuation<Void, Never>?
  private var writer: UnsafeContinuation<Void, Never>?
  private var either: UnsafeContinuation<Void, Never>?
  private var isCancelled = false
  /// Whether the peer has closed at least its writing side: there is an end to be read.
  package private(set) var isHungUp = false

  /// Called once when the peer hangs up: by default when it has closed at least its writing side.
  package var onHangUp: (() -> Void)?
  /// What counts as that.
  package var hangUp = Readiness.hungUp

  /// Called when something is reported for which nobody waits.
  package var onReport: (() -> Void)?

  init(loop: EventLoop, number: Int32, token: UInt64, mask: Readiness) {
    self.loop = loop
    self.number = number
    self.token = token
    self.mask = mask
  }

  /// Waits until the descriptor can be read from, or there is an end or an error to be read; returns at once if that was
  /// reported before, and after `cancel`.
  package func readable() async {
    // An edge comes once: after a hang-up there always is an end to be read, behind whatever else there is.
    if isCancelled || isHungUp { return }
    if pending.contains(.readable) {
      pending.remove(.readable)
      return
    }
    await withUnsafeContinuation { reader = $0 }
  }

  /// Waits until the descriptor can be written to, or there is an error; returns at once after `cancel`.
  package func writable() async {
    if isCancelled || pending.contains(.writable) {
      pending.remove(.writable)
      return
    }
    await withUnsafeContinuation { writer = $0 }
  }

  /// Waits for either, a hang-up, or `interrupt`; returns at once if the descriptor was reported ready before, and after
  /// `cancel`. Unlike `readable` it waits for something new after a hang-up, too.
  package func readableOrWritable() async {
    if isCancelled || !pending.isEmpty {
      pending = []
      return
    }
    await withUnsafeContinuation { either = $0 }
  }

  /// Watches for something else from now on. What is the case already is reported once more.
  package func change(to readiness: Readiness) throws(SystemError) {
    let new = readiness.union(mask.intersection(.edge))
    guard !isCancelled, new != mask else { return }
    mask = new
    pending = []
    try loop.change(self, to: new)
  }

  /// Has reported once more what is the case, of which an edge-triggered watch has not used up all.
  package func reportAgain() throws(SystemError) {
    if isCancelled { return }
    pending = []
    try loop.change(self, to: mask)
  }

  /// Stops watching and lets everybody continue who waits. To be called before the descriptor is closed.
  package func cancel() {
    guard !isCancelled else { return }
    isCancelled = true
    loop.remove(self)
    onHangUp = nil
    onReport = nil
    interrupt()
  }

  /// Lets whoever waits continue, as if the descriptor were ready, to find that something else has changed. If nobody waits
  /// nothing happens.
  package func interrupt() {
    resume(&reader)
    resume(&writer)
    resume(&either)
  }

  func deliver(_ readiness: Readiness) {
    let isOver = !readiness.isDisjoint(with: .hungUp)
    if either != nil {
      resume(&either)
    } else {
      let isAwaited = reader != nil || writer != nil
      if readiness.contains(.readable) || isOver {
        if reader != nil { resume(&reader) } else { pending.insert(.readable) }
      }
      if readiness.contains(.writable) || isOver {
        if writer != nil { resume(&writer) } else { pending.insert(.writable) }
      }
      if !isAwaited { onReport?() }
    }
    if isOver { isHungUp = true }
    if !readiness.isDisjoint(with: hangUp) {
      let hangUp = onHangUp
      onHangUp = nil
      hangUp?()
    }
  }

  private func resume(_ waiter: inout UnsafeContinuation<Void, Never>?) {
    let continuation = waiter
    waiter = nil
    continuation?.resume()
  }
}
