// Which paths are pages about the server, and what they answer.

import CGI
import Testing

@testable import Application

@Suite struct MonitoringPageTests {
  @Test(
    "stands below the prefix, and nowhere else",
    arguments: [
      ("/sync/status", "/sync", .status), ("/sync/metrics", "/sync", .metrics), ("/a/b/status", "/a/b", .status),
      ("/status", "", .status), ("/metrics", "", .metrics), ("/sync/status", "/async", nil), ("/status", "/sync", nil),
      ("/sync", "/sync", nil), ("/sync/", "/sync", nil), ("", "/sync", nil), ("", "", nil), ("/", "", nil),
      ("/sync/status/", "/sync", nil), ("/sync/metric", "/sync", nil), ("/sync/metricss", "/sync", nil),
      ("/sync//status", "/sync", nil), ("/sync/Status", "/sync", nil), ("/sync/statusx", "/sync", nil),
      ("/synchron/statu", "/sync", nil), ("/syncx/statu", "/sync", nil), ("/sync/status\0", "/sync", nil),
      ("/a/sync/status", "/sync", nil), ("xsync/status", "/sync", nil), ("/xyz/status", "/sync", nil),
      ("/xync/status", "/sync", nil), ("/sync/contact", "/sync", nil),
    ] as [(String, String, MonitoringPage?)])
  func paths(_ path: String, _ prefix: String, _ page: MonitoringPage?) {
    #expect(MonitoringPage(path: path.utf8.span, below: prefix) == page)
  }

  @Test("says what the server knows, in its form", arguments: [MonitoringPage.status, .metrics])
  func shown(_ page: MonitoringPage) {
    let answer = page.answer(request("GET"), by: Tiny()) { Array("known".utf8) }
    #expect(answer.status == .ok && text(answer) == "known")
    #expect(answer.contentType == (page == .status ? .json : .openMetrics))
  }

  @Test("is not made where the application objects")
  func objection() {
    var count = 0
    let answer = MonitoringPage.status.answer(request("POST"), by: Tiny()) {
      count += 1
      return []
    }
    #expect(answer.status == .methodNotAllowed && count == 0)
  }
}
