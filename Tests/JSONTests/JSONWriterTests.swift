import JSON
import Testing
import Text

@Suite("JSONWriter")
struct JSONWriterTests {
  private func written(_ body: (inout JSONWriter) -> Void) -> String {
    var writer = JSONWriter(capacity: 1)
    body(&writer)
    return String(decoding: writer.take(), as: UTF8.self)
  }

  @Test(
    "escapes what a string needs, wherever it stands",
    arguments: [
      ("\"", #"\""#), ("\\", #"\\"#), ("\n", #"\n"#), ("\u{1}", #"\u0001"#), ("\u{1F}", #"\u001f"#),
      ("\u{8}\u{C}\r\t", #"\b\f\r\t"#),
    ])
  func escapes(_ text: String, _ expected: String) {
    for before in 0..<20 {
      let plain = String(repeating: "é", count: before)
      #expect(written { $0.string(plain + text + "x") } == "\"\(plain)\(expected)x\"", "after \(before) characters")
    }
  }

  @Test("reads back what it wrote, for every code point below U+0300 and some beyond")
  func roundTrip() throws {
    var text = ""
    for code in Array(0..<0x300) + [0x2028, 0xFFFD, 0xFFFF, 0x1F600, 0x10FFFF] {
      text.unicodeScalars.append(Unicode.Scalar(UInt32(code)) ?? " ")
    }
    let bytes = Array(written { $0.string(text) }.utf8)
    #expect(try JSONReader.read(bytes) == .string(UTF8Text(text)))
  }

  @Test(
    "writes decimals without closing zeros",
    arguments: [
      ("1.2500", "1.25"), ("3.0000", "3"), ("0.0000", "0"), ("100", "100"), ("10.0001", "10.0001"), ("0.5000", "0.5"),
    ])
  func decimals(_ text: String, _ expected: String) { #expect(written { $0.decimal(text.utf8.span) } == expected) }

  @Test(
    "tells of text that is not UTF-8, wherever it stands",
    arguments: [[0x80], [0xC3], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xFF]] as [[UInt8]])
  func invalidText(_ invalid: [UInt8]) {
    for before in 0..<20 {
      for after in ["", "x", "\"", "\n and more", "xxxxxxxxxxxxxxxx"] {
        var writer = JSONWriter()
        let bytes = Array(repeating: UInt8(ascii: "x"), count: before) + invalid + Array(after.utf8)
        writer.string(bytes.span)
        #expect(writer.flaw == .text, "\(before) before \(after)")
        _ = writer.take()
        writer.string("é\n\(String(repeating: "ü", count: before))\(after)")
        #expect(writer.flaw == nil)
      }
    }
  }

  @Test(
    "tells of what is no number",
    arguments: [
      ("", true), ("NaN", true), ("Infinity", true), ("-Infinity", true), ("0", false), ("-1", false), ("1.5", false),
    ])
  func invalidNumber(_ text: String, _ isFlawed: Bool) {
    var writer = JSONWriter()
    writer.number(text.utf8.span)
    #expect((writer.flaw == .number) == isFlawed)
  }

  @Test("writes unsigned numbers", arguments: [0, 9, 10, 99, 100, 12_345, UInt64.max])
  func unsigned(_ value: UInt64) { #expect(written { $0.unsigned(value) } == String(value)) }

  @Test("grows as far as it must, and is empty after take")
  func growth() {
    var writer = JSONWriter(capacity: 1)
    let long = String(repeating: "abc\"", count: 300_000)
    writer.string(long)
    #expect(writer.take().count == 300_000 * 5 + 2)
    #expect(writer.take().isEmpty)
    writer.raw("[]")
    #expect(writer.take() == Array("[]".utf8))
  }

  @Test("points with ~0 and ~1 (RFC 6901)")
  func pointers() {
    #expect(JSONPointer.root.member("a/b~c").element(3).description == "/a~1b~0c/3")
    // A slash and a tilde, each with an accent.
    #expect(JSONPointer.root.member("/\u{301}~\u{301}").description == "/~1\u{301}~0\u{301}")
    #expect(JSONPointer.root.description == "")
  }
}
