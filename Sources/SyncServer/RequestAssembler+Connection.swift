// Reads a request that libfcgi can't be left alone with.

import CLinux
import FastCGI
import Glibc

extension RequestAssembler {
  /// Reads from a connection until a request is whole, and answers what has to be answered before; nil if there will be none.
  /// `header` is given its variables, as soon as these are whole.
  mutating func read(from connection: Int32, header: ([UInt8]) -> Void) -> AssembledRequest? {
    var hasHeader = false
    var bytes = [UInt8](repeating: 0, count: 16 << 10)
    while true {
      let count = recv(connection, &bytes, bytes.count, 0)
      if count < 0, errno == EINTR { continue }
      if count <= 0 { return nil }
      var position = 0
      let action = next(bytes.span.extracting(first: count), &position)
      clinux_set_emergency_answer_request(firstID ?? RecordHeader.nullRequestID)
      if !hasHeader, let params = firstParams {
        hasHeader = true
        header(params)
      }
      guard Self.write(takeReplies(), to: connection) else { return nil }
      switch action {
      case .request(let request):
        if !hasHeader { header(request.params) }
        return request
      case .aborted, .close: return nil
      // Whoever has been refused is answered, and nobody waits for another.
      case nil: if hasRefused, isIdle { return nil }
      }
    }
  }

  private static func write(_ bytes: [UInt8], to connection: Int32) -> Bool {
    var written = 0
    while written < bytes.count {
      let count = bytes.withUnsafeBytes {
        send(connection, $0.baseAddress.map { $0 + written }, $0.count - written, Int32(MSG_NOSIGNAL))
      }
      if count < 0, errno == EINTR { continue }
      if count <= 0 { return false }
      written += count
    }
    return true
  }
}
