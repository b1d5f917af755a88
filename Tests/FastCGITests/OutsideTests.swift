// Lengths at their ends: what a peer claims is never believed.

import Testing

@testable import FastCGI

@Suite("Lengths that a peer claims")
struct OutsideTests {
  static let lengths: [[UInt8]] = [
    [0x80, 0, 0, 0], [0xFF, 0xFF, 0xFF, 0xFF], [0x80, 0xFF, 0xFF, 0xFF], [0x80, 0, 0, 0x80],
  ]

  @Test("of a name or a value don't reach beyond its bytes", arguments: lengths)
  func pairs(_ length: [UInt8]) {
    for bytes in [
      length, length + [0], [0] + length, length + length, [1] + length + [0x61], length + [1, 0x61, 0x62],
    ] {
      for count in 0...bytes.count {
        var walk = NameValuePairs()
        let part = bytes.span.extracting(first: count)
        while let pair = try? walk.next(part) { #expect(pair.value.upperBound <= count) }
      }
    }
  }

  @Test(
    "of a record are taken as they are: no content, no padding, all of both", arguments: [0, 1, 255], [0, 1, 65_535])
  func records(_ padding: UInt8, _ length: UInt16) {
    let header: [UInt8] = [1, 5, 0xFF, 0xFF, UInt8(length >> 8), UInt8(length & 0xFF), padding, 0xFF]
    let bytes = header + [UInt8](repeating: 7, count: Int(length) + Int(padding))
    var reader = RecordReader()
    var position = 0
    var content = 0
    while let event = reader.next(bytes.span, &position) {
      if case .content(let range) = event { content += range.count }
    }
    #expect(content == Int(length) && position == bytes.count && reader.isBetweenRecords)
  }

  @Test("of what is written are split where one record does not hold them", arguments: [0, 1, 65_535, 65_536, 200_000])
  func writing(_ length: Int) {
    var writer = RecordWriter()
    writer.record(.stdout, requestID: .max, [UInt8](repeating: 7, count: length))
    var reader = RecordReader()
    var position = 0
    var (content, records) = (0, 0)
    while let event = reader.next(writer.bytes.span, &position) {
      switch event {
      case .begin(let header):
        #expect(header.kind == .stdout && header.requestID == .max)
        records += 1
      case .content(let range): content += range.count
      default: break
      }
    }
    #expect(content == length && records == max(1, (length + 65_534) / 65_535))
  }

  @Test("of a variable's name that GET_VALUES asks for are looked at by bytes")
  func values() {
    var content: [UInt8] = []
    for name in ["FCGI_MAX_REQS", "FCGI_MAX_REQS\u{301}", String(repeating: "\u{301}\u{316}", count: 100), ""] {
      NameValuePairs.append(Array(name.utf8), [], to: &content)
    }
    var writer = RecordWriter()
    writer.record(.getValues, requestID: 0, content)
    var assembler = RequestAssembler()
    var position = 0
    #expect(assembler.next(writer.bytes.span, &position) == nil)
    // A header, and one pair of the two lengths, 13 bytes and the number.
    let reply = assembler.takeReplies()
    #expect(reply.count > 8 + 2 + 13 && reply.count < 8 + 2 + 13 + 8)
  }

  @Test("that ask for our limits are told what a connection may have under way", arguments: [(1, "1024"), (16, "16")])
  func limits(_ concurrent: Int, _ said: String) {
    var content: [UInt8] = []
    NameValuePairs.append(Array("FCGI_MAX_REQS".utf8), [], to: &content)
    var writer = RecordWriter()
    writer.record(.getValues, requestID: 0, content)
    var assembler = RequestAssembler(limits: RequestLimits(concurrent: concurrent))
    var position = 0
    #expect(assembler.next(writer.bytes.span, &position) == nil)
    #expect(assembler.takeReplies().suffix(said.count).elementsEqual(said.utf8))
  }
}
