import Testing

@testable import FastCGI

@Suite("ParamsPreview")
struct ParamsPreviewTests {
  private let pairs = [("PATH_INFO", "/contact/1\0"), ("EMPTY", ""), ("LONG", String(repeating: "x", count: 300))]

  @Test("has the variables of a request once they are whole, wherever it was cut")
  func cuts() {
    let content = encoded(pairs)
    var header = record(9, id: 0) + begin(id: 3)
    for piece in [content[..<1], content[1..<40], content[40...]] {
      header += record(4, id: 3, Array(piece), padding: 7)
    }
    header += record(4, id: 3, padding: 2)
    let whole = header + record(5, id: 3, [1, 2]) + record(5, id: 3)
    var preview = ParamsPreview()
    for count in 0...whole.count {
      let isComplete = count >= header.count
      #expect(preview.look(at: whole.span.extracting(first: count)) == (isComplete ? .complete : .incomplete))
      if isComplete { #expect(preview.params == content) }
    }
  }

  @Test("passes over another request, and what is no FastCGI")
  func others() {
    let other = begin() + record(4, id: 2, [1]) + record(4, id: 2)
    var preview = ParamsPreview()
    #expect(preview.look(at: other.span) == .incomplete)
    #expect(preview.look(at: Array("GET / HTTP/1.1\r\n\r\n".utf8).span) == .malformed)
  }
}
