// From rows to an answer.

import CGI
import HTTPTypes
import JSON
import Postgres
import Testing

@testable import Orders

@Suite("Orders.finish")
struct FinishTests {
  let application = Orders(mode: .async)

  private func rows(_ columns: Int, _ rows: [[String?]]) throws -> ResultSet {
    try #require(ResultSet.inMemory(columns: columns, rows))
  }

  private let example: [[String?]] = [
    ["1", "2", "8", "food", nil, nil, nil, "30"],
    ["1", "1", "12", nil, "2", "2", "1.2500", "20"],
    ["1", "0", "0", "SO001", "2", nil, nil, "21"],
    ["1", "2", "7", "shopping", nil, nil, nil, "31"],
    ["1", "1", "11", nil, "1", "1", "0.2500", "22"],
  ]
  private let exampleJSON =
    #"{"id":1,"name":"SO001","contact_id":2,"order_lines":[{"product_id":1,"quantity":1,"price":0.25},{"product_id":2,"quantity":2,"price":1.25}],"tags":[{"name":"shopping"},{"name":"food"}],"amount_total":2.75}"#

  @Test("puts an order together, whatever order its rows are in")
  func order() throws {
    let operation = try operation(application, request("GET", "/async/order/1"))
    for order in [example, example.reversed(), example.sorted { ($0[3] ?? "") < ($1[3] ?? "") }] {
      let response = try finish(application, operation, .success(try rows(8, order)))
      #expect(response.status == .ok)
      #expect(response.entityTag == EntityTag(digest: 30 + 20 + 21 + 31 + 22))
      #expect(text(response) == exampleJSON)
    }
  }

