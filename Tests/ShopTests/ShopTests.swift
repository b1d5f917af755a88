// begin and finish without a server: rows are made in memory.

import CGI
import HTTPTypes
import JSON
import Postgres
import Testing

@testable import Shop

private func request(
  _ method: String, _ path: String, query: String = "", type: String = "application/json", body: String? = nil
) -> Request {
  var request = Request()
  request.append("REQUEST_METHOD".utf8.span, method.utf8.span)
  request.append("PATH_INFO".utf8.span, path.utf8.span)
  request.append("QUERY_STRING".utf8.span, query.utf8.span)
  if let body {
    request.append("CONTENT_TYPE".utf8.span, type.utf8.span)
    request.append("CONTENT_LENGTH".utf8.span, String(body.utf8.count).utf8.span)
    request.body = Array(body.utf8)
  }
  request.finish()
  return request
}

private func response(_ shop: Shop, _ request: Request) throws -> Response {
  guard case .respond(let response) = shop.begin(request) else { throw Unexpected.query }
  return response
}

private func operation(_ shop: Shop, _ request: Request) throws -> Operation {
  switch shop.begin(request) {
  case .query(let operation): return operation
  case .queries: throw Unexpected.query
  case .respond(let response): throw Unexpected.response(text(response))
  }
}

private enum Unexpected: Error {
  case query
  case response(String)
}

private func text(_ response: Response) -> String { String(decoding: response.body, as: UTF8.self) }

private func faults(_ response: Response) throws -> [String] {
  guard case .object(let members) = try JSONReader.read(response.body),
    case .array(let errors)? = members.first(where: { $0.name == "errors" })?.value
  else { return [] }
  return errors.compactMap {
    guard case .object(let fault) = $0, case .string(let place) = fault[0].value,
      case .string(let code) = fault[1].value
    else { return nil }
    return "\(place) \(code)"
  }
}

@Suite("Shop.begin")
struct BeginTests {
  let shop = Shop(mode: .sync)

