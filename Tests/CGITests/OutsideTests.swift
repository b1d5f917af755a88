// Extreme values from outside: none of them may trap, which would end everybody on a loop.

import CGI
import HTTPTypes
import Testing

private func request(_ name: String, _ value: String) -> Request {
  var request = Request()
  request.append(name.utf8.span, value.utf8.span)
  request.finish()
  return request
}

@Suite("What comes from outside")
struct OutsideTests {
  @Test(
    "is a number only if 63 bits hold its digits",
    arguments: [
      ("0", 0), ("9223372036854775807", Int64.max), ("9223372036854775808", nil), ("18446744073709551616", nil),
      ("99999999999999999999", nil), ("", nil), ("-1", nil), ("+1", nil), (" 1", nil), ("1\u{301}", nil), ("٣", nil),
      (String(repeating: "0", count: 60_000) + "7", 7), (String(repeating: "9", count: 60_000), nil),
    ] as [(String, Int64?)])
  func decimals(_ text: String, _ expected: Int64?) { #expect(text.utf8.span.decimal == expected) }

  @Test(
    "has a length only if that is a number",
    arguments: [
      ("0", 0), ("007", 7), (String(repeating: "0", count: 60_000) + "26", 26), ("9223372036854775807", .max),
      ("9223372036854775808", .max), ("99999999999999999999", .max), (String(repeating: "9", count: 60_000), .max),
      ("", nil), ("-1", nil), ("-9223372036854775808", nil), ("+1", nil), (" 1", nil), ("1 ", nil), ("1e3", nil),
      ("0x10", nil), ("1,1", nil), ("1, 1", nil), ("٣", nil), ("1\0", nil),
    ] as [(String, Int?)])
  func lengths(_ text: String, _ expected: Int?) { #expect(request("CONTENT_LENGTH", text).contentLength == expected) }

  @Test(
    "has a method that can be told from every other",
    arguments: [
      ("GET", "GET"), ("get", "get"), ("PROPFIND", "PROPFIND"), ("", "INVALID"), ("G T", "INVALID"),
      ("GE\u{301}T", "INVALID"),
      (String(repeating: "G", count: 32), String(repeating: "G", count: 32)),
      (String(repeating: "G", count: 33), "INVALID"), (String(repeating: "\u{301}\u{316}", count: 10_000), "INVALID"),
    ])
  func methods(_ text: String, _ expected: String) {
    #expect(request("REQUEST_METHOD", text).method.rawValue == expected)
  }

  @Test(
    "may end anywhere in a query string",
    arguments: ["%", "a%", "a=%2", "%2=1", "a=%%%", "=", "&", "=&=", "a==", "+", "%00", "a=%F0%9F", "%C3%A9=%C3%A9"])
  func queries(_ query: String) {
    for length in 0...query.utf8.count {
      _ = try? QueryString.pairs(query.utf8.span.extracting(first: length))
    }
  }

  @Test("is told apart by bytes in a query string")
  func queryNames() throws {
    let pairs = try QueryString.pairs("\u{E9}=1&e\u{301}=1&%C3%A9=1".utf8.span)
    #expect(pairs[0] != pairs[1] && pairs[0] == pairs[2])
  }

  @Test(
    "may be any list of entity tags",
    arguments: [
      "", ",", "W", "W/", "W/,", "W/W/", "\"", "\"\"", "W/\"", "\"1", "1\"", "\"1\"\"2\"", "*", ",*,", " * ", "\t",
      "W/*",
      "\"9223372036854775808\"", "\"\u{301}\u{316}\"", "\"-\"",
    ])
  func entityTags(_ list: String) {
    for length in 0...list.utf8.count {
      let part = list.utf8.span.extracting(first: length)
      _ = EntityTag.wanted(by: part)
      for digest in [0, UInt64.max] { _ = EntityTag(digest: digest).isIn(part) }
    }
  }

  @Test("may have taken any time")
  func timings() {
    var response = Response(.ok)
    response.entityTag = EntityTag(digest: .max)
    response.timing = Response.Timing(database: .max, application: 0)
    var head: [UInt8] = []
    response.writeHead(to: &head, requestID: "id".utf8.span)
    let text = String(decoding: head, as: UTF8.self)
    #expect(text.contains("db;dur=18446744073709.551, app;dur=0.000\r\n"))
    #expect(text.contains("\"ffffffffffffffff\""))
  }
}
