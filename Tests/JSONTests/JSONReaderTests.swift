import Testing
import Text

@testable import JSON

@Suite("JSONReader")
struct JSONReaderTests {
  private func read(_ text: String) throws -> JSONValue { try JSONReader.read(Array(text.utf8)) }

  @Test("reads every kind of value")
  func kinds() throws {
    #expect(try read(" null ") == .null)
    #expect(try read("true") == .bool(true))
    #expect(try read("false") == .bool(false))
    #expect(try read("\"é\"") == .string("é"))
    #expect(try read("[1,[],{}]") == .array([try read("1"), .array([]), .object([])]))
  }

  @Test("keeps members in their order, repeated names included")
  func members() throws {
    let expected = JSONValue.object([
      .init(name: "b", value: .null), .init(name: "a", value: .null), .init(name: "b", value: .bool(true)),
    ])
    #expect(try read(#"{"b":null,"a":null,"b":true}"#) == expected)
  }

  @Test(
    "resolves escapes",
    arguments: [
      (#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{C}\n\r\t"), (#""\u0041\u00e9""#, "Aé"), (#""\ud83d\ude00x""#, "😀x"),
      (#""\u0000""#, "\0"),
    ])
  func escapes(_ text: String, _ expected: String) throws {
    #expect(try read(text) == .string(UTF8Text(expected)))
  }

  @Test(
    "refuses what RFC 8259 does not allow",
    arguments: [
      "", " ", "{", "[", "[1,]", "{\"a\":1,}", "{a:1}", "{\"a\" 1}", "'a'", "\"a", "\"\\x\"", "\"\\u12\"",
      "\"\\ud800\"",
      "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"a\nb\"", "01", "-", "+1", "1.", ".5", "1e", "1e+", "NaN", "Infinity",
      "-Infinity", "nul",
      "truee", "1 2", "[1}", "\u{FEFF}1", "//x\n1", "0x10",
    ])
  func refused(_ text: String) { #expect(throws: JSONSyntaxError.self, "\(text)") { try read(text) } }

  @Test(
    "refuses what is not UTF-8",
    arguments: [[0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF5, 0x80, 0x80, 0x80], [0xE2, 0x82]] as [[UInt8]])
  func notUTF8(_ bytes: [UInt8]) {
    #expect(throws: JSONSyntaxError.self) { try JSONReader.read([0x22] + bytes + [0x22]) }
    #expect(throws: JSONSyntaxError.self) { try JSONReader.read([0x22, 0x5C, 0x6E] + bytes + [0x22]) }
  }

  @Test("takes 64 levels and refuses 65")
  func depth() throws {
    let deep = String(repeating: "[", count: 64) + String(repeating: "]", count: 64)
    _ = try read(deep)
    #expect(throws: JSONSyntaxError.self) { try read("[" + deep + "]") }
    #expect(throws: JSONSyntaxError.self) { try read(String(repeating: "[", count: 1 << 20)) }
  }

  @Test("says where the fault is")
  func offset() {
    #expect(throws: JSONSyntaxError(reason: "a comma or ] is missing", offset: 3)) { try read("[1 2]") }
  }
}

@Suite("ExactDecimal")
struct ExactDecimalTests {
  private func number(_ text: String) throws -> ExactDecimal {
    guard case .number(let number) = try JSONReader.read(Array(text.utf8)) else { throw ExactDecimal.Misfit.outOfRange }
    return number
  }

  @Test(
    "scales exactly",
    arguments: [
      ("0", 0), ("-0", 0), ("1", 10_000), ("1.0", 10_000), ("0.25", 2_500), ("0.0001", 1), ("1e-4", 1),
      ("25e-2", 2_500), ("1.5E2", 1_500_000),
      ("0.25000000000000", 2_500), ("922337203685477.5807", Int64.max), ("-922337203685477.5808", Int64.min),
      ("0e400", 0), ("0.1", 1_000),
    ])
  func scaled(_ text: String, _ expected: Int64) throws { #expect(try number(text).scaled(by: 4) == expected) }

  @Test(
    "refuses more decimals than there are places",
    arguments: ["0.00001", "1.23456", "1e-5", "1e-400", "1e-999999999999"])
  func decimals(_ text: String) throws {
    let number = try number(text)
    #expect(throws: ExactDecimal.Misfit.tooManyDecimals) { try number.scaled(by: 4) }
  }

  @Test(
    "refuses what 64 bits can't hold",
    arguments: ["1e400", "922337203685477.5808", "-922337203685477.5809", "1e999999999999", "99999999999999999999"])
  func range(_ text: String) throws {
    let number = try number(text)
    #expect(throws: ExactDecimal.Misfit.outOfRange) { try number.scaled(by: 4) }
  }

  private static let many = 100_000

  @Test(
    "keeps to its range whatever is written, and takes no memory for an exponent",
    arguments: [
      ("9", String(repeating: "9", count: many)), ("1", String(repeating: "0", count: many)),
      ("1.", String(repeating: "3", count: many)), ("0.", String(repeating: "0", count: many) + "1"),
      ("1e", String(repeating: "9", count: many)), ("1e-", String(repeating: "9", count: many)),
      ("1", String(repeating: "0", count: many) + "e-2147483648"), ("1e", "999999999"), ("1e-", "999999999"),
      ("1e", "2147483648"), ("-1.5e-", "2147483649"), ("0.1e", "-999999999"),
    ])
  func extremes(_ start: String, _ rest: String) throws {
    let number = try number(start + rest)
    for places in [0, 4, 19, Int(Int32.max), -4] {
      let result = Result { () throws(ExactDecimal.Misfit) in try number.scaled(by: places) }
      if case .success(let value) = result { #expect(value == 0 || places > 19, "\(value) with \(places) places") }
    }
    #expect(number.text.utf8.count < start.utf8.count + rest.utf8.count + 50)
  }

  @Test(
    "writes long exponents as such, which read back alike",
    arguments: [
      "1e40", "1e41", "-1e-40", "12.5e-41", "1e-999999999", "1e999999999", "0e5", "123456789012345678901234567890e50",
    ])
  func texts(_ text: String) throws {
    let number = try number(text)
    #expect(try self.number(number.text) == number)
    #expect(number.text.utf8.count < 80)
  }

  @Test("takes 24 bytes in an array, so that a body of short values does not become a multiple of it")
  func size() { #expect(MemoryLayout<JSONValue>.stride == 24) }
}