  @Test("keeps the lines and tags of several orders apart, and links to the next page")
  func orders() throws {
    let operation = try operation(application, request("GET", "/async/order", query: "limit=2"))
    let more: [[String?]] = [
      ["3", "0", "0", "C", "1", nil, nil], ["2", "0", "0", "B", "1", nil, nil],
      ["2", "1", "13", nil, "5", "3", "0.3350"],
      ["0", "7", "8", "food", nil, nil, nil], ["0", "7", "7", "shopping", nil, nil, nil],
    ]
    let response = try finish(application, operation, .success(try rows(7, more + example.map { $0.dropLast() })))
    #expect(
      text(response)
        == "[\(exampleJSON),{\"id\":2,\"name\":\"B\",\"contact_id\":1,\"order_lines\":[{\"product_id\":5,\"quantity\":3,\"price\":0.335}],\"tags\":[],\"amount_total\":1}]"
    )
    #expect(response.fields == [HTTPField(name: .link, value: "</async/order?limit=2&after=2>; rel=\"next\"")])
  }

  @Test("writes empty lists, and no Link where there is nothing more")
  func lists() throws {
    let operation = try operation(application, request("GET", "/async/contact", query: "limit=1"))
    #expect(text(try finish(application, operation, .success(try rows(3, [])))) == "[]")
    let one = try finish(application, operation, .success(try rows(3, [["1", "Ann \"A\"", "a@b"]])))
    #expect(text(one) == #"[{"id":1,"name":"Ann \"A\"","email":"a@b"}]"#)
    #expect(one.fields.isEmpty)
    let two = try finish(application, operation, .success(try rows(3, [["1", "A", "a@b"], ["2", "B", "a@b"]])))
    #expect(text(two) == #"[{"id":1,"name":"A","email":"a@b"}]"#)
    #expect(two.fields.map(\.value) == ["</async/contact?limit=1&after=1>; rel=\"next\""])
  }

  @Test("says 404 where there is no row, with the body left out for HEAD")
  func notFound() throws {
    func response(_ method: String) throws -> Response {
      let request = request(method, "/async/order/5")
      var response = try finish(application, operation(application, request), .success(try rows(8, [])))
      application.seal(&response, for: request, Response.Timing(database: 0, application: 0))
      return response
    }
    let (get, head) = (try response("GET"), try response("HEAD"))
    #expect(get.status == .notFound && head.status == .notFound)
    #expect(!get.omitsBody && head.omitsBody && get.body == head.body)
  }

  @Test(
    "answers 304 without a body where the client has it already",
    arguments: [
      ("\"ffffffffffffffff\"", 304), ("W/\"ffffffffffffffff\"", 304), ("*", 304),
      ("\"x\", \"ffffffffffffffff\"", 304), ("\"8\"", 200), ("ffffffffffffffff", 200), ("\"ffffffffffffffff", 200),
      (",,\"a,\"ffffffffffffffff\"", 200), ("\"ffffffffffffffff-gzip\"", 304), ("\"ffffffffffffffff--br;zstd\"", 304),
      ("\"ffffffffffffffff-other\"", 200), ("\"-gzip\"", 200),
    ])
  func notModified(_ condition: String, _ status: Int) throws {
    for method in ["GET", "HEAD"] {
      var request = request(method, "/async/tag/5")
      request.append("HTTP_IF_NONE_MATCH".utf8.span, condition.utf8.span)
      var response = try finish(
        application, operation(application, request), .success(try rows(3, [["5", "IT", "-1"]])))
      application.seal(&response, for: request, Response.Timing(database: 1_234_567, application: 89_000))
      var head: [UInt8] = []
      response.writeHead(to: &head, requestID: "id".utf8.span)
      let text = String(decoding: head, as: UTF8.self)
      #expect(response.status.code == status)
      #expect(text.contains("ETag: \"ffffffffffffffff\"\r\n"))
      #expect(text.contains("Server-Timing: db;dur=1.234, app;dur=0.089\r\n"))
      #expect((text.hasPrefix("Content-Type:") || text.contains("Content-Length:")) == (status == 200))
      #expect(response.body.isEmpty == (status == 304))
    }
  }

  @Test("tells apart what was changed, what is not what it should be, and what is not there")
  func changes() throws {
    func statuses(_ method: String, _ path: String, _ rows: ResultSet) throws -> [Int] {
      try [nil, "*", "\"7\", \"nonsense\", W/\"9\""].map { condition in
        var request = request(method, path, body: "{}")
        if let condition { request.append("HTTP_IF_MATCH".utf8.span, condition.utf8.span) }
        return try finish(application, operation(application, request), .success(rows)).status.code
      }
    }
    #expect(try statuses("PATCH", "/async/tag/5", rows(3, [["5", "IT", "8"]])) == [200, 200, 200])
    #expect(try statuses("PATCH", "/async/tag/5", rows(3, [[nil, nil, nil]])) == [404, 404, 412])
    // A text may be NULL where somebody lets it be.
    #expect(try statuses("PATCH", "/async/tag/5", rows(3, [["5", nil, "8"]])) == [200, 200, 200])
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
    request.append("HTTP_IF_MATCH".utf8.span, #""7", "01ef" ,"x'y", "1-2-3", W/"9", "10g", "#.utf8.span)
    var expected = Parameters()
    expected.append(5 as Int64)
    expected.append(array: ["7", "01ef"])
    #expect(try operation(application, request).parameters == expected)
  }

  private let newOrder =
    #"{"name":"a","contact_id":9,"order_lines":[{"product_id":7,"quantity":1,"price":1},{"product_id":1,"quantity":1,"price":1},{"product_id":7,"quantity":2,"price":1}],"tag_ids":[3,4]}"#

  private func violation(_ state: String) -> PostgresError {
    .statement(.init(state: SQLState(rawValue: state), message: "violated"))
  }

  @Test("names everything that an order refers to and that is not there, once a foreign key has stopped it")
  func missing() throws {
    let operation = try operation(application, request("POST", "/async/order", body: newOrder))
    guard case .execute(let second) = application.finish(operation, .failure(violation("23503"))) else {
      throw Unexpected.response("nothing was asked")
    }
    #expect(second.parameters == operation.parameters)
    let response = try finish(
      application, second,
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
    // What was missing may have come in between. If it is a key of the database's own, nobody here knows more.
    let made = try finish(application, second, .success(try rows(8, example)))
    #expect(made.status == .created && text(made) == exampleJSON)
    #expect(try finish(application, second, .failure(violation("23503"))).status == .unprocessableContent)
  }

  @Test("asks no second time for another failure, nor for what is no new order")
  func noSecond() throws {
    let order = try operation(application, request("POST", "/async/order", body: newOrder))
    #expect(try finish(application, order, .failure(violation("23514"))).status == .unprocessableContent)
    #expect(try finish(application, order, .failure(violation("23502"))).status == .internalServerError)
    #expect(try finish(application, order, .failure(.connectionLost("gone"))).status == .serviceUnavailable)
    let tag = try operation(application, request("DELETE", "/async/tag/1"))
    #expect(try finish(application, tag, .failure(violation("23503"))).status == .conflict)
  }

  @Test("answers a new order with 201, Location and what the database has made of it")
  func created() throws {
    let operation = try operation(application, request("POST", "/async/order", body: newOrder))
    let response = try finish(application, operation, .success(try rows(8, example)))
    #expect(response.status == .created)
    #expect(response.fields == [HTTPField(name: .location, value: "/async/order/1")])
    #expect(text(response) == exampleJSON)
    #expect(response.entityTag == EntityTag(digest: 30 + 20 + 21 + 31 + 22))
  }

  @Test("shows no order that is hidden, though its lines are not, and no tag of which there is but a link")
  func hidden() throws {
    let item = try operation(application, request("GET", "/async/order/1"))
    #expect(try finish(application, item, .success(try rows(8, Array(example[0...1])))).status == .notFound)
    let list = try operation(application, request("GET", "/async/order"))
    let order: [String?] = ["1", "0", "0", "a", "2", nil, nil]
    let links: [[String?]] = [["1", "2", "7", nil, nil, nil, nil], ["1", "2", "8", nil, nil, nil, nil]]
    func tags(_ names: [[String?]]) throws -> String {
      text(try finish(application, list, .success(try rows(7, [order] + links + names))))
    }
    let (start, end) = (#"[{"id":1,"name":"a","contact_id":2,"order_lines":[],"tags":["#, #"],"amount_total":0}]"#)
    #expect(try tags([]) == start + end)
    #expect(try tags([["0", "7", "8", "food", nil, nil, nil]]) == start + #"{"name":"food"}"# + end)
  }

  @Test(
    "turns SQLSTATEs into statuses",
    arguments: [
      ("23503", 422), ("23505", 500), ("23514", 422), ("22003", 422), ("40001", 503), ("40P01", 503), ("55P03", 503),
      ("25006", 503), ("57014", 504),
      ("57P01", 503), ("53300", 503), ("42883", 503), ("23502", 500), ("08006", 503), ("42P01", 503), ("42703", 503),
      ("42601", 500), ("XX000", 500),
    ])
  func states(_ state: String, _ status: Int) throws {
    let operation = try operation(application, request("GET", "/async/tag"))
    let fault = PostgresError.ServerFault(
      state: SQLState(rawValue: state), message: "secret detail at /var/lib", constraint: nil)
    let response = try finish(application, operation, .failure(.statement(fault)))
    #expect(response.status.code == status)
    #expect(!text(response).contains("secret"))
    #expect(response.fields.contains { $0.name == .retryAfter } == (status == 503))
  }

  @Test("invites to try again only where nothing can have been written")
  func retryAfter() throws {
    let read = try operation(application, request("GET", "/async/tag"))
    let write = try operation(application, request("POST", "/async/tag", body: #"{"name":"x"}"#))
    func invites(_ operation: Operation, _ error: PostgresError) throws -> Bool {
      let response = try finish(application, operation, .failure(error))
      #expect(response.status == .serviceUnavailable)
      return response.fields.contains { $0.name == .retryAfter }
    }
    for error in [PostgresError.unavailable("x"), .queueFull] {
      #expect(try invites(read, error) && invites(write, error))
    }
    #expect(try invites(read, .connectionLost("x")))
    #expect(try !invites(write, .connectionLost("x")))
  }

  /// What a database could answer that is not ours: none of it may trap.
  private static let oddRows: [[[String?]]] = [
    [], [[nil, nil, nil, nil, nil, nil, nil, nil]], [["", "", "", "", "", "", "", ""]],
    [["9223372036854775807", "0", "9223372036854775807", "a", "9223372036854775807", nil, nil, "9223372036854775807"]],
    [
      [
        "-9223372036854775808", "0", "-9223372036854775808", "a", "-9223372036854775808", nil, nil,
        "-9223372036854775808",
      ]
    ],
    [["1", "1", "0", nil, "1", "1", "1", "1"]], [["1", "7", "0", "x", nil, nil, nil, nil]],
    [["1", "x", "0", nil, nil, nil, nil, nil]],
    [
      ["1", "0", "0", "a", "1", nil, nil, "9223372036854775807"],
      ["1", "1", "1", nil, "1", "9223372036854775807", "-9999999999999999.9999", "9223372036854775807"],
      ["1", "1", "2", nil, "1", "-9223372036854775808", "NaN", "9223372036854775807"],
      ["1", "1", "3", nil, "1", "9223372036854775807", "Infinity", "9223372036854775807"],
      ["1", "2", "4", nil, nil, nil, nil, "9223372036854775807"],
      ["1", "2", "4", nil, nil, nil, nil, "9223372036854775807"],
    ],
  ]

  @Test("answers whatever rows there are", arguments: oddRows)
  func anyRows(_ odd: [[String?]]) throws {
    let order = #"{"name":"a","contact_id":1,"order_lines":[{"product_id":1,"quantity":1,"price":1}],"tag_ids":[1]}"#
    for (method, path, query, body) in [
      ("GET", "/async/order", "", nil), ("GET", "/async/order", "limit=1", nil), ("GET", "/async/order/1", "", nil),
      ("PATCH", "/async/order/1", "", "{}"), ("DELETE", "/async/order/1", "", nil), ("POST", "/async/order", "", order),
      ("GET", "/async/tag", "limit=1", nil), ("GET", "/async/tag/1", "", nil), ("PATCH", "/async/tag/1", "", "{}"),
      ("POST", "/async/tag", "", #"{"name":"a"}"#),
    ] {
      for key in [nil, "k"] {
        var request = request(method, path, query: query, body: body)
        if let key { request.append("HTTP_IDEMPOTENCY_KEY".utf8.span, key.utf8.span) }
        var response = try finish(application, operation(application, request), .success(try rows(8, odd)))
        application.seal(&response, for: request, Response.Timing(database: .max, application: .max))
        if odd.isEmpty, method == "POST" { #expect(response.status == .internalServerError, "\(method) \(path)") }
      }
    }
  }
}