  @Test(
    "finds nothing at other paths",
    arguments: [
      "", "/", "/sync", "/sync/", "/async/tag", "/sync/tags", "/sync/tags/", "/sync/tag//", "/sync/tag/0",
      "/sync/tag/-1",
      "/sync/tag/01", "/sync/tag/1/2",
      "/sync/tag/x", "/sync/tag/9223372036854775808", "/sync/tag/99999999999999999999", "/sync//tag", "/SYNC/tag",
    ])
  func notFound(_ path: String) throws { #expect(try response(shop, request("GET", path)).status == .notFound) }

  @Test(
    "sends a path with a slash at its end to the one without",
    arguments: [
      ("/sync/tag/", "", "/sync/tag"), ("/sync/order/7/", "a=%20b", "/sync/order/7?a=%20b"),
      ("/sync/health/", "", "/sync/health"), ("/sync/status/", "", "/sync/status"),
      ("/sync/metrics/", "", "/sync/metrics"),
    ])
  func trailingSlash(_ path: String, _ query: String, _ target: String) throws {
    for method in ["GET", "POST", "DELETE"] {
      let response = try response(shop, request(method, path, query: query))
      #expect(response.status == .permanentRedirect)
      #expect(response.fields == [HTTPField(name: .location, value: target)])
    }
  }

  @Test("takes ids up to 2^63-1")
  func largestID() throws {
    let operation = try operation(shop, request("GET", "/sync/tag/9223372036854775807"))
    var expected = Parameters()
    expected.append(Int64.max)
    #expect(operation.parameters == expected)
  }

  @Test("answers OPTIONS and wrong methods with Allow", arguments: ["contact", "product", "tag", "order"])
  func methods(_ resource: String) throws {
    let options = try response(shop, request("OPTIONS", "/sync/\(resource)"))
    #expect(options.status == .noContent)
    #expect(options.fields == [HTTPField(name: .allow, value: "GET, HEAD, POST, OPTIONS")])
    let item = try response(shop, request("OPTIONS", "/sync/\(resource)/1"))
    #expect(item.fields.contains { $0.name == .acceptPatch && $0.value.hasPrefix("application/merge-patch+json") })
    let wrong = try response(shop, request("PUT", "/sync/\(resource)/1"))
    #expect(wrong.status == .methodNotAllowed)
    #expect(wrong.fields == [HTTPField(name: .allow, value: "GET, HEAD, PATCH, DELETE, OPTIONS")])
  }

  @Test("binds limit + 1 and after")
  func page() throws {
    let operation = try operation(shop, request("GET", "/sync/order", query: "limit=5&after=12"))
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
    let response = try response(shop, request("GET", "/sync/order", query: query))
    #expect(response.status == .unprocessableContent)
    #expect(try faults(response) == expected)
  }

  @Test("says 400 to a query string that can't be decoded")
  func undecodable() throws {
    #expect(try response(shop, request("GET", "/sync/order", query: "limit=%zz")).status == .badRequest)
    #expect(try response(shop, request("GET", "/sync/order/1", query: "%")).status == .badRequest)
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
    #expect(try response(shop, request).status == (isTaken ? .unprocessableContent : .unsupportedMediaType))
  }

  @Test("says 413 to a body that is too long, 400 to one that is cut off or no JSON")
  func bodies() throws {
    var tooLong = request("POST", "/sync/tag", body: "{}")
    tooLong.bodyIsTooLarge = true
    #expect(try response(shop, tooLong).status == .contentTooLarge)
    var cut = request("POST", "/sync/tag", body: #"{"name":"x"}"#)
    cut.body.removeLast()
    #expect(try response(shop, cut).status == .badRequest)
    #expect(try response(shop, request("POST", "/sync/tag", body: "{name:1}")).status == .badRequest)
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
    let response = try response(shop, request("POST", "/sync/order", body: body))
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
    _ = try operation(shop, order(lines: 1_000, tags: 100))
    #expect(
      try faults(response(shop, order(lines: 1_001, tags: 101))) == [
        "/order_lines too_many_items", "/tag_ids too_many_items",
      ])
  }

  @Test("counts a name's code points: 255 are taken, 256 are not", arguments: ["x", "é", "😀"])
  func nameLength(_ character: String) throws {
    func tag(_ count: Int) -> Request {
      request("POST", "/sync/tag", body: "{\"name\":\"\(String(repeating: character, count: count))\"}")
    }
    _ = try operation(shop, tag(255))
    #expect(try faults(response(shop, tag(256))) == ["/name too_long"])
  }

  @Test(
    "wants one @ with something on both sides",
    arguments: [("a@b", true), ("a", false), ("@b", false), ("a@", false), ("a@b@c", false)])
  func email(_ email: String, _ isTaken: Bool) throws {
    let request = request("POST", "/sync/contact", body: #"{"name":"a","email":"\#(email)"}"#)
    if isTaken {
      _ = try operation(shop, request)
    } else {
      #expect(try faults(response(shop, request)) == ["/email malformed"])
    }
  }

  @Test("does not answer a flood of unknown keys with a larger one")
  func manyFaults() throws {
    let keys = (0..<50_000).map { "\"k\($0)\":1" }.joined(separator: ",")
    let response = try response(shop, request("POST", "/sync/tag", body: "{\(keys)}"))
    #expect(try faults(response).count == Validation.mostFaults)
  }
}

@Suite("A merge patch")
struct MergePatchTests {
  let shop = Shop(mode: .sync)

  @Test("keeps what it leaves out")
  func keeps() throws {
    var contact = Parameters()
    contact.append(3 as Int64)
    contact.appendNull()
    contact.append("a@b")
    contact.appendNull()
    #expect(try operation(shop, request("PATCH", "/sync/contact/3", body: #"{"email":"a@b"}"#)).parameters == contact)
    var order = Parameters()
    order.append(4 as Int64)
    order.append("x")
    for _ in 0..<6 { order.appendNull() }
    #expect(try operation(shop, request("PATCH", "/sync/order/4", body: #"{"name":"x"}"#)).parameters == order)
  }

  @Test("makes tag_ids empty by null, and finds no other member that could be removed")
  func null() throws {
    var order = Parameters()
    order.append(4 as Int64)
    for _ in 0..<5 { order.appendNull() }
    order.append(array: [] as [String])
    order.appendNull()
    #expect(try operation(shop, request("PATCH", "/sync/order/4", body: #"{"tag_ids":null}"#)).parameters == order)
    let nulls = #"{"name":null,"contact_id":null,"order_lines":null,"tag_ids":null}"#
    #expect(
      try faults(response(shop, request("PATCH", "/sync/order/4", body: nulls))) == [
        "/name missing", "/contact_id missing", "/order_lines missing",
      ])
  }

  @Test("has the same faults as a POST, in lines too")
  func sameFaults() throws {
    let body = #"{"name":" ","nmae":1,"order_lines":[{"product_id":null}]}"#
    #expect(
      try faults(response(shop, request("PATCH", "/sync/order/4", body: body))) == [
        "/nmae unknown", "/name blank", "/order_lines/0/product_id wrong_type", "/order_lines/0/quantity missing",
        "/order_lines/0/price missing",
      ])
    #expect(try response(shop, request("PATCH", "/sync/order/4", body: "[]")).status == .unprocessableContent)
    #expect(try response(shop, request("PATCH", "/sync/order/4", body: "{")).status == .badRequest)
  }

