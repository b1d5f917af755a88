// Values out of JSON, one at a time. What whole requests come to is in BeginTests.

import JSON
import Testing
import Text

@testable import Orders

@Suite("Validation")
struct ValidationTests {
  @Test(
    "takes null for a text that is not required, and nothing: a patch removes by the one and keeps by the other",
    arguments: [
      ("{}", false, nil), (#"{"city":null}"#, false, nil), (#"{"city":"x"}"#, false, "x"),
      ("{}", true, nil), (#"{"city":null}"#, true, ""), (#"{"city":"x"}"#, true, "x"),
    ] as [(String, Bool, UTF8Text?)])
  func optionalText(_ body: String, _ isPatch: Bool, _ expected: UTF8Text?) throws {
    let (text, faults) = try city(body, isPatch)
    #expect(text == expected && faults.isEmpty)
  }

  @Test(
    "is as strict with such a text as with any other", arguments: [#""""#, #"" ""#, "1", #""xxxx""#, #""\u0000""#],
    [false, true])
  func strictness(_ value: String, _ isPatch: Bool) throws {
    let (text, faults) = try city("{\"city\":\(value)}", isPatch)
    #expect(text == nil && faults.count == 1)
  }

  /// A text of at most three characters that is not required.
  private func city(_ body: String, _ isPatch: Bool) throws -> (UTF8Text?, Faults) {
    var validation = Validation(isPatch: isPatch)
    let members = validation.object(try JSONReader.read(Array(body.utf8)), .root, keys: ["city"])
    let object = try #require(members)
    let text = validation.text(object, "city", .root, longest: 3, isRequired: false)
    return (text, validation.faults)
  }
}
