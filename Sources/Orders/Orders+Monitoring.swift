// What a responder tells of itself, under `/{mode}/status` and `/{mode}/metrics`: by the rules of the API's routes, though it is no
// business of the application's what it says.

import CGI
import HTTPTypes
import JSON

/// A page about the responder.
package enum MonitoringPage: Sendable {
  case status, metrics

  /// By its decoded path; nil if it is none.
  package init?(path: Span<UInt8>, mode: Mode) {
    // Nearly every path is another's.
    guard path.count >= 12, path.count <= 14 else { return nil }
    if path.equals(mode == .sync ? "/sync/status" : "/async/status") {
      self = .status
    } else if path.equals(mode == .sync ? "/sync/metrics" : "/async/metrics") {
      self = .metrics
    } else {
      return nil
    }
  }

  fileprivate static let methods = Methods(list: [.get, .head, .options])
}

extension Orders {
  /// The answer for a page whose text `make` knows.
  package func answer(_ page: MonitoringPage, to request: borrowing Request, _ make: () -> [UInt8]) -> Response {
    if let response = refusal(of: request, taking: MonitoringPage.methods) { return response }
    if let problem = Page.refuseAll(request.query) { return problem.response(&writer) }
    return Response(.ok, contentType: page == .status ? .json : .openMetrics, body: make())
  }

  /// The answer where there is nothing.
  package static func nothingHere() -> Response {
    var writer = JSONWriter(capacity: 256)
    return Problem.notFound(detail: "There is nothing at this path.").response(&writer)
  }
}