  @Test(
    "is taken by both of its names, and no other kind of patch is",
    arguments: [
      ("application/merge-patch+json", true), ("application/json; charset=utf-8", true),
      ("application/json-patch+json", false), ("text/json", false),
    ])
  func types(_ type: String, _ isTaken: Bool) throws {
    switch shop.begin(request("PATCH", "/sync/tag/4", type: type, body: "{}")) {
    case .query, .queries: #expect(isTaken)
    case .respond(let response): #expect(!isTaken && response.status == .unsupportedMediaType)
    }
  }
}

@Suite("Filters")
struct FilterTests {
  let shop = Shop(mode: .sync)

  @Test(
    "choose the statement, bind their values in one order, and stay in the link to the next page",
    arguments: [
      ("contact_id=5", "order_list_by_contact"), ("product_id=6", "order_list_by_product"),
      ("tag=a%20b", "order_list_by_tag"),
      ("tag=a+b&product_id=6&contact_id=5", "order_list_by_contact_product_tag"), ("", "order_list"),
    ])
  func statements(_ query: String, _ name: String) throws {
    let operation = try operation(shop, request("GET", "/sync/order", query: "limit=1&\(query)"))
    #expect(operation.statement.name == name)
    var expected = Parameters()
    expected.append(0 as Int64)
    expected.append(2 as Int64)
    if query.contains("contact") { expected.append(5 as Int64) }
    if query.contains("product") { expected.append(6 as Int64) }
    if query.contains("tag") { expected.append("a b") }
    #expect(operation.parameters == expected)
    let two = (1...2).map { ["\($0)", "0", "0", "o", "5", nil, nil] as [String?] }
    let rows = try #require(ResultSet.inMemory(columns: 7, two))
    let link = shop.finish(operation, .success(rows)).fields.map(\.value)
    let filters = [
      query.contains("contact") ? "&contact_id=5" : "", query.contains("product") ? "&product_id=6" : "",
      query.contains("tag") ? "&tag=a%20b" : "",
    ].joined()
    #expect(link == ["</sync/order?limit=1&after=1\(filters)>; rel=\"next\""])
  }

  @Test(
    "that are none are named",
    arguments: [
      ("order", "contact_id=0", "contact_id out_of_range"), ("order", "product_id=x", "product_id out_of_range"),
      ("order", "tag=", "tag malformed"), ("order", "tag=%00", "tag malformed"),
      ("order", "tag=a&tag=b", "tag repeated"),
      ("contact", "tag=a", "tag unknown"), ("tag", "contact_id=1", "contact_id unknown"),
    ])
  func faulty(_ resource: String, _ query: String, _ fault: String) throws {
    let response = try response(shop, request("GET", "/sync/\(resource)", query: query))
    #expect(response.status == .unprocessableContent)
    #expect(try faults(response) == [fault])
  }
}

@Suite("An Idempotency-Key")
struct IdempotencyTests {
  let shop = Shop(mode: .async)

  private func post(_ key: String, _ path: String = "/async/tag", _ body: String = #"{"name":"x"}"#) -> Request {
    var request = request("POST", path, body: body)
    request.append("HTTP_IDEMPOTENCY_KEY".utf8.span, key.utf8.span)
    return request
  }

