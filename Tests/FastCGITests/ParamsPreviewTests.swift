import Testing

@testable import FastCGI

@Suite("ParamsPreview")
struct ParamsPreviewTests {
  private let pairs = [("PATH_INFO", "/contact/1\0"), ("EMPTY", ""), ("LONG", String(repeating: "x", count: 300))]

  @Test("has the variables of a request once they are whole, wherever it was cut")
  func cuts() {
    let content = encoded(pairs)
    var header = begin(id: 3)
    for piece in [content[..<1], content[1..<40], content[40...]] {
      header += record(4, id: 3, Array(piece), padding: 7)
    }
    header += record(4, id: 3, padding: 2)
    let whole = header + record(5, id: 3, [1, 2]) + record(5, id: 3)
    var preview = ParamsPreview()
    for count in 8 + 2...whole.count {
      let isComplete = count == whole.count
      #expect(preview.look(at: whole.span.extracting(first: count)) != .other)
      #expect(preview.requestID == 3)
      #expect(preview.look(at: whole.span.extracting(first: count)) == (isComplete ? .complete : .incomplete))
      if isComplete { #expect(preview.params == content) }
    }
  }

  @Test("knows what is more than the header of one request")
  func others() {
    var preview = ParamsPreview()
    let records = begin() + record(4, encoded(pairs))
    let rest = record(4) + record(5)
    for other in [
      record(9, id: 0), record(4, id: 2, [1]), record(2), record(5, [1]), begin(id: 2), record(77, id: 0),
      record(8, [1]),
    ] {
      #expect(preview.look(at: (records + other + rest).span) == .other)
      #expect(preview.look(at: (other + records + rest).span) == .other)
    }
    #expect(preview.look(at: (records + record(4) + record(8) + record(5)).span) == .other)
    #expect(preview.look(at: (begin() + rest).span) == .other)
    for role in [0, 2, 3, 9] as [UInt8] {
      let begin = record(1, [0, role, 0, 0, 0, 0, 0, 0])
      #expect(preview.look(at: (begin + record(4, encoded(pairs)) + rest).span) == .other)
    }
    #expect(preview.look(at: (records + rest).span) == .complete)
    #expect(preview.look(at: Array("GET / HTTP/1.1\r\n\r\n".utf8).span) == .other)
  }
}
