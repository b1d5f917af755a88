// Writes records: answers, endings and management replies.

/// Bytes to send, gathered so that an answer goes out in one write.
package struct RecordWriter {
  package private(set) var bytes: [UInt8] = []

  package init(capacity: Int = 0) { bytes.reserveCapacity(capacity) }

  /// Begins anew, with the memory that it has unless that is much.
  package mutating func removeAll() { bytes.removeAll(keepingCapacity: bytes.capacity <= 256 << 10) }

  /// One record; more where it takes more to hold the content.
  package mutating func record(_ kind: RecordKind, requestID: UInt16, _ content: some Collection<UInt8>) {
    var rest = content[...]
    repeat {
      let piece = rest.prefix(RecordHeader.longestContent)
      header(kind, requestID: requestID, contentLength: piece.count)
      bytes += piece
      rest = rest.dropFirst(piece.count)
    } while !rest.isEmpty
  }

  /// A whole answer: `head` and `body` as STDOUT in as few records as they fit in, at least one, then END_REQUEST.
  ///
  /// The stream's own closing record (an empty STDOUT, §5.3) is not sent: END_REQUEST closes it, and nginx and Apache
  /// take it so.
  package mutating func answer(requestID: UInt16, head: [UInt8], body: [UInt8]) {
    let total = head.count + body.count
    let records = max(1, (total + RecordHeader.longestContent - 1) / RecordHeader.longestContent)
    bytes.reserveCapacity(bytes.count + total + records * RecordHeader.size + 16)
    var written = 0
    repeat {
      let count = min(total - written, RecordHeader.longestContent)
      header(.stdout, requestID: requestID, contentLength: count)
      let fromHead = max(0, min(head.count - written, count))
      if fromHead > 0 { bytes += head[written..<written + fromHead] }
      let bodyStart = max(0, written - head.count)
      bytes += body[bodyStart..<bodyStart + count - fromHead]
      written += count
    } while written < total
    end(requestID: requestID, .requestComplete)
  }

  /// An empty STDOUT record behind the ending. nginx does not use a connection again that had something to say after
  /// END_REQUEST: the only way to tell it that the connection is about to be closed.
  package mutating func endStream(requestID: UInt16) { header(.stdout, requestID: requestID, contentLength: 0) }

  /// END_REQUEST (§5.5).
  package mutating func end(requestID: UInt16, _ status: ProtocolStatus, applicationStatus: UInt32 = 0) {
    header(.endRequest, requestID: requestID, contentLength: 8)
    append(UInt64(applicationStatus) << 32 | UInt64(status.rawValue) << 24)
  }

  /// UNKNOWN_TYPE (§4.2): the answer to a management record that is not understood.
  package mutating func unknownType(_ kind: RecordKind) {
    record(.unknownType, requestID: RecordHeader.nullRequestID, [kind.rawValue, 0, 0, 0, 0, 0, 0, 0])
  }

  private mutating func header(_ kind: RecordKind, requestID: UInt16, contentLength: Int) {
    append(
      UInt64(RecordHeader.version) << 56 | UInt64(kind.rawValue) << 48 | UInt64(requestID) << 32
        | UInt64(contentLength) << 16)
  }

  /// Eight bytes, the highest first.
  private mutating func append(_ word: UInt64) {
    withUnsafeBytes(of: word.bigEndian) { bytes.append(contentsOf: $0.bindMemory(to: UInt8.self)) }
  }
}