  @Test("is bound with the mode and a fingerprint of what is made and of the body's bytes")
  func fingerprint() throws {
    let operations = try [
      post("k"), post("k"), post("k", "/async/product"), post("k", "/async/tag", #"{"name": "x"}"#),
    ].map { try operation(shop, $0) }
    #expect(operations[0].statement.name == "tag_insert_once" && operations[2].statement.name == "product_insert_once")
    #expect(operations[0].parameters == operations[1].parameters && operations[0].parameters.count == 4)
    #expect(operations[0].parameters != operations[2].parameters)
    #expect(operations[0].parameters != operations[3].parameters)
  }

  @Test(
    "is visible ASCII of at most 255 characters",
    arguments: [
      (String(repeating: "k", count: 255), true), (String(repeating: "k", count: 256), false), ("a b", false),
      ("\u{e9}", false), ("\"8e03978e-40d5\"", true),
    ])
  func form(_ key: String, _ isTaken: Bool) throws {
    switch shop.begin(post(key)) {
    case .query, .queries: #expect(isTaken)
    case .respond(let response): #expect(!isTaken && response.status == .badRequest)
    }
  }

  @Test("brings the first answer again, or says why not")
  func outcomes() throws {
    func response(_ row: [String?]) throws -> Response {
      shop.finish(
        try operation(shop, post("k")), .success(try #require(ResultSet.inMemory(columns: 4, [row]))))
    }
    let made = try response(["3", "x", "7", "made"])
    #expect(made.status == .created && made.fields.map(\.value) == ["/async/tag/3"])
    let again = try response(["3", "x", "7", "sync"])
    #expect(
      again.status == .created && again.body == made.body && again.fields.map(\.value) == ["/sync/tag/3", "true"])
    #expect(try response([nil, nil, nil, "running"]).status == .conflict)
    let other = try response([nil, nil, nil, "other"])
    #expect(other.status == .unprocessableContent)
    #expect(try faults(other) == ["Idempotency-Key reused"])
  }
}

@Suite("Shop.finish")
struct FinishTests {
  let shop = Shop(mode: .async)

  private func rows(_ columns: Int, _ rows: [[String?]]) throws -> ResultSet {
    try #require(ResultSet.inMemory(columns: columns, rows))
  }

  private let example: [[String?]] = [
    ["1", "2", "8", "food", nil, nil, nil, "30"],
    ["1", "1", "12", nil, "2", "2", "1.2500", "20"],
    ["1", "0", "0", "SO001", "2", nil, nil, "21"],
    ["1", "2", "7", "shopping", nil, nil, nil, "31"],
    ["1", "1", "11", nil, "1", "1", "0.2500", "20"],
  ]
  private let exampleJSON =
    #"{"id":1,"name":"SO001","contact_id":2,"order_lines":[{"product_id":1,"quantity":1,"price":0.25},{"product_id":2,"quantity":2,"price":1.25}],"tags":[{"name":"shopping"},{"name":"food"}],"amount_total":2.75}"#

  @Test("puts an order together, whatever order its rows are in")
  func order() throws {
    let operation = try operation(shop, request("GET", "/async/order/1"))
    for order in [example, example.reversed(), example.sorted { ($0[3] ?? "") < ($1[3] ?? "") }] {
      let response = shop.finish(operation, .success(try rows(8, order)))
      #expect(response.status == .ok)
      #expect(response.entityTag == .rows(21, parts: 4, sum: 101))
      #expect(text(response) == exampleJSON)
    }
  }

  @Test("keeps the lines and tags of several orders apart, and links to the next page")
  func orders() throws {
    let operation = try operation(shop, request("GET", "/async/order", query: "limit=2"))
    let more: [[String?]] = [
      ["3", "0", "0", "C", "1", nil, nil], ["2", "0", "0", "B", "1", nil, nil],
      ["2", "1", "13", nil, "5", "3", "0.3350"],
    ]
    let response = shop.finish(operation, .success(try rows(7, more + example.map { $0.dropLast() })))
    #expect(
      text(response)
        == "[\(exampleJSON),{\"id\":2,\"name\":\"B\",\"contact_id\":1,\"order_lines\":[{\"product_id\":5,\"quantity\":3,\"price\":0.335}],\"tags\":[],\"amount_total\":1}]"
    )
    #expect(response.fields == [HTTPField(name: .link, value: "</async/order?limit=2&after=2>; rel=\"next\"")])
  }

  @Test("writes empty lists, and no Link where there is nothing more")
  func lists() throws {
    let operation = try operation(shop, request("GET", "/async/contact", query: "limit=1"))
    #expect(text(shop.finish(operation, .success(try rows(3, [])))) == "[]")
    let one = shop.finish(operation, .success(try rows(3, [["1", "Ann \"A\"", "a@b"]])))
    #expect(text(one) == #"[{"id":1,"name":"Ann \"A\"","email":"a@b"}]"#)
    #expect(one.fields.isEmpty)
    let two = shop.finish(operation, .success(try rows(3, [["1", "A", "a@b"], ["2", "B", "a@b"]])))
    #expect(text(two) == #"[{"id":1,"name":"A","email":"a@b"}]"#)
    #expect(two.fields.map(\.value) == ["</async/contact?limit=1&after=1>; rel=\"next\""])
  }

  @Test("says 404 where there is no row, with the body left out for HEAD")
  func notFound() throws {
    func response(_ method: String) throws -> Response {
      let request = request(method, "/async/order/5")
      var response = shop.finish(try operation(shop, request), .success(try rows(8, [])))
      shop.seal(&response, for: request, Response.Timing(database: 0, application: 0))
      return response
    }
    let (get, head) = (try response("GET"), try response("HEAD"))
    #expect(get.status == .notFound && head.status == .notFound)
    #expect(!get.omitsBody && head.omitsBody && get.body == head.body)
  }

  @Test(
    "answers 304 without a body where the client has it already",
    arguments: [
      ("\"7\"", 304), ("W/\"7\"", 304), ("*", 304), ("\"x\", \"7\"", 304), ("\"8\"", 200), ("7", 200), ("\"7", 200),
      (",,\"a,\"7\"", 200), ("", 200),
    ])
  func notModified(_ condition: String, _ status: Int) throws {
    for method in ["GET", "HEAD"] {
      var request = request(method, "/async/tag/5")
      request.append("HTTP_IF_NONE_MATCH".utf8.span, condition.utf8.span)
      var response = shop.finish(try operation(shop, request), .success(try rows(3, [["5", "IT", "7"]])))
      shop.seal(&response, for: request, Response.Timing(database: 1_234_567, application: 89_000))
      var head: [UInt8] = []
      response.writeHead(to: &head)
      let text = String(decoding: head, as: UTF8.self)
      #expect(response.status.code == status)
      #expect(text.contains("ETag: \"7\"\r\n") && text.contains("Server-Timing: db;dur=1.234, app;dur=0.089\r\n"))
      #expect(text.contains("Content-") == (status == 200) && response.body.isEmpty == (status == 304))
    }
  }

  @Test("tells apart what was changed, what is not what it should be, and what is not there")
  func changes() throws {
    func statuses(_ method: String, _ path: String, _ rows: ResultSet) throws -> [Int] {
      try ["", "*", "\"7\", \"nonsense\", W/\"9\""].map { condition in
        var request = request(method, path, body: "{}")
        request.append("HTTP_IF_MATCH".utf8.span, condition.utf8.span)
        return shop.finish(try operation(shop, request), .success(rows)).status.code
      }
    }
    #expect(try statuses("PATCH", "/async/tag/5", rows(3, [["5", "IT", "8"]])) == [200, 200, 200])
    #expect(try statuses("PATCH", "/async/tag/5", rows(3, [["5", nil, nil]])) == [404, 404, 412])
    #expect(try statuses("PATCH", "/async/tag/5", rows(3, [])) == [404, 404, 404])
    #expect(try statuses("PATCH", "/async/order/1", rows(8, example)) == [200, 200, 200])
    #expect(
      try statuses("PATCH", "/async/order/1", rows(8, [["1", "6", nil, nil, nil, nil, nil, nil]])) == [404, 404, 412])
    #expect(try statuses("DELETE", "/async/order/1", rows(2, [["1", "t"]])) == [204, 204, 204])
    #expect(try statuses("DELETE", "/async/order/1", rows(2, [["1", "f"]])) == [404, 404, 412])
    #expect(try statuses("DELETE", "/async/order/1", rows(2, [])) == [404, 404, 404])
  }

