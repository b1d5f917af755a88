import CGI
import HTTPTypes
import Testing

private func request(_ variables: [(String, String)]) -> Request {
  var request = Request()
  for (name, value) in variables { request.append(name.utf8.span, value.utf8.span) }
  request.finish()
  return request
}

@Suite("Request")
struct RequestTests {
  @Test("takes what it knows from the variables")
  func variables() {
    let request = request([
      ("REQUEST_METHOD", "POST"), ("PATH_INFO", "/sync/tag"), ("SCRIPT_NAME", ""), ("QUERY_STRING", "a=b"),
      ("CONTENT_TYPE", "application/json"),
      ("CONTENT_LENGTH", "12"), ("HTTP_X_REQUEST_ID", "abc"), ("HTTP_HOST", "x"),
    ])
    #expect(request.method == .post)
    #expect(request.path.text == "/sync/tag")
    #expect(request.query.text == "a=b")
    #expect(request.contentType.text == "application/json")
    #expect(request.contentLength == 12)
    #expect(request.requestID.text == "abc")
  }

  @Test(
    "takes the path from SCRIPT_NAME and PATH_INFO together",
    arguments: [("/sync", "/tag"), ("/sync/tag", ""), ("", "/sync/tag")])
  func path(_ script: String, _ info: String) {
    #expect(request([("SCRIPT_NAME", script), ("PATH_INFO", info)]).path.text == "/sync/tag")
    #expect(request([("PATH_INFO", info), ("SCRIPT_NAME", script)]).path.text == "/sync/tag")
  }

  @Test(
    "ends the mount where one of the application's paths begins",
    arguments: [
      ("", "/sync/tag", "", "/sync/tag"), ("/api", "/sync/tag", "/api", "/sync/tag"),
      ("/sync", "/tag", "", "/sync/tag"), ("/api/sync", "/tag", "/api", "/sync/tag"),
      ("/api/sync/tag", "", "/api", "/sync/tag"), ("/api/sync/order", "/1", "/api", "/sync/order/1"),
      ("/sync/tag", "/sync/tag", "", "/sync/tag"), ("/synchronous", "/sync/tag", "/synchronous", "/sync/tag"),
      ("/a b/é", "/async/tag", "/a%20b/%C3%A9", "/async/tag"), ("//host", "/sync/tag", "/host", "/sync/tag"),
      ("/", "/sync/tag", "", "/sync/tag"), ("api/", "/sync/tag", "/api", "/sync/tag"),
      ("/a\r\nX: y", "/sync/tag", "/a%0D%0AX:%20y", "/sync/tag"), ("/api", "/nothing", "", "/api/nothing"),
      ("/sync/sync", "/tag", "", "/sync/sync/tag"), ("/api", "", "", "/api"),
    ])
  func mounts(_ script: String, _ info: String, _ mount: String, _ path: String) {
    var request = Request()
    for (name, value) in [("SCRIPT_NAME", script), ("PATH_INFO", info)] {
      request.append(name.utf8.span, value.utf8.span)
    }
    request.finish(roots: ["/sync", "/async"])
    #expect(request.mountReference == mount)
    #expect(request.path.text.string == path)
  }

  @Test("knows a length that is absent, none and too large")
  func contentLength() {
    #expect(request([]).contentLength == nil)
    #expect(request([("CONTENT_LENGTH", "")]).contentLength == nil)
    #expect(request([("CONTENT_LENGTH", "-1")]).contentLength == nil)
    #expect(request([("CONTENT_LENGTH", "99999999999999999999")]).contentLength == .max)
  }
}

@Suite("QueryString")
struct QueryStringTests {
  @Test(
    "decodes pairs",
    arguments: [
      ("", []), ("a=1&b=2", ["a", "1", "b", "2"]), ("a=%C3%A9+x", ["a", "é x"]), ("a", ["a", ""]),
      ("&&a=b=c&", ["a", "b=c"]), ("=x", ["", "x"]), ("%61%26=%3D", ["a&", "="]),
    ] as [(String, [String])])
  func pairs(_ query: String, _ expected: [String]) throws {
    #expect(try QueryString.pairs(query.utf8.span).flatMap { [$0.name.string, $0.value.string] } == expected)
  }

  @Test("refuses what can't be decoded", arguments: ["a=%", "a=%1", "a=%zz", "%ff=1", "a=%C3"])
  func refused(_ query: String) {
    #expect(throws: QueryString.Undecodable.self) { try QueryString.pairs(query.utf8.span) }
  }
}

@Suite("Response")
struct ResponseTests {
  private func head(_ response: Response) -> String {
    var bytes: [UInt8] = []
    response.writeHead(to: &bytes, requestID: "id".utf8.span)
    return String(decoding: bytes, as: UTF8.self)
  }

  @Test("writes its head in CGI's form, the status behind the fields")
  func heads() {
    let always = "X-Content-Type-Options: nosniff\r\nX-Request-Id: id\r\n"
    #expect(
      head(Response(.ok, contentType: .json, body: [1, 2]))
        == "Content-Type: application/json\r\n\(always)Content-Length: 2\r\nStatus: 200 OK\r\n\r\n")
    let created = Response(.created, contentType: .json, fields: [HTTPField(name: .location, value: "/x")], body: [1])
    let fields = "Location: /x\r\nContent-Length: 1\r\n"
    #expect(
      head(created) == "Content-Type: application/json\r\n\(always)\(fields)Status: 201 Created\r\n\r\n")
    #expect(head(Response(.noContent)) == "\(always)Status: 204 No Content\r\n\r\n")
  }
}
