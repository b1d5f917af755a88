import Testing

@testable import FastCGI

private let pairs = [
  ("REQUEST_METHOD", "GET"), ("PATH_INFO", "/sync/tag"), ("EMPTY", ""), ("LONG", String(repeating: "x", count: 300)),
]
private let unknownType: [UInt8] = [1, 11, 0, 0, 0, 8, 0, 0]

@Suite("RequestAssembler")
struct RequestAssemblerTests {
  private func expected(id: UInt16 = 1, keep: Bool = true, body: [UInt8] = []) -> RequestAssembler.Action {
    .request(AssembledRequest(id: id, keepsConnection: keep, params: encoded(pairs), body: body, bodyIsTooLarge: false))
  }

  /// Each case is fed whole, then cut in two at every byte, then byte by byte: the outcome must be the same.
  @Test(
    "means the same wherever the stream is cut",
    arguments: [
      ("a request without a body", request(pairs)),
      ("a request with a body", request(pairs, body: Array("{\"name\":\"IT\"}".utf8))),
      ("a connection that is not kept", request(keep: false, pairs)),
      ("two requests", request(pairs) + request(id: 7, pairs, body: [1, 2, 3])),
      (
        "padding on every record, empty ones too",
        begin(padding: 255) + record(4, encoded(pairs), padding: 3) + record(4, padding: 8) + record(5, [9], padding: 1)
          + record(5, padding: 255)
      ),
      (
        "params in several records, cut inside a length",
        begin() + record(4, Array(encoded(pairs)[..<1])) + record(4, Array(encoded(pairs)[1..<40]))
          + record(4, Array(encoded(pairs)[40...])) + record(4) + record(5)
      ),
      (
        "a body in several records",
        begin() + params(pairs) + record(4) + record(5, [1]) + record(5, [2, 3]) + record(5)
      ),
      (
        "GET_VALUES before, between and after",
        record(9, id: 0, encoded([("FCGI_MPXS_CONNS", "")])) + begin()
          + record(9, id: 0, encoded([("FCGI_MAX_REQS", ""), ("OTHER", "")])) + params(pairs) + record(4) + record(5)
          + record(9, id: 0)
      ),
      ("an unknown management record", record(77, id: 0, [1, 2, 3], padding: 5) + request(pairs)),
      ("another role", begin(role: 2) + params(pairs) + record(4) + record(5)),
      ("a second BEGIN_REQUEST", begin() + begin(id: 2) + params(pairs) + record(4) + record(5)),
      ("an abort", begin() + params(pairs) + record(2) + request(id: 3, pairs)),
      (
        "records of a request that is not there",
        record(5, id: 9, [1, 2]) + record(4, id: 9) + record(2, id: 9) + request(pairs)
      ),
      ("another version", record(1, [0, 1, 0, 0, 0, 0, 0, 0], version: 2)),
      ("half a request", Array(request(pairs).dropLast(8))),
    ] as [(String, [UInt8])])
  func cuts(_ name: String, _ bytes: [UInt8]) {
    let whole = assemble(bytes)
    for cut in 0...bytes.count {
      #expect(assemble(bytes, cutAt: [cut]) == whole, "\(name), cut at byte \(cut)")
    }
    #expect(assemble(bytes, cutAt: Array(0...bytes.count)) == whole, "\(name), byte by byte")
  }

  @Test("hands over a request when its STDIN has ended")
  func complete() {
    let outcome = assemble(request(pairs, body: [1, 2, 3]))
    #expect(outcome.actions == [expected(body: [1, 2, 3])])
    #expect(outcome.replies.isEmpty)
    #expect(outcome.isIdle)
  }

  @Test("is not idle in the middle of a request, nor of a header")
  func idle() {
    #expect(!assemble(begin()).isIdle)
    #expect(!assemble(Array(begin().prefix(3))).isIdle)
    #expect(assemble([]).isIdle)
  }

  @Test("answers GET_VALUES with what it knows, and nothing for what it does not")
  func getValues() {
    let outcome = assemble(record(9, id: 0, encoded([("FCGI_MPXS_CONNS", ""), ("FCGI_NONSENSE", "")])))
    #expect(outcome.replies == record(10, id: 0, encoded([("FCGI_MPXS_CONNS", "0")])))
  }

  @Test("answers an unknown management record with UNKNOWN_TYPE")
  func unknownManagement() {
    #expect(assemble(record(77, id: 0, [1, 2, 3])).replies == unknownType + [77, 0, 0, 0, 0, 0, 0, 0])
  }

  @Test("answers an application record without a request id with UNKNOWN_TYPE")
  func applicationRecordWithNullID() {
    #expect(assemble(record(5, id: 0, [1])).replies == unknownType + [5, 0, 0, 0, 0, 0, 0, 0])
  }

  @Test("ends other roles with UNKNOWN_ROLE, and serves the next request")
  func roles() {
    let outcome = assemble(begin(id: 4, role: 3) + request(pairs))
    #expect(outcome.replies == record(3, id: 4, [0, 0, 0, 0, 3, 0, 0, 0]))
    #expect(outcome.actions == [expected()])
  }

  @Test("ends a second request at the same time with CANT_MPX_CONN")
  func multiplexing() {
    let outcome = assemble(begin() + begin(id: 2) + params(pairs) + record(4) + record(5))
    #expect(outcome.replies == record(3, id: 2, [0, 0, 0, 0, 1, 0, 0, 0]))
    #expect(outcome.actions == [expected()])
  }

