// What a responder logs of a request that went wrong, in the same words by every server.

import CGI
import Logging

extension Logger {
  /// Logs what went wrong inside, if something did.
  package func report(_ response: Response, to request: borrowing Request) {
    guard let fault = response.fault else { return }
    log(
      level: response.status.code == 500 ? .error : .warning, "\(response.status.code): \(fault)",
      metadata: request.logMetadata)
  }
}

extension Request {
  /// By what a line of the log is found again: the request's id, and its place in a trace.
  package var logMetadata: Logger.Metadata {
    var metadata: Logger.Metadata = ["request": "\(requestID.text)"]
    if isTraceParent { metadata["traceparent"] = "\(traceParent.text)" }
    return metadata
  }

  /// Hexadecimal digits and dashes, as of version 00 or later (W3C Trace Context §3.2.2). What else it says is not ours to
  /// judge, but what is no `traceparent` has no business in a log.
  private var isTraceParent: Bool {
    let text = traceParent
    guard text.count >= 55, text.count <= 128 else { return false }
    return text.indices.allSatisfy { index in
      let byte = text[index]
      return byte == UInt8(ascii: "-") || byte &- 0x30 < 10 || byte &- 0x61 < 6
    }
  }
}
