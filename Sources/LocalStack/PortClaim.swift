// A port of the loopback's, for one stack alone.

import CLinux
import Glibc
import Platform

/// Held as long as its owner lives. nginx opens a listening socket for each worker (SO_REUSEPORT), and so the kernel would let
/// two of the same user have one port and share out its connections, each to another stack. The claim is a Unix socket in the
/// abstract namespace, which reaches as far as the ports do: over the network namespace (unix(7), network_namespaces(7)).
package struct PortClaim: ~Copyable {
  private let descriptor: Descriptor

  /// Nil if somebody listens on the port or has claimed it.
  package static func make(_ port: UInt16) -> PortClaim? {
    let number = clinux_stream_socket(AF_UNIX, 0)
    guard number >= 0 else { return nil }
    let descriptor = Descriptor(owning: number)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    // A name that begins with a zero byte is abstract.
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: "\0forkloop-port-\(port)".utf8) }
    let outcome = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor.number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard outcome == 0, !Service.Readiness.tcp(port).isAnswered() else { return nil }
    return PortClaim(descriptor: descriptor)
  }
}
