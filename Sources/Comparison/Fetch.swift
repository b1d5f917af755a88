// One request over a connection of its own, waited for: to see that models answer the same.

import CLinux
import Glibc
import Platform

enum Fetch {
  /// Status line and body; nil if there was no answer. HTTP/1.0, so that the end of the connection is the end of it.
  static func answer(
    port: UInt16, _ method: String, _ path: String, body: String? = nil
  ) -> (status: Int, body: String)? {
    let number = clinux_stream_socket(AF_INET, 0)
    guard number >= 0 else { return nil }
    let descriptor = Descriptor(owning: number)
    var limit = timeval(tv_sec: 10, tv_usec: 0)
    setsockopt(number, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let isConnected = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor.number, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
    guard isConnected else { return nil }
    var request = "\(method) \(path) HTTP/1.0\r\nHost: localhost\r\n"
    if let body { request += "Content-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n" }
    request += "\r\n\(body ?? "")"
    let bytes = Array(request.utf8)
    guard bytes.withUnsafeBytes({ Transfer.write(descriptor.number, from: $0) }) == .bytes(bytes.count) else {
      return nil
    }
    var answer: [UInt8] = []
    let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
    defer { chunk.deallocate() }
    while case .bytes(let count) = Transfer.read(descriptor.number, into: chunk) { answer += chunk[..<count] }
    guard answer.starts(with: "HTTP/1.".utf8), let end = answer.firstRange(of: Array("\r\n\r\n".utf8)),
      let status = Int(String(decoding: answer.dropFirst(9).prefix(3), as: UTF8.self))
    else { return nil }
    return (status, String(decoding: answer[end.upperBound...], as: UTF8.self))
  }
}
