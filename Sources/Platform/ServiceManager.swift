// How a service manager is spoken to (sd_notify(3), sd_listen_fds(3)): the protocol, which is documented as stable, needs
// no library.

import CLinux
import Glibc

package enum ServiceManager {
  /// What it tells one process, and no process that this one starts.
  package static let variables = [
    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES",
  ]

  /// Sends state as `NAME=value` lines; nothing happens where no service manager listens.
  package static func notify(_ state: String) {
    guard let text = getenv("NOTIFY_SOCKET"), text.pointee != 0 else { return }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let path = String(cString: text)
    guard path.utf8.count <= ListenAddress.longestPath else { return }
    withUnsafeMutableBytes(of: &address.sun_path) { space in
      space.copyBytes(from: path.utf8)
      // An abstract socket's name begins with a zero.
      if path.hasPrefix("@") { space[0] = 0 }
    }
    let length = socklen_t(MemoryLayout<sa_family_t>.size + path.utf8.count)
    let number = clinux_datagram_socket()
    guard number >= 0 else { return }
    let descriptor = Descriptor(owning: number)
    // One that takes nothing any more would keep us waiting for ever.
    var limit = timeval(tv_sec: 0, tv_usec: 100_000)
    setsockopt(descriptor.number, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    var bytes = state
    bytes.withUTF8 { bytes in
      withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          _ = sendto(descriptor.number, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL), $0, length)
        }
      }
    }
  }

  /// How often the service manager wants a sign of life, in nanoseconds: half of its patience. nil: not at all.
  package static var watchdogInterval: UInt64? {
    guard let text = getenv("WATCHDOG_USEC"), let microseconds = UInt64(String(cString: text)), microseconds > 0 else {
      return nil
    }
    if let process = getenv("WATCHDOG_PID"), String(cString: process) != String(getpid()) { return nil }
    // Any number may stand there.
    return min(microseconds, 1 << 40) * 500
  }

  /// The listening sockets that were handed to this process, from descriptor 3 on.
  package static var listeningSockets: [Int32] {
    // The program that is checked before a reload is a child of the process that they were handed to.
    let owner = getenv("FORKLOOP_BOUND") == nil ? getpid() : getppid()
    guard let process = getenv("LISTEN_PID"), String(cString: process) == String(owner),
      let text = getenv("LISTEN_FDS"), let count = Int32(String(cString: text)), count > 0, count < 1024
    else { return [] }
    return (3..<3 + count).map { $0 }
  }
}
