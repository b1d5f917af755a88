// An HTTP client's connection that is kept: one request at a time, waited for.

import CLinux
import Glibc
import LoadGenerator
import LocalStack
import Platform

final class KeptConnection {
  struct Answer {
    let status: Int
    /// Head and body.
    let bytes: Int
  }

  private let port: UInt16
  private var descriptor: Int32 = -1
  private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)

  init(port: UInt16) { self.port = port }

  deinit {
    close()
    buffer.deallocate()
  }

  /// Connects, if it is not connected.
  func connect() throws(LocalStackError) {
    guard descriptor < 0 else { return }
    descriptor = clinux_stream_socket(AF_INET, 0)
    // Longer than anything here takes to answer for certain.
    var limit = timeval(tv_sec: 70, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let isConnected = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
    guard isConnected else { throw LocalStackError("can't connect to nginx: \(String(cString: strerror(errno)))") }
  }

  /// Sends a request and takes its answer.
  func exchange(_ request: [UInt8], isHead: Bool) throws(LocalStackError) -> Answer {
    try connect()
    guard request.withUnsafeBytes({ Transfer.write(descriptor, from: $0) }) == .bytes(request.count) else {
      throw LocalStackError("nginx does not take the request")
    }
    var answer = HTTPAnswer(toHead: isHead)
    var count = 0
    while !answer.isComplete {
      guard case .bytes(let more) = Transfer.read(descriptor, into: buffer) else {
        guard answer.endsWithConnection else { throw LocalStackError("nginx has sent no whole answer") }
        break
      }
      count += more
      do throws(HTTPAnswer.Malformed) {
        _ = try answer.take(UnsafeRawBufferPointer(rebasing: buffer[..<more]))
      } catch {
        throw LocalStackError("nginx has sent what is no answer")
      }
    }
    if answer.isLast { close() }
    return Answer(status: answer.status, bytes: count)
  }

  private func close() {
    if descriptor >= 0 { Glibc.close(descriptor) }
    descriptor = -1
  }
}