  @Test("passes on those tags of If-Match that a row can have")
  func conditions() throws {
    var request = request("DELETE", "/async/tag/5")
    request.append("HTTP_IF_MATCH".utf8.span, #""7", "1-2-3" ,"x'y", W/"9", 10, """#.utf8.span)
    var expected = Parameters()
    expected.append(5 as Int64)
    expected.append(array: ["7", "1-2-3"])
    #expect(try operation(shop, request).parameters == expected)
  }

  private let newOrder =
    #"{"name":"a","contact_id":9,"order_lines":[{"product_id":7,"quantity":1,"price":1},{"product_id":1,"quantity":1,"price":1},{"product_id":7,"quantity":2,"price":1}],"tag_ids":[3,4]}"#

  @Test("names everything that an order refers to and that is not there")
  func missing() throws {
    let operation = try operation(shop, request("POST", "/async/order", body: newOrder))
    let response = shop.finish(
      operation,
      .success(
        try rows(
          8,
          [
            ["9", "3", "0", nil, nil, nil, nil, nil], ["7", "4", "0", nil, nil, nil, nil, nil],
            ["4", "5", "0", nil, nil, nil, nil, nil],
          ])))
    #expect(response.status == .unprocessableContent)
    #expect(
      try faults(response) == [
        "/contact_id not_found", "/order_lines/0/product_id not_found", "/order_lines/2/product_id not_found",
        "/tag_ids/1 not_found",
      ])
  }

