// What a server tells of itself, under `/status` and `/metrics` below its application's prefix.

import CGI

/// A page about the server.
package enum MonitoringPage: Sendable {
  case status, metrics

  /// By its decoded path below `prefix`; nil if it is none.
  package init?(path: Span<UInt8>, below prefix: String) {
    // Nearly every path is another's.
    switch path.count - prefix.utf8.count {
    case 7 where path.extracting(last: 7).equals("/status"): self = .status
    case 8 where path.extracting(last: 8).equals("/metrics"): self = .metrics
    default: return nil
    }
    guard path.begins(withSegment: prefix) else { return nil }
  }

  /// The answer to a request for it, whose text `make` knows.
  package func answer(
    _ request: borrowing Request, by application: any Application, _ make: () -> [UInt8]
  ) -> Response {
    application.objection(to: request)
      ?? Response(.ok, contentType: self == .status ? .json : .openMetrics, body: make())
  }
}
