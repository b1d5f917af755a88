// What every answer is given in the end.

import CGI
import HTTPTypes
import Testing

@testable import Application

@Suite("Application.seal") struct SealTests {
  private let application: any Application = Tiny()
  private let timing = Response.Timing(database: 1, application: 2)
  private let tag = EntityTag(digest: 0xAB)
  private let same = #""00000000000000ab""#

  private func sealed(_ method: String, _ condition: (String, String)?, _ status: Status) -> Response {
    var response = Response(status, contentType: .json, body: Array("{}".utf8))
    response.entityTag = tag
    let fields = condition.map { [("HTTP_IF_\($0.0)", $0.1)] } ?? []
    application.seal(&response, for: request(method, fields: fields), timing)
    return response
  }

  @Test(
    "meets the conditions of reads, and leaves out what is not to be sent",
    arguments: [
      // What is asked, the answer before; the answer after, its body, whether that is left out.
      ("GET", nil, 200, 200, "{}", false), ("HEAD", nil, 200, 200, "{}", true),
      ("GET", ("NONE_MATCH", "same"), 200, 304, "", false), ("HEAD", ("NONE_MATCH", "same"), 200, 304, "", true),
      ("GET", ("NONE_MATCH", #""other""#), 200, 200, "{}", false),
      ("GET", ("NONE_MATCH", "no list"), 200, 200, "{}", false),
      ("GET", ("MATCH", "same"), 200, 200, "{}", false), ("GET", ("MATCH", "*"), 200, 200, "{}", false),
      ("GET", ("MATCH", #""other""#), 200, 412, "changed", false),
      ("HEAD", ("MATCH", #""other""#), 200, 412, "changed", true),
      ("GET", ("MATCH", "no list"), 200, 412, "unclearMatch", false),
      // A write has been done, and what is not there has no state.
      ("PATCH", ("MATCH", #""other""#), 200, 200, "{}", false), ("POST", ("NONE_MATCH", "same"), 201, 201, "{}", false),
      ("GET", ("MATCH", #""other""#), 404, 404, "{}", false),
    ] as [(String, (String, String)?, Int, Int, String, Bool)])
  func conditions(
    _ method: String, _ condition: (String, String)?, _ before: Int, _ after: Int, _ body: String, _ isOmitted: Bool
  ) {
    let condition = condition.map { ($0.0, $0.1 == "same" ? same : $0.1) }
    let response = sealed(method, condition, Status(code: before))
    #expect(response.status.code == after)
    #expect(text(response) == body)
    #expect(response.omitsBody == isOmitted)
    // Who has the body already is told which one it is.
    #expect(after != 304 || response.entityTag == tag && response.contentType == nil)
    #expect(response.timing?.database == 1 && response.timing?.application == 2)
  }

  @Test("an answer without a state meets every condition")
  func stateless() {
    var response = Response(.ok, contentType: .json, body: Array("{}".utf8))
    application.seal(&response, for: request("GET", fields: [("HTTP_IF_MATCH", same)]), timing)
    #expect(response.status == .ok && text(response) == "{}")
  }

  @Test("references lead back to where the application is mounted", arguments: ["", "/a", "/a/b", "/ä b"])
  func mount(_ mount: String) {
    let place = ["/ä b": "/%C3%A4%20b"][mount] ?? mount
    var response = Response(
      .created,
      fields: [
        HTTPField(name: .location, value: "/tiny/2"), HTTPField(name: .link, value: #"</tiny?after=2>; rel="next""#),
        HTTPField(name: .allow, value: "/tiny"),
      ])
    application.seal(&response, for: request("POST", mount: mount), timing)
    #expect(response.fields.map(\.value) == ["\(place)/tiny/2", #"<\#(place)/tiny?after=2>; rel="next""#, "/tiny"])
  }

  @Test(
    "an application stands where its prefix does, and is asked by nobody whether anybody answers, unless it says so")
  func defaults() {
    #expect(application.roots == ["/tiny"] && !application.isLivenessCheck(request("GET")))
  }
}