  @Test("answers a new order with 201, Location and the whole object")
  func created() throws {
    let operation = try operation(shop, request("POST", "/async/order", body: newOrder))
    let response = shop.finish(operation, .success(try rows(8, example)))
    #expect(response.status == .created)
    #expect(response.fields == [HTTPField(name: .location, value: "/async/order/1")])
    #expect(text(response) == exampleJSON)
  }

  @Test(
    "turns SQLSTATEs into statuses",
    arguments: [
      ("23503", 409), ("23505", 409), ("23514", 422), ("22003", 422), ("40001", 503), ("40P01", 503), ("55P03", 503),
      ("25006", 503), ("57014", 504),
      ("57P01", 503), ("53300", 503), ("42883", 503), ("23502", 500), ("08006", 503), ("42P01", 503), ("42703", 503),
      ("42601", 500), ("XX000", 500),
    ])
  func states(_ state: String, _ status: Int) throws {
    let operation = try operation(shop, request("GET", "/async/tag"))
    let fault = PostgresError.ServerFault(
      state: SQLState(rawValue: state), message: "secret detail at /var/lib", constraint: nil)
    let response = shop.finish(operation, .failure(.statement(fault)))
    #expect(response.status.code == status)
    #expect(!text(response).contains("secret"))
    #expect(response.fields.contains { $0.name == .retryAfter } == (status == 503))
  }

  @Test("invites to try again only where nothing can have been written")
  func retryAfter() throws {
    let read = try operation(shop, request("GET", "/async/tag"))
    let write = try operation(shop, request("POST", "/async/tag", body: #"{"name":"x"}"#))
    func invites(_ operation: Operation, _ error: PostgresError) -> Bool {
      let response = shop.finish(operation, .failure(error))
      #expect(response.status == .serviceUnavailable)
      return response.fields.contains { $0.name == .retryAfter }
    }
    for error in [PostgresError.unavailable("x"), .queueFull] { #expect(invites(read, error) && invites(write, error)) }
    #expect(invites(read, .connectionLost("x")))
    #expect(!invites(write, .connectionLost("x")))
  }
}

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
    let shop = Shop(mode: .sync)
    for field in [("HTTP_BENCH_DELAY", "100"), ("HTTP_BENCH_STATEMENTS", "4"), ("HTTP_BENCH_SPIN", "5")] {
      guard case .query(let operation) = shop.begin(request("/sync/contact/7", [field])) else { throw Unexpected.query }
      #expect(operation.statement.name == "contact_item")
    }
  }

  @Test("make the database slow, for one contact only")
  func delay() throws {
    let shop = Shop(mode: .async, benchHooks: true)
    guard case .query(let slow) = shop.begin(request("/async/contact/7", [("HTTP_BENCH_DELAY", "100")])) else {
      throw Unexpected.query
    }
    #expect(slow.statement.name == "bench_contact_item")
    #expect(slow.parameters.bytes == Array("7\0100\0".utf8))
    for path in ["/async/contact", "/async/order/7"] {
      guard case .query(let usual) = shop.begin(request(path, [("HTTP_BENCH_DELAY", "100")])) else {
        throw Unexpected.query
      }
      #expect(usual.statement.name != "bench_contact_item")
    }
  }

  @Test("make one request many statements", arguments: [("1", 1), ("256", 256)])
  func statements(_ text: String, _ count: Int) throws {
    let shop = Shop(mode: .sync, benchHooks: true)
    guard case .queries(let operations) = shop.begin(request("/sync/contact/7", [("HTTP_BENCH_STATEMENTS", text)]))
    else {
      throw Unexpected.query
    }
    #expect(operations.count == count)
    #expect(operations.last?.parameters.bytes == Array("\(6 + count)\0".utf8))
  }

  @Test("take nothing that makes no sense", arguments: ["0", "-1", "x", "257", "99999999999999999999"])
  func nonsense(_ text: String) throws {
    let shop = Shop(mode: .sync, benchHooks: true)
    guard case .query(let operation) = shop.begin(request("/sync/contact/7", [("HTTP_BENCH_STATEMENTS", text)])) else {
      throw Unexpected.query
    }
    #expect(operation.statement.name == "contact_item")
  }
}
