// From a request to its steps and its answer, without a server.

import Application
import CGI
import HTTPTypes
import Postgres
import Testing

@testable import Workload

private func request(_ method: String, _ path: String, query: String = "", body: String = "") -> Request {
  var request = Request()
  request.append("REQUEST_METHOD".utf8.span, method.utf8.span)
  request.append("PATH_INFO".utf8.span, path.utf8.span)
  request.append("QUERY_STRING".utf8.span, query.utf8.span)
  request.body = Array(body.utf8)
  request.finish()
  return request
}

@Suite("Workload")
struct WorkloadTests {
  private let application = Workload(prefix: "/async")

  private func rows(_ texts: String...) throws -> QueryResult {
    .success(try #require(ResultSet.inMemory(columns: 1, texts.map { [$0] })))
  }

  private func query(_ step: Step) throws -> Query {
    guard case .query(let query) = step else { throw Unexpected() }
    return query
  }

  private func response(_ step: Step) throws -> Response {
    guard case .respond(let response) = step else { throw Unexpected() }
    return response
  }

  private func text(_ response: Response) -> String { String(decoding: response.body, as: UTF8.self) }

  @Test("asks for the next statement in the closure of the one before")
  func afterOneAnother() throws {
    let first = try query(application.begin(request("GET", "/async/work", query: "statements=2&rows=1")))
    #expect(first.others.isEmpty)
    let second = try query(first.then(QueryResults(try rows("ab"))))
    #expect(second.others.isEmpty)
    let answer = try response(second.then(QueryResults(try rows("c"))))
    #expect(text(answer) == #"{"statements":2,"rows":2,"bytes":3,"body":0,"data":["ab","c"]}"#)
  }

  @Test("asks for all together where that is wanted, and answers in their order")
  func together() throws {
    let all = try query(application.begin(request("GET", "/async/work", query: "statements=3&together=1")))
    #expect(all.others.count == 2)
    let answer = try response(all.then(QueryResults(try rows("a"), [try rows("b"), try rows("c")])))
    #expect(text(answer) == #"{"statements":3,"rows":3,"bytes":3,"body":0,"data":["a","b","c"]}"#)
  }

  @Test("waits before it asks, for as long as is said")
  func wait() throws {
    let step = application.begin(request("GET", "/async/work", query: "wait=2.5&statements=0"))
    guard case .wait(let duration, let then) = step else { throw Unexpected() }
    #expect(duration == .microseconds(2_500))
    #expect(try response(then()).status == .ok)
  }

  @Test("takes a body, and says how long it was")
  func body() throws {
    let step = application.begin(request("POST", "/async/work", query: "statements=0", body: "12345"))
    #expect(try text(response(step)) == #"{"statements":0,"rows":0,"bytes":0,"body":5,"data":[]}"#)
    var long = request("POST", "/async/work")
    long.bodyIsTooLarge = true
    #expect(try response(application.begin(long)).status == .contentTooLarge)
    long.bodyIsTooLarge = false
    long.lacksLength = true
    #expect(try response(application.begin(long)).status == .lengthRequired)
  }

  @Test(
    "gives what a path and a method are for",
    arguments: [
      ("GET", "/async/work/", 404), ("GET", "/async/work2", 404), ("GET", "/async", 404), ("GET", "/sync/work", 404),
      ("GET", "/asyncwork", 404), ("GET", "/async/contact", 404), ("PUT", "/async/work", 405),
      ("POST", "/async/live", 405),
      ("POST", "/async/health", 405), ("OPTIONS", "/async/work", 204), ("OPTIONS", "/async/live", 204),
      ("GET", "/async/live", 200), ("HEAD", "/async/live", 200),
    ])
  func routes(method: String, path: String, status: Int) throws {
    #expect(try response(application.begin(request(method, path))).status.code == status)
  }

  @Test("takes no query but for /work", arguments: ["/async/live", "/async/health"])
  func otherQueries(path: String) throws {
    #expect(try response(application.begin(request("GET", path, query: "time=1"))).status == .unprocessableContent)
  }

  @Test("is well where the database answers, unless it is to stop")
  func health() throws {
    let asked = try query(application.begin(request("GET", "/async/health")))
    #expect(try response(asked.then(QueryResults(try rows("1")))).status == .ok)
    #expect(try response(asked.then(QueryResults(.failure(.unavailable("x"))))).status == .serviceUnavailable)
    let stopping = Workload(prefix: "/async") { true }
    let last = try query(stopping.begin(request("GET", "/async/health")))
    #expect(try text(response(last.then(QueryResults(try rows("1"))))).contains("draining"))
  }

  @Test("gives errors of the database a status", arguments: ["", "&together=1"])
  func errors(more: String) throws {
    func fault(_ state: String) -> PostgresError {
      .statement(.init(state: SQLState(rawValue: state), message: "secret"))
    }
    let errors: [(PostgresError, Int)] = [
      (.unavailable("secret"), 503), (.connectionLost("secret"), 503), (.queueFull, 503),
      (.interrupted("secret"), 503), (fault("57014"), 504), (fault("57P01"), 503), (fault("53100"), 503),
      (fault("08006"), 503), (fault("42883"), 500),
    ]
    for (error, status) in errors {
      let asked = try query(application.begin(request("GET", "/async/work", query: "statements=2" + more)))
      let others = try asked.others.map { _ in try rows("x") }
      let answer = try response(asked.then(QueryResults(.failure(error), others)))
      #expect(answer.status.code == status)
      #expect(!text(answer).contains("secret") && answer.fault != nil)
      // It may have been a write, which Retry-After would have done twice.
      let isLost = if case .connectionLost = error { true } else { false }
      #expect(answer.fields.contains { $0.name == .retryAfter } == (status == 503 && !isLost))
    }
  }

  @Test("spends as much of the processor as it is told to, and nothing else")
  func processor() {
    ProcessorTime.spend(0)
    let before = ProcessorTime.used
    ProcessorTime.spend(2_000)
    #expect(ProcessorTime.used - before >= 2_000_000)
  }
}