  @Test("serves interleaved requests where it may, in the order in which they are complete")
  func interleaved() {
    let limits = RequestLimits(concurrent: 2)
    let bytes =
      begin(id: 1) + begin(id: 2, keep: false) + params(id: 2, pairs) + params(id: 1, pairs) + record(4, id: 2)
      + record(5, id: 2, [2]) + record(4, id: 1) + record(5, id: 1, [1]) + record(5, id: 2) + record(5, id: 1)
    let whole = assemble(bytes, limits: limits)
    #expect(whole.actions == [expected(id: 2, keep: false, body: [2]), expected(id: 1, body: [1])])
    for cut in 0...bytes.count { #expect(assemble(bytes, cutAt: [cut], limits: limits) == whole, "cut at byte \(cut)") }
  }

  @Test("ends one request more than it may have with OVERLOADED, and says that it multiplexes")
  func overloaded() {
    let limits = RequestLimits(concurrent: 2)
    let outcome = assemble(
      begin(id: 1) + begin(id: 2) + begin(id: 3) + record(9, id: 0, encoded([("FCGI_MPXS_CONNS", "")])), limits: limits)
    #expect(
      outcome.replies == record(3, id: 3, [0, 0, 0, 0, 2, 0, 0, 0])
        + record(10, id: 0, encoded([("FCGI_MPXS_CONNS", "1")])))
    #expect(outcome.actions == [])
  }

  @Test("closes when a request begins with the id of one that is under way")
  func idInUse() {
    #expect(assemble(begin(id: 3) + begin(id: 3)).actions == [.close(.idInUse(3))])
  }

  @Test("ends an aborted request")
  func abort() {
    let outcome = assemble(begin(id: 5) + record(2, id: 5))
    #expect(outcome.actions == [.aborted(id: 5)])
    #expect(outcome.replies == record(3, id: 5, [0, 0, 0, 0, 0, 0, 0, 0]))
    #expect(outcome.isIdle)
  }

  @Test("closes on another version at its first byte")
  func version() {
    #expect(assemble([0x47]).actions == [.close(.unknownVersion(0x47))])
  }

  @Test("closes on a BEGIN_REQUEST that is too short")
  func shortBegin() {
    #expect(assemble(record(1, [0, 1])).actions == [.close(.malformedRecord(.beginRequest))])
  }

  @Test("closes on params that break off inside a pair")
  func brokenParams() {
    let broken = begin() + record(4, [5, 5, 0x61]) + record(4) + record(5)
    #expect(assemble(broken).actions == [.close(.malformedParams)])
  }

  @Test("bounds params in size and number")
  func paramLimits() {
    let small = RequestLimits(params: 20, pairs: 2, body: 10)
    let tooLarge = RequestAssembler.Action.request(
      AssembledRequest(
        id: 1, keepsConnection: true, params: [], paramsAreTooLarge: true, body: [], bodyIsTooLarge: false))
    #expect(assemble(request([("A", String(repeating: "x", count: 30))]), limits: small).actions == [tooLarge])
    #expect(assemble(request([("A", ""), ("B", ""), ("C", "")]), limits: small).actions == [tooLarge])
    #expect(assemble(request([("A", ""), ("B", "")]), limits: small).actions != [tooLarge])
    #expect(assemble(request([("A", ""), ("HTTP_B", ""), ("B", "")]), limits: small).actions != [tooLarge])
  }

  @Test("reads a body that is too long to its end, and says so")
  func bodyLimit() {
    let limits = RequestLimits(body: 4)
    let bytes =
      begin() + params(pairs) + record(4) + record(5, [1, 2, 3]) + record(5, [4, 5]) + record(5, [6]) + record(5)
    let expected = AssembledRequest(
      id: 1, keepsConnection: true, params: encoded(pairs), body: [], bodyIsTooLarge: true)
    #expect(assemble(bytes, limits: limits).actions == [.request(expected)])
  }
}

@Suite("NameValuePairs")
struct NameValuePairsTests {
  @Test("has one- and four-byte lengths", arguments: [0, 1, 127, 128, 300, 70_000])
  func lengths(_ length: Int) throws {
    let value = [UInt8](repeating: 7, count: length)
    var bytes: [UInt8] = []
    NameValuePairs.append("N".utf8, value, to: &bytes)
    NameValuePairs.append([], [], to: &bytes)
    var walk = NameValuePairs()
    let first = try #require(try walk.next(bytes.span))
    #expect(Array(bytes[first.value]) == value)
    let second = try #require(try walk.next(bytes.span))
    #expect(second.name.isEmpty && second.value.isEmpty)
    #expect(try walk.next(bytes.span) == nil)
  }

  @Test("refuses bytes that break off at any place")
  func truncated() throws {
    let bytes = encoded([("NAME", String(repeating: "v", count: 200))])
    for end in 1..<bytes.count {
      var walk = NameValuePairs()
      let part = Array(bytes[..<end])
      #expect(throws: NameValuePairs.Truncated.self, "cut at \(end)") { _ = try walk.next(part.span) }
    }
  }

  @Test("does not trust a length beyond the bytes")
  func hugeLength() {
    var walk = NameValuePairs()
    let bytes: [UInt8] = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]
    #expect(throws: NameValuePairs.Truncated.self) { _ = try walk.next(bytes.span) }
  }
}
