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
      "", "/", "/sync", "/sync/", "/async/tag", "/sync/tags", "/sync/tag/", "/sync/tag/0", "/sync/tag/-1",
      "/sync/tag/01", "/sync/tag/1/2",
      "/sync/tag/x", "/sync/tag/9223372036854775808", "/sync/tag/99999999999999999999", "/sync//tag", "/SYNC/tag",
    ])
  func notFound(_ path: String) throws { #expect(try response(shop, request("GET", path)).status == .notFound) }

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
    let wrong = try response(shop, request("PUT", "/sync/\(resource)/1"))
    #expect(wrong.status == .methodNotAllowed)
    #expect(wrong.fields == [HTTPField(name: .allow, value: "GET, HEAD, OPTIONS")])
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

@Suite("Shop.finish")
struct FinishTests {
  let shop = Shop(mode: .async)

  private func rows(_ columns: Int, _ rows: [[String?]]) throws -> ResultSet {
    try #require(ResultSet.inMemory(columns: columns, rows))
  }

  private let example: [[String?]] = [
    ["1", "2", "8", "food", nil, nil, nil],
    ["1", "1", "12", nil, "2", "2", "1.2500"],
    ["1", "0", "0", "SO001", "2", nil, nil],
    ["1", "2", "7", "shopping", nil, nil, nil],
    ["1", "1", "11", nil, "1", "1", "0.2500"],
  ]
  private let exampleJSON =
    #"{"id":1,"name":"SO001","contact_id":2,"order_lines":[{"product_id":1,"quantity":1,"price":0.25},{"product_id":2,"quantity":2,"price":1.25}],"tags":[{"name":"shopping"},{"name":"food"}],"amount_total":2.75}"#

  @Test("puts an order together, whatever order its rows are in")
  func order() throws {
    let operation = try operation(shop, request("GET", "/async/order/1"))
    for order in [example, example.reversed(), example.sorted { ($0[3] ?? "") < ($1[3] ?? "") }] {
      let response = shop.finish(operation, .success(try rows(7, order)))
      #expect(response.status == .ok)
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
    let response = shop.finish(operation, .success(try rows(7, more + example)))
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
    let get = shop.finish(try operation(shop, request("GET", "/async/order/5")), .success(try rows(7, [])))
    let head = shop.finish(try operation(shop, request("HEAD", "/async/order/5")), .success(try rows(7, [])))
    #expect(get.status == .notFound && head.status == .notFound)
    #expect(!get.omitsBody && head.omitsBody && get.body == head.body)
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
          7,
          [
            ["9", "3", "0", nil, nil, nil, nil], ["7", "4", "0", nil, nil, nil, nil],
            ["4", "5", "0", nil, nil, nil, nil],
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
    let response = shop.finish(operation, .success(try rows(7, example)))
    #expect(response.status == .created)
    #expect(response.fields == [HTTPField(name: .location, value: "/async/order/1")])
    #expect(text(response) == exampleJSON)
  }

  @Test(
    "turns SQLSTATEs into statuses",
    arguments: [
      ("23503", 409), ("23505", 409), ("23514", 422), ("22003", 422), ("40001", 503), ("40P01", 503), ("55P03", 503),
      ("25006", 503), ("57014", 504),
      ("57P01", 503), ("53300", 503), ("08006", 503), ("42P01", 503), ("42703", 503), ("42601", 500), ("XX000", 500),
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
