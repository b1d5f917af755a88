// How answers go out: at once, as much as the socket takes, and the rest when it has space.

import EventLoop
import Platform

extension ClientConnection {
  /// What the loop is asked to tell of, and what while the socket is full. Told of space always, it would wake up each time that
  /// the peer reads.
  static let usual: Readiness = [.readable, .hungUp]
  private static let whileFull: Readiness = [.readable, .writable, .hungUp]

  /// Writes all of it, or leaves what the socket does not take, and everything that comes after it, for when it does.
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
    unsent = Array(bytes[written...])
    dueCount = unsent.count
    writingSince = server.loop.now
    watch(for: Self.whileFull)
  }

  /// Writes what was left, as much as the socket takes now.
  func flush() {
    guard !isOver, !unsent.isEmpty, transfer(unsent, &sentCount), sentCount >= dueCount else { return }
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

  private func watch(for readiness: Readiness) {
    do throws(SystemError) {
      try watch.change(to: readiness)
    } catch {
      server.log.warning("\(error)")
      end()
    }
  }

  /// Writes as much as the socket takes; false if the peer has gone.
  private func transfer(_ bytes: [UInt8], _ written: inout Int) -> Bool {
    while written < bytes.count {
      let transfer = bytes.withUnsafeBytes {
        Transfer.write(descriptor.number, from: UnsafeRawBufferPointer(rebasing: $0[written...]))
      }
      switch transfer {
      case .bytes(let count): written += count
      case .wouldBlock: return true
      case .end, .failed:
        end()
        return false
      }
    }
    return true
  }
}
