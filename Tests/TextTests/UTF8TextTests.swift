import Testing
import Text

@Suite("Text from outside")
struct UTF8TextTests {
  @Test("is equal if its bytes are, whatever it looks like")
  func equality() {
    let (composed, decomposed): (UTF8Text, UTF8Text) = ("\u{E9}", "e\u{301}")
    #expect(composed.string == decomposed.string, "a String takes both for one")
    #expect(composed != decomposed)
    #expect(Set([composed, decomposed, "\u{E9}"]).count == 2)
    #expect(composed == "\u{E9}" && composed != "e" && composed != "")
    switch decomposed {
    case "\u{E9}": Issue.record("a pattern normalizes")
    case "e\u{301}": break
    default: Issue.record("a pattern does not match its own bytes")
    }
  }

  @Test("is ordered by its bytes", arguments: [("", "a"), ("a", "b"), ("a", "aa"), ("Z", "a"), ("e\u{301}", "\u{E9}")])
  func order(_ less: String, _ more: String) {
    #expect(UTF8Text(less) < UTF8Text(more) && !(UTF8Text(more) < UTF8Text(less)))
  }

  @Test("is compared and hashed in no more than linear time, also out of canonical order")
  func cost() {
    // By canonical equivalence each of these takes minutes.
    let marks = String(repeating: "\u{301}\u{316}", count: 262_000)
    let (one, other) = (UTF8Text(marks + "x"), UTF8Text(marks + "y"))
    #expect(one != other && one < other && one == UTF8Text(marks + "x"))
    #expect(Set([one, other]).contains(other))
  }

  @Test(
    "is not made of what is no UTF-8, unless it is to be repaired", arguments: [[0xFF], [0xC3], [0xED, 0xA0, 0x80]])
  func validation(_ bytes: [UInt8]) {
    #expect(UTF8Text(validating: bytes.span) == nil)
    #expect(UTF8Text(repairing: bytes.span).string.unicodeScalars.contains("\u{FFFD}"))
  }

  @Test(
    "is cut between code points",
    arguments: [
      ("abc", 2, "ab"), ("aé", 2, "a"), ("aé", 3, "aé"), ("é", 1, ""), ("a", 0, ""), ("a", -1, ""), ("", 5, ""),
    ])
  func prefix(_ text: String, _ count: Int, _ expected: UTF8Text) {
    #expect(UTF8Text(text).prefix(count) == expected)
  }

  @Test("is counted in code points, and blank if all of them are spaces")
  func counts() {
    let text: UTF8Text = "e\u{301}\u{1F468}"
    #expect(text.count == 7 && text.codePointCount == 3)
    #expect(UTF8Text("").isBlank && UTF8Text(" \u{3000}\t").isBlank && !UTF8Text(" x").isBlank)
  }

  @Test("gives back the bytes that it was made of, however many they are", arguments: 0...40)
  func bytes(_ count: Int) {
    for unit in ["x", "\0", "\u{7F}", "\u{E9}", "\u{301}", "\u{1F468}"] {
      let text = String(repeating: unit, count: count)
      let bytes = Array(text.utf8)
      let validated = UTF8Text(validating: bytes.span)
      for made in [UTF8Text(text), UTF8Text(repairing: bytes.span), validated ?? "none"] {
        #expect(made.string.utf8.elementsEqual(bytes) && made.count == bytes.count)
        #expect(
          made.withBytes { span in span.count == bytes.count && span.indices.allSatisfy { span[$0] == bytes[$0] } })
        #expect(made == UTF8Text(text) && made.hashValue == UTF8Text(text).hashValue)
        #expect(made != UTF8Text(text + "\0") && made != UTF8Text("y" + text.dropFirst()))
        #expect(made.codePointCount == count && made.contains(bytes.first ?? 1) == (count > 0))
      }
    }
  }

  @Test("differs wherever a byte does", arguments: [1, 7, 8, 9, 14, 15, 16, 17, 30])
  func differences(_ count: Int) {
    let bytes = [UInt8](repeating: 0x61, count: count)
    for index in bytes.indices {
      var other = bytes
      other[index] = 0x62
      let (one, two) = (UTF8Text(repairing: bytes.span), UTF8Text(repairing: other.span))
      #expect(one != two && one < two && !(two < one))
    }
  }
}
