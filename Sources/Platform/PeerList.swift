// Who may connect over TCP.

import Glibc

/// Addresses of peers, compared whole.
package struct PeerList: Equatable, Sendable {
  /// 4 or 16 bytes each.
  private let addresses: [[UInt8]]

  package struct Malformed: Error, CustomStringConvertible { package let description: String }

  /// From `127.0.0.1,::1`. Empty: everybody.
  package init(_ text: String) throws(Malformed) {
    var addresses: [[UInt8]] = []
    for part in text.parts(by: ",") {
      let name = part.filter { !$0.isWhitespace }
      var (four, six) = (in_addr(), in6_addr())
      if inet_pton(AF_INET, name, &four) == 1 {
        addresses.append(withUnsafeBytes(of: &four) { Array($0) })
      } else if inet_pton(AF_INET6, name, &six) == 1 {
        addresses.append(Self.plain(withUnsafeBytes(of: &six) { Array($0) }))
      } else {
        throw Malformed(description: "'\(name)' is no IPv4 or IPv6 address")
      }
    }
    guard !addresses.isEmpty || text.isEmpty else { throw Malformed(description: "'\(text)' names no address") }
    self.addresses = addresses
  }

  package var isEmpty: Bool { addresses.isEmpty }

  /// An IPv4 address in IPv6's clothes is an IPv4 address (RFC 4291 §2.5.5.2).
  private static func plain(_ bytes: [UInt8]) -> [UInt8] {
    bytes.starts(with: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]) ? Array(bytes[12...]) : bytes
  }

  package func contains(_ address: [UInt8]) -> Bool { addresses.contains(Self.plain(address)) }

  /// Whether the peer of a connection may talk to us. A Unix socket's permissions have been looked at already.
  package func admits(_ connection: Int32) -> Bool {
    if isEmpty { return true }
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    return withUnsafeMutablePointer(to: &storage) { storage in
      let found = storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(connection, $0, &length) }
      guard found == 0 else { return false }
      switch Int32(storage.pointee.ss_family) {
      case AF_UNIX: return true
      case AF_INET:
        return storage.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
          contains(withUnsafeBytes(of: $0.pointee.sin_addr) { Array($0) })
        }
      case AF_INET6:
        return storage.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
          contains(withUnsafeBytes(of: $0.pointee.sin6_addr) { Array($0) })
        }
      default: return false
      }
    }
  }
}
