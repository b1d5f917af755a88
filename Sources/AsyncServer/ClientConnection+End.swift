// How a connection ends: for its time limits, behind its last answer, or because it is idle while its loop drains.

import FastCGI
import Glibc
import Platform

extension ClientConnection {
  /// Gives up a peer that takes too long to send a request or to take an answer, and one that has not asked for anything
  /// for a very long time.
  func enforceTimeLimits(_ now: UInt64) {
    if isOver { return }
    func isOlder(_ since: UInt64, than limit: Duration) -> Bool {
      since > 0 && now > since && now - since > limit.nanoseconds
    }
    let configuration = server.configuration
    if isOlder(readingSince, than: configuration.peerTimeout) || isOlder(writingSince, than: configuration.peerTimeout)
    {
      server.log.warning("a peer took too long: connection closed")
      end()
    } else if isOlder(idleSince, than: configuration.idleTimeout) {
      if hasAnnouncedEnd || !isWantedAgain { closeIfIdle() } else { announceEnd() }
    }
  }

  /// Tells the peer of an idle connection that it is about to be closed. nginx closes an idle connection that becomes readable, and
  /// on one that it has just taken for a request it reads over an empty STDERR record (FastCGI 1.0 §5.3) that comes before the
  /// answer; Apache takes none that has something to read.
  func announceEnd() {
    guard isWantedAgain, !hasAnnouncedEnd, underWay.isEmpty, unsent.isEmpty, !assembler.isReceiving, !isOver, !isLeaving
    else { return }
    hasAnnouncedEnd = true
    var record = RecordWriter()
    record.record(.stderr, requestID: lastID, [])
    // A peer that takes nothing is not waited for: where there is no space for it, it hears nothing.
    let transfer = record.bytes.withUnsafeBytes { Transfer.write(descriptor.number, from: $0) }
    if case .bytes(let count) = transfer, count < record.bytes.count { end() }
  }

  /// Closes the connection if no request is under way. The receiving side is shut first, so that a request either has
  /// arrived, and is served, or is refused as a whole.
  func closeIfIdle() {
    guard underWay.isEmpty, unsent.isEmpty, !assembler.isReceiving, !isOver, !isLeaving else { return }
    var byte: UInt8 = 0
    if recv(descriptor.number, &byte, 1, Int32(MSG_PEEK | MSG_DONTWAIT)) > 0 { return }
    isLeaving = true
    watch.onHangUp = nil
    shutdown(descriptor.number, Int32(SHUT_RD))
    watch.interrupt()
  }

  /// The last answer has gone. What a peer that goes on using the connection has sent meanwhile is answered, too.
  func leave() { if isWantedAgain { closeIfIdle() } else { end() } }
}
