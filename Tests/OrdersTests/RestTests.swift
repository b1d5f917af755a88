// Patches, filters and keys.

import CGI
import HTTPTypes
import JSON
import Postgres
import Testing

@testable import Orders

@Suite("A merge patch")
struct MergePatchTests {
  let application = Orders(mode: .sync)

  @Test("keeps what it leaves out")
  func keeps() throws {
    var contact = Parameters()
    contact.append(3 as Int64)
    contact.appendNull()
    contact.append("a@b")
    contact.appendNull()
    #expect(
      try operation(application, request("PATCH", "/sync/contact/3", body: #"{"email":"a@b"}"#)).parameters == contact)
    var order = Parameters()
    order.append(4 as Int64)
    order.append("x")
    for _ in 0..<6 { order.appendNull() }
    #expect(try operation(application, request("PATCH", "/sync/order/4", body: #"{"name":"x"}"#)).parameters == order)
  }

  @Test("makes tag_ids empty by null, and finds no other member that could be removed")
  func null() throws {
    var order = Parameters()
    order.append(4 as Int64)
    for _ in 0..<5 { order.appendNull() }
    order.append(array: [] as [Int64])
    order.appendNull()
    #expect(
      try operation(application, request("PATCH", "/sync/order/4", body: #"{"tag_ids":null}"#)).parameters == order)
    let nulls = #"{"name":null,"contact_id":null,"order_lines":null,"tag_ids":null}"#
    #expect(
      try faults(response(application, request("PATCH", "/sync/order/4", body: nulls))) == [
        "/name missing", "/contact_id missing", "/order_lines missing",
      ])
  }

  @Test("has the same faults as a POST, in lines too")
  func sameFaults() throws {
    let body = #"{"name":" ","nmae":1,"order_lines":[{"product_id":null}]}"#
    #expect(
      try faults(response(application, request("PATCH", "/sync/order/4", body: body))) == [
        "/nmae unknown", "/name blank", "/order_lines/0/product_id wrong_type", "/order_lines/0/quantity missing",
        "/order_lines/0/price missing",
      ])
    #expect(try response(application, request("PATCH", "/sync/order/4", body: "[]")).status == .unprocessableContent)
    #expect(try response(application, request("PATCH", "/sync/order/4", body: "{")).status == .badRequest)
  }

  @Test(
    "is taken by both of its names, and no other kind of patch is",
    arguments: [
      ("application/merge-patch+json", true), ("application/json; charset=utf-8", true),
      ("application/json-patch+json", false), ("text/json", false),
    ])
  func types(_ type: String, _ isTaken: Bool) throws {
    switch application.next(for: request("PATCH", "/sync/tag/4", type: type, body: "{}")) {
    case .execute: #expect(isTaken)
    case .respond(let response): #expect(!isTaken && response.status == .unsupportedMediaType)
    }
  }
}

@Suite("Filters")
struct FilterTests {
  let application = Orders(mode: .sync)

  @Test(
    "choose the statement, bind their values in one order, and stay in the link to the next page",
    arguments: [
      ("contact_id=5", "order_list_by_contact"), ("product_id=6", "order_list_by_product"),
      ("tag=a%20b", "order_list_by_tag"),
      ("tag=a+b&product_id=6&contact_id=5", "order_list_by_contact_product_tag"), ("", "order_list"),
    ])
  func statements(_ query: String, _ name: String) throws {
    let operation = try operation(application, request("GET", "/sync/order", query: "limit=1&\(query)"))
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
    let link = try finish(application, operation, .success(rows)).fields.map(\.value)
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
    let response = try response(application, request("GET", "/sync/\(resource)", query: query))
    #expect(response.status == .unprocessableContent)
    #expect(try faults(response) == [fault])
  }
}

@Suite("An Idempotency-Key")
struct IdempotencyTests {
  let application = Orders(mode: .async)

  private func post(_ key: String, _ path: String = "/async/tag", _ body: String = #"{"name":"x"}"#) -> Request {
    var request = request("POST", path, body: body)
    request.append("HTTP_IDEMPOTENCY_KEY".utf8.span, key.utf8.span)
    return request
  }

  @Test("is bound with the mode and a fingerprint of what is made and of the body's bytes")
  func fingerprint() throws {
    let operations = try [
      post("k"), post("k"), post("k", "/async/product"), post("k", "/async/tag", #"{"name": "x"}"#),
    ].map { try operation(application, $0) }
    #expect(operations[0].statement.name == "tag_insert_once" && operations[2].statement.name == "product_insert_once")
    #expect(operations[0].parameters == operations[1].parameters && operations[0].parameters.count == 4)
    #expect(operations[0].parameters != operations[2].parameters)
    #expect(operations[0].parameters != operations[3].parameters)
  }

  @Test(
    "is visible ASCII of at most 255 characters",
    arguments: [
      (String(repeating: "k", count: 255), true), (String(repeating: "k", count: 256), false), ("a b", false),
      ("\u{e9}", false), ("\"8e03978e-40d5\"", true), ("\"a b\"", true), ("\"a", false), ("", false),
    ])
  func form(_ key: String, _ isTaken: Bool) throws {
    switch application.next(for: post(key)) {
    case .execute: #expect(isTaken)
    case .respond(let response): #expect(!isTaken && response.status == .badRequest)
    }
  }

  @Test("brings the first answer again, or says why not")
  func outcomes() throws {
    func response(_ row: [String?]) throws -> Response {
      try finish(
        application, try operation(application, post("k")),
        .success(try #require(ResultSet.inMemory(columns: 4, [row]))))
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
