// Answers as byte tables, whole and split at every byte.

import Testing

@testable import LoadGenerator

@Suite struct HTTPAnswerTests {
  struct Example: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let bytes: String
    var status = 200
    var isLast = false
    /// What of it belongs to the next answer.
    var rest = 0
    var toHead = false
  }

  static let examples = [
    Example(testDescription: "with a length", bytes: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    Example(
      testDescription: "with another behind it", bytes: "HTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhelloHTTP/1.1",
      rest: 8),
    Example(
      testDescription: "in chunks",
      bytes:
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
    ),
    Example(testDescription: "without a body", bytes: "HTTP/1.1 204 No Content\r\n\r\n", status: 204),
    Example(
      testDescription: "not modified", bytes: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", status: 304),
    Example(testDescription: "to a HEAD", bytes: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", toHead: true),
    Example(
      testDescription: "the last on its connection",
      bytes: "HTTP/1.1 503 Busy\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n", status: 503, isLast: true),
    Example(
      testDescription: "behind an interim one",
      bytes: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}", status: 201),
    Example(
      testDescription: "of HTTP/1.0", bytes: "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", isLast: true),
    Example(
      testDescription: "with blanks around its length", bytes: "HTTP/1.1 200 OK\r\nContent-Length: \t5 \t\r\n\r\nhello"),
    Example(
      testDescription: "with the same length twice",
      bytes: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
    Example(
      testDescription: "behind an interim one with a length",
      bytes: "HTTP/1.1 103 Hints\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
    Example(testDescription: "with bare line feeds", bytes: "HTTP/1.1 200 OK\nContent-Length: 1\n\nx"),
  ]

  @Test(arguments: examples) func anAnswerEndsWhereItShouldHoweverItArrives(_ example: Example) throws {
    let bytes = Array(example.bytes.utf8)
    for split in 0...bytes.count {
      var answer = HTTPAnswer(toHead: example.toHead)
      var used = 0
      for piece in [bytes[..<split], bytes[split...]] where !answer.isComplete {
        used += try piece.withUnsafeBytes { try answer.take($0) }
      }
      #expect(answer.isComplete, "split at \(split)")
      #expect(answer.status == example.status)
      #expect(answer.isLast == example.isLast)
      #expect(used == bytes.count - example.rest, "split at \(split)")
    }
  }

  @Test func anAnswerWithoutALengthEndsWithItsConnection() throws {
    var answer = HTTPAnswer()
    _ = try Array("HTTP/1.1 200 OK\r\n\r\nhello".utf8).withUnsafeBytes { try answer.take($0) }
    #expect(!answer.isComplete)
    #expect(answer.endsWithConnection)
  }

  @Test(arguments: [
    "FTP/1.1 200 OK\r\n", "HTTP/1.1 2x0 OK\r\n", "HTTP/2 200\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "HTTP/1.1 \r\n", "\r\n", "\n",
    String(repeating: "x", count: 70_000),
  ])
  func whatIsNoAnswerIsRefused(_ text: String) {
    var answer = HTTPAnswer()
    #expect(throws: HTTPAnswer.Malformed.self) {
      _ = try Array(text.utf8).withUnsafeBytes { try answer.take($0) }
    }
  }
}
