import FastCGI
import Testing

@Suite("RecordWriter")
struct RecordWriterTests {
  private let ending = record(3, [0, 0, 0, 0, 0, 0, 0, 0])

  @Test("writes a small answer as one STDOUT record and END_REQUEST")
  func small() {
    var writer = RecordWriter()
    writer.answer(requestID: 1, head: [1, 2], body: [3])
    #expect(writer.bytes == record(6, [1, 2, 3]) + ending)
  }

  @Test("writes an empty answer with one STDOUT record")
  func empty() {
    var writer = RecordWriter()
    writer.answer(requestID: 1, head: [], body: [])
    #expect(writer.bytes == record(6, []) + ending)
  }

  @Test(
    "cuts long answers into full records", arguments: [65_534, 65_535, 65_536, 131_070, 131_071, 200_000])
  func long(_ total: Int) {
    let bytes = (0..<total).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    for headLength in [0, 1, 100, 65_535] where headLength <= total {
      var writer = RecordWriter()
      writer.answer(requestID: 300, head: Array(bytes[..<headLength]), body: Array(bytes[headLength...]))
      var expected: [UInt8] = []
      for start in stride(from: 0, to: total, by: 65_535) {
        expected += record(6, id: 300, Array(bytes[start..<min(start + 65_535, total)]))
      }
      expected += record(3, id: 300, [0, 0, 0, 0, 0, 0, 0, 0])
      #expect(writer.bytes == expected, "\(total) bytes, \(headLength) of them head")
    }
  }
}
