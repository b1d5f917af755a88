// What stands in rows and in parameters, up to the ends of 64 bits. Needs no server.

import Testing
import Text

@testable import Postgres

@Suite("Values")
struct ValuesTests {
  @Test(
    "of rows are integers if 64 bits hold them, and else 0",
    arguments: [
      ("0", 0), ("-0", 0), ("9223372036854775807", .max), ("-9223372036854775808", .min),
      ("-9223372036854775807", -.max),
      ("999999999999999999", 999_999_999_999_999_999), ("-999999999999999999", -999_999_999_999_999_999),
      ("1000000000000000000", 1_000_000_000_000_000_000), ("0000000000000000000000000001", 1),
      ("9223372036854775808", 0), ("-9223372036854775809", 0), ("99999999999999999999", 0),
      ("-99999999999999999999", 0),
      (String(repeating: "9", count: 1_000), 0), ("", 0), ("-", 0), ("--1", 0), ("+1", 0), ("1.5", 0), ("NaN", 0),
      ("Infinity", 0), ("1\u{301}", 0), ("1234567890123456789x", 0), (nil, 0),
    ] as [(String?, Int64)])
  func integers(_ text: String?, _ expected: Int64) throws {
    let rows = try #require(ResultSet.inMemory(columns: 1, [[text]]))
    #expect(rows.integer(0, 0) == expected)
  }

  @Test("that are not there are empty", arguments: [(1, 0), (0, 1), (-1, 0), (0, -1), (1_000_000, 1_000_000)])
  func outside(_ row: Int, _ column: Int) throws {
    let rows = try #require(ResultSet.inMemory(columns: 1, [["1"]]))
    #expect(rows.bytes(row, column).isEmpty && rows.integer(row, column) == 0)
  }

  @Test(
    "of parameters are written to their last digit",
    arguments: [.min, .min + 1, -1, 0, 1, 9, 10, .max - 1, .max] as [Int64])
  func parameters(_ value: Int64) {
    var parameters = Parameters()
    parameters.append(value)
    parameters.append(array: [value, value])
    #expect(parameters.bytes == Array("\(value)\0{\(value),\(value)}\0".utf8))
  }

  @Test(
    "of parameters are divided by a power of ten",
    arguments: [
      (0, 4, "0.0000"), (1, 4, "0.0001"), (-12_345, 4, "-1.2345"), (.min, 4, "-922337203685477.5808"),
      (.max, 18, "9.223372036854775807"), (.max, 19, "0.9223372036854775807"), (.min, 19, "-0.9223372036854775808"),
      (1, 19, "0.0000000000000000001"),
    ] as [(Int64, Int, String)])
  func decimals(_ value: Int64, _ decimals: Int, _ expected: String) {
    var parameters = Parameters()
    parameters.append(array: [value], decimals: decimals)
    #expect(parameters.bytes == Array("{\(expected)}\0".utf8))
  }

  @Test("of parameters may be 200, and NULL among them")
  func many() {
    var parameters = Parameters()
    for index in 0..<200 { if index % 2 == 0 { parameters.append(UTF8Text("x")) } else { parameters.appendNull() } }
    #expect(parameters.count == 200)
    #expect(parameters.withPointers { $0?[0] != nil && $0?[1] == nil && $0?[198] != nil })
  }
}
