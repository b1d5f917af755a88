// How answers go out: at once, as much as the socket takes and one turn of the loop is for, and the rest when it has space.

import EventLoop
import Platform

extension ClientConnection {
  /// What the loop is asked to tell of, and what while the socket is full. Told of space always, it would wake up each time that
  /// the peer reads.
  static let usual: Readiness = [.readable, .hungUp]
  private static let whileFull: Readiness = [.readable, .writable, .hungUp]
  /// How many bytes are written in one go: about what a Unix socket holds. A peer that takes them as fast as they come would have the
  /// loop for itself otherwise.
  private static let slice = 256 << 10

  /// Writes all of it, or leaves what the socket does not take now, and everything that comes after it, for when it does.
  func write(_ bytes: [UInt8]) {
    if isOver { return }
    guard unsent.isEmpty else {
      server.buffers.backlogged += 1
      unsent += bytes
      return
    }
    var written = 0
    guard transfer(bytes, &written), written < bytes.count else { return }
    server.buffers.backlogged += 1
    // What is much is not copied, and whoever has made it makes the next one elsewhere.
    (unsent, sentCount) = bytes.count > Memory.large ? (bytes, written) : (Array(bytes[written...]), 0)
    dueCount = unsent.count
    writingSince = server.loop.now
    watch(for: Self.whileFull)
  }

  /// Writes what was left, as much as the socket takes now.
  func flush() {
    guard !isOver, !unsent.isEmpty else { return }
    var count = sentCount
    guard transfer(unsent, &count) else { return }
    // It has not said that it is full.
    if count - sentCount == Self.slice, count < unsent.count { reportAgain() }
    sentCount = count
    guard !isOver, sentCount >= dueCount else { return }
    if sentCount > Memory.large { server.hasFreedMuch = true }
    // The time limit is for what waits, not for what comes behind it.
    unsent.removeFirst(sentCount)
    sentCount = 0
    dueCount = unsent.count
    writingSince = unsent.isEmpty ? 0 : server.loop.now
    guard unsent.isEmpty else { return }
    unsent = []
    watch(for: Self.usual)
    if isLast, underWay.isEmpty { leave() }
  }

  /// Nobody waits for what was left any more.
  func forgetUnsent() {
    if unsent.count > Memory.large { server.hasFreedMuch = true }
    unsent = []
  }

  private func reportAgain() {
    do throws(SystemError) { try watch.reportAgain() } catch {
      server.log.warning("\(error)")
      end()
    }
  }

  private func watch(for readiness: Readiness) {
    do throws(SystemError) {
      try watch.change(to: readiness)
    } catch {
      server.log.warning("\(error)")
      end()
    }
  }

  /// Writes as much as the socket takes, of one slice; false if the peer has gone.
  private func transfer(_ bytes: [UInt8], _ written: inout Int) -> Bool {
    let end = min(bytes.count, written &+ Self.slice)
    while written < end {
      let transfer = bytes.withUnsafeBytes {
        Transfer.write(descriptor.number, from: UnsafeRawBufferPointer(rebasing: $0[written..<end]))
      }
      switch transfer {
      case .bytes(let count): written += count
      case .wouldBlock: return true
      case .end, .failed:
        self.end()
        return false
      }
    }
    return true
  }
}
