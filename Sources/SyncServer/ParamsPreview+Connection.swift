// A look at what a connection holds, before libfcgi reads it.

import CLinux
import FastCGI
import Glibc

extension ParamsPreview {
  /// A header of 64 KiB is too long for anybody; cut into many records it takes more.
  private static let longest = 256 << 10

  /// Looks at the variables of the request that comes over a connection; `bytes` is room for them. libfcgi makes C strings of them,
  /// which end at a zero: `/contact/1%00` would be another path.
  ///
  /// Whether they are all there: a peer that has sent a part, and for a second nothing more, may wait for room in its socket, which
  /// there is as soon as something is read.
  mutating func look(into connection: Int32, _ bytes: inout [UInt8]) -> Bool {
    var count = 0
    var pause: Int32 = 1
    var hasEnded = false
    while pause < 1_000 {
      let more = recv(connection, &bytes, bytes.count, Int32(MSG_PEEK))
      if more < 0, errno == EINTR { continue }
      if more <= 0 { return false }
      if more > count {
        count = more
        pause = 1
        switch look(at: bytes.span.extracting(first: count)) {
        case .complete: return true
        case .malformed: return false
        case .incomplete: break
        }
        if count == bytes.count {
          guard count < Self.longest else { return false }
          bytes += [UInt8](repeating: 0, count: count)
          continue
        }
      }
      if hasEnded { return false }
      // Of what comes behind something that is unread poll(2) does not tell; of an end it does, by the same bit as epoll.
      var interest = pollfd(fd: connection, events: Int16(clinux_EPOLLRDHUP), revents: 0)
      hasEnded = poll(&interest, 1, pause) > 0
      pause *= 2
    }
    return false
  }
}
