// What a comparison may ask for besides.

import CGI
import HTTPTypes
import JSON
import Postgres
import Testing

@testable import Orders

@Suite("Hooks for benches")
struct BenchHookTests {
  private func request(_ path: String, _ fields: [(String, String)]) -> Request {
    var request = Request()
    for (name, value) in [("REQUEST_METHOD", "GET"), ("PATH_INFO", path)] + fields {
      let bytes = (Array(name.utf8), Array(value.utf8))
      request.append(bytes.0.span, bytes.1.span)
    }
    request.finish()
    return request
  }

  @Test("mean nothing where they were not asked for")
  func off() throws {
    let application = Orders(mode: .sync)
    for field in [("HTTP_BENCH_DELAY", "100"), ("HTTP_BENCH_STATEMENTS", "4"), ("HTTP_BENCH_SPIN", "5")] {
      guard case .query(let operation) = application.begin(request("/sync/contact/7", [field])) else {
        throw Unexpected.query
      }
      #expect(operation.statement.name == "contact_item")
    }
  }

  @Test("make the database slow, for one contact only")
  func delay() throws {
    let application = Orders(mode: .async, benchHooks: true)
    guard case .query(let slow) = application.begin(request("/async/contact/7", [("HTTP_BENCH_DELAY", "100")])) else {
      throw Unexpected.query
    }
    #expect(slow.statement.name == "bench_contact_item")
    #expect(slow.parameters.bytes == Array("7\0100\0".utf8))
    for path in ["/async/contact", "/async/order/7"] {
      guard case .query(let usual) = application.begin(request(path, [("HTTP_BENCH_DELAY", "100")])) else {
        throw Unexpected.query
      }
      #expect(usual.statement.name != "bench_contact_item")
    }
  }

  @Test("make one request many statements", arguments: [("1", 1), ("256", 256)])
  func statements(_ text: String, _ count: Int) throws {
    let application = Orders(mode: .sync, benchHooks: true)
    let last = try operation(application, request("/sync/contact/7", [("HTTP_BENCH_STATEMENTS", text)]))
    #expect(last.parameters.bytes == Array("\(6 + count)\0".utf8))
    #expect(last.others.map(\.parameters.bytes) == (7..<6 + count).map { Array("\($0)\0".utf8) })
  }

  @Test("stay at the last id that there can be", arguments: [Int64.max, Int64.max - 2])
  func lastID(_ id: Int64) throws {
    let application = Orders(mode: .sync, benchHooks: true)
    let last = try operation(application, request("/sync/contact/\(id)", [("HTTP_BENCH_STATEMENTS", "4")]))
    #expect(last.parameters.bytes == Array("\(Int64.max)\0".utf8))
    #expect(last.others.count == 3 && last.others.first?.parameters.bytes == Array("\(id)\0".utf8))
  }

  @Test("make any request compute for a time")
  func spin() {
    let application = Orders(mode: .sync, benchHooks: true)
    for path in ["/sync/contact/7", "/sync/order"] {
      let start = ContinuousClock.now
      _ = application.begin(request(path, [("HTTP_BENCH_SPIN", "3000")]))
      #expect(ContinuousClock.now - start >= .milliseconds(3))
    }
  }

  @Test(
    "take nothing that makes no sense",
    arguments: ["0", "-1", "x", "257", "9223372036854775807", "99999999999999999999", "+1", ""])
  func nonsense(_ text: String) throws {
    let application = Orders(mode: .sync, benchHooks: true)
    guard case .query(let operation) = application.begin(request("/sync/contact/7", [("HTTP_BENCH_STATEMENTS", text)]))
    else {
      throw Unexpected.query
    }
    #expect(operation.statement.name == "contact_item")
  }
}
