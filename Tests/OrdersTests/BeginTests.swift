// From a request to a statement, or to an answer that needs none.

import CGI
import HTTPTypes
import JSON
import Postgres
import Testing

@testable import Orders

@Suite("Orders.begin")
struct BeginTests {
  let application = Orders(mode: .sync)

  @Test(
    "finds nothing at other paths",
    arguments: [
      "", "/", "/sync", "/sync/", "/async/tag", "/sync/tags", "/sync/tags/", "/sync/tag//", "/sync/tag/0",
      "/sync/tag/-1",
      "/sync/tag/01", "/sync/tag/1/2",
      "/sync/tag/x", "/sync/tag/9223372036854775808", "/sync/tag/99999999999999999999", "/sync//tag", "/SYNC/tag",
    ])
  func notFound(_ path: String) throws { #expect(try response(application, request("GET", path)).status == .notFound) }

  @Test(
    "sends a path with a slash at its end to the one without",
    arguments: [
      ("/sync/tag/", "", "/sync/tag"), ("/sync/order/7/", "a=%20b", "/sync/order/7?a=%20b"),
      ("/sync/health/", "", "/sync/health"), ("/sync/status/", "", "/sync/status"),
      ("/sync/metrics/", "", "/sync/metrics"),
    ])
  func trailingSlash(_ path: String, _ query: String, _ target: String) throws {
    for method in ["GET", "POST", "DELETE"] {
      let response = try response(application, request(method, path, query: query))
      #expect(response.status == .permanentRedirect)
      #expect(response.fields == [HTTPField(name: .location, value: target)])
    }
  }

  @Test("takes ids up to 2^63-1")
  func largestID() throws {
    let operation = try operation(application, request("GET", "/sync/tag/9223372036854775807"))
    var expected = Parameters()
    expected.append(Int64.max)
    #expect(operation.parameters == expected)
  }

  @Test("answers OPTIONS and wrong methods with Allow", arguments: Resource.allCases.map(\.rawValue))
  func methods(_ resource: String) throws {
    let options = try response(application, request("OPTIONS", "/sync/\(resource)"))
    #expect(options.status == .noContent)
    #expect(options.fields == [HTTPField(name: .allow, value: "GET, HEAD, POST, OPTIONS")])
    let item = try response(application, request("OPTIONS", "/sync/\(resource)/1"))
    #expect(item.fields.contains { $0.name == .acceptPatch && $0.value.hasPrefix("application/merge-patch+json") })
    let wrong = try response(application, request("PUT", "/sync/\(resource)/1"))
    #expect(wrong.status == .methodNotAllowed)
    #expect(wrong.fields == [HTTPField(name: .allow, value: "GET, HEAD, PATCH, DELETE, OPTIONS")])
  }

  @Test("binds limit + 1 and after")
  func page() throws {
    let operation = try operation(application, request("GET", "/sync/order", query: "limit=5&after=12"))
    var expected = Parameters()
    expected.append(12 as Int64)
    expected.append(6 as Int64)
    #expect(operation.parameters == expected)
  }

  @Test(
    "names every parameter that is wrong",
    arguments: [
      ("limit=0", ["limit out_of_range"]), ("limit=1001", ["limit out_of_range"]),
      ("limit=x&after=-1", ["limit out_of_range", "after out_of_range"]),
      ("limit=", ["limit out_of_range"]), ("limit=1&limit=2", ["limit repeated"]),
      ("page=2&Limit=1", ["page unknown", "Limit unknown"]),
      ("after=9223372036854775808", ["after out_of_range"]), ("limit=%2B5", ["limit out_of_range"]),
    ])
  func wrongParameters(_ query: String, _ expected: [String]) throws {
    let response = try response(application, request("GET", "/sync/order", query: query))
    #expect(response.status == .unprocessableContent)
    #expect(try faults(response) == expected)
  }

  @Test("says 400 to a query string that can't be decoded")
  func undecodable() throws {
    #expect(try response(application, request("GET", "/sync/order", query: "limit=%zz")).status == .badRequest)
    #expect(try response(application, request("GET", "/sync/order/1", query: "%")).status == .badRequest)
  }

  @Test(
    "takes JSON only",
    arguments: [
      ("application/json", true), ("Application/JSON; charset=utf-8", true), ("application/merge-patch+json", true),
      ("text/plain", false), ("", false),
      ("application/jsonx", false), ("application/xml", false), ("application/+json", false),
    ])
  func contentType(_ type: String, _ isTaken: Bool) throws {
    let request = request("POST", "/sync/tag", type: type, body: "{}")
    #expect(try response(application, request).status == (isTaken ? .unprocessableContent : .unsupportedMediaType))
  }

  @Test("says 413 to a body that is too long, 400 to one that is cut off or no JSON")
  func bodies() throws {
    var tooLong = request("POST", "/sync/tag", body: "{}")
    tooLong.bodyIsTooLarge = true
    #expect(try response(application, tooLong).status == .contentTooLarge)
    var cut = request("POST", "/sync/tag", body: #"{"name":"x"}"#)
    cut.body.removeLast()
    #expect(try response(application, cut).status == .badRequest)
    #expect(try response(application, request("POST", "/sync/tag", body: "{name:1}")).status == .badRequest)
  }

  @Test(
    "tells all faults of an order at once",
    arguments: [
      ("{}", ["/name missing", "/contact_id missing", "/order_lines missing"]),
      ("[]", [" wrong_type"]),
      (#"{"name":"a","contact_id":1,"order_lines":[],"nmae":1}"#, ["/nmae unknown"]),
      (#"{"name":"a","name":"b","contact_id":1,"order_lines":[]}"#, ["/name duplicate_key"]),
      (
        #"{"name":"","contact_id":"1","order_lines":{},"tag_ids":null}"#,
        ["/name blank", "/contact_id wrong_type", "/order_lines wrong_type", "/tag_ids wrong_type"]
      ),
      (
        #"{"name":" \t ","contact_id":0,"order_lines":[{}]}"#,
        [
          "/name blank", "/contact_id out_of_range", "/order_lines/0/product_id missing",
          "/order_lines/0/quantity missing", "/order_lines/0/price missing",
        ]
      ),
      (
        #"{"name":"a\u0000","contact_id":1.5,"order_lines":[{"product_id":1,"quantity":0,"price":0.00001},{"product_id":1,"quantity":1000001,"price":-1}]}"#,
        [
          "/name nul_character", "/contact_id wrong_type", "/order_lines/0/quantity out_of_range",
          "/order_lines/0/price too_many_decimals",
          "/order_lines/1/quantity out_of_range", "/order_lines/1/price out_of_range",
        ]
      ),
      (
        #"{"name":"a","contact_id":9223372036854775808,"order_lines":[{"product_id":1,"quantity":1,"price":10000000000}],"tag_ids":[1,2,1,"x"]}"#,
        [
          "/contact_id out_of_range", "/order_lines/0/price out_of_range", "/tag_ids/2 repeated",
          "/tag_ids/3 wrong_type",
        ]
      ),
    ] as [(String, [String])])
  func orderFaults(_ body: String, _ expected: [String]) throws {
    let response = try response(application, request("POST", "/sync/order", body: body))
    #expect(response.status == .unprocessableContent)
    #expect(try faults(response) == expected)
  }

  @Test("bounds lines at 1,000 and tags at 100")
  func counts() throws {
    let line = #"{"product_id":1,"quantity":1,"price":1}"#
    func order(lines: Int, tags: Int) -> Request {
      let lines = Array(repeating: line, count: lines).joined(separator: ",")
      let tags = (0..<tags).map { String($0 + 1) }.joined(separator: ",")
      return request(
        "POST", "/sync/order", body: #"{"name":"a","contact_id":1,"order_lines":[\#(lines)],"tag_ids":[\#(tags)]}"#)
    }
    _ = try operation(application, order(lines: 1_000, tags: 100))
    #expect(
      try faults(response(application, order(lines: 1_001, tags: 101))) == [
        "/order_lines too_many_items", "/tag_ids too_many_items",
      ])
  }

  @Test("counts a name's code points: 255 are taken, 256 are not", arguments: ["x", "é", "😀"])
  func nameLength(_ character: String) throws {
    func tag(_ count: Int) -> Request {
      request("POST", "/sync/tag", body: "{\"name\":\"\(String(repeating: character, count: count))\"}")
    }
    _ = try operation(application, tag(255))
    #expect(try faults(response(application, tag(256))) == ["/name too_long"])
  }

  @Test(
    "wants one @ with something on both sides",
    arguments: [("a@b", true), ("a", false), ("@b", false), ("a@", false), ("a@b@c", false)])
  func email(_ email: String, _ isTaken: Bool) throws {
    let request = request("POST", "/sync/contact", body: #"{"name":"a","email":"\#(email)"}"#)
    if isTaken {
      _ = try operation(application, request)
    } else {
      #expect(try faults(response(application, request)) == ["/email malformed"])
    }
  }

  @Test("does not answer a flood of faults with a larger one, and says how many there are")
  func manyFaults() throws {
    let keys = (0..<50_000).map { "\"k\($0)\":1" }.joined(separator: ",")
    let lines = Array(repeating: "{}", count: 1_000).joined(separator: ",")
    let query = Array(repeating: "a", count: 4_000).joined(separator: "&")
    for (request, count) in [
      (request("POST", "/sync/tag", body: "{\(keys)}"), 50_001),
      (request("POST", "/sync/order", body: #"{"name":"a","contact_id":1,"order_lines":[\#(lines)]}"#), 3_000),
      (request("GET", "/sync/order", query: query), 4_000), (request("GET", "/sync/order/1", query: query), 4_000),
    ] {
      let response = try response(application, request)
      #expect(try faults(response).count == Faults.most)
      #expect(text(response).contains("There are \(count) faults in the request, of which the first 300 are told."))
      #expect(response.body.count < 30_000)
    }
  }

  @Test("tells one key from another by its bytes")
  func normalizationForms() throws {
    let (composed, decomposed) = ("\u{E9}", "e\u{301}")
    func of(_ keys: String...) throws -> [String] {
      let members = keys.map { "\"\($0)\":1" }.joined(separator: ",")
      return try faults(response(application, request("POST", "/sync/tag", body: "{\"name\":\"a\",\(members)}")))
    }
    func areSame(_ texts: [String], _ expected: [String]) -> Bool {
      texts.map { Array($0.utf8) } == expected.map { Array($0.utf8) }
    }
    #expect(areSame(try of(composed, decomposed), ["/\(composed) unknown", "/\(decomposed) unknown"]))
    #expect(areSame(try of(decomposed, decomposed), ["/\(decomposed) unknown", "/\(decomposed) duplicate_key"]))
    #expect(areSame(try of("name\u{301}"), ["/name\u{301} unknown"]))
  }

  @Test("does not repeat a name of any length", arguments: [100, 101, 100_000])
  func longNames(_ length: Int) throws {
    let name = String(repeating: "k", count: length)
    let body = try response(application, request("POST", "/sync/tag", body: "{\"name\":\"a\",\"\(name)\":1}"))
    #expect(try faults(body) == [length > 100 ? " unknown" : "/\(name) unknown"])
    #expect(text(body).contains("\(length) bytes") == (length > 100))
    let query = try response(application, request("GET", "/sync/tag", query: name))
    #expect(try faults(query) == [length > 100 ? "\(name.prefix(100))… unknown" : "\(name) unknown"])
  }
}
