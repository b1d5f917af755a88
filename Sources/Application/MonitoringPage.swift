// What a server tells of itself, under `/status` and `/metrics` below its application's prefix.

import CGI

/// A page about the server.
package enum MonitoringPage: Sendable {
  case status, metrics

  /// By its decoded path below `prefix`; nil if it is none.
  package init?(path: Span<UInt8>, below prefix: String) {
    // Nearly every path is another's.
    let length = path.count - prefix.utf8.count
    guard length == 7 || length == 8 else { return nil }
    guard path.begins(withSegment: prefix) else { return nil }
    let name = path.extracting(droppingFirst: prefix.utf8.count)
    if name.equals("/status") {
      self = .status
    } else if name.equals("/metrics") {
      self = .metrics
    } else {
      return nil
    }
  }

  /// The answer to a request for it, whose text `make` knows.
  package func answer(_ request: borrowing Request, by application: any Application, _ make: () -> [UInt8]) -> Response {
    application.objection(to: request)
      ?? Response(.ok, contentType: self == .status ? .json : .openMetrics, body: make())
  }
}
