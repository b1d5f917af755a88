// Cuts a stream of bytes into records, wherever the stream itself was cut.

/// A reader that holds at most one record's header: content is handed on in the pieces in which it came.
package struct RecordReader {
  package enum Event: Equatable {
    /// A record begins.
    case begin(RecordHeader)
    /// A piece of its content: where it stands in the input.
    case content(Range<Int>)
    /// The record is complete, padding and all.
    case end
    /// The peer speaks another version, or something else altogether. Nothing after it can be understood.
    case unknownVersion(UInt8)
  }

  private var header: InlineArray<8, UInt8> = .init(repeating: 0)
  private var headerCount = 0
  /// Whether a record has begun, and what of it is still to come.
  private var isInRecord = false
  private var contentLeft = 0
  private var paddingLeft = 0

  package init() {}

  /// Whether the stream stands between two records.
  package var isBetweenRecords: Bool { !isInRecord && headerCount == 0 }

  /// The next event of `input` from `position` on, which is moved behind it; nil when the input is used up.
  package mutating func next(_ input: Span<UInt8>, _ position: inout Int) -> Event? {
    guard isInRecord else { return nextHeader(input, &position) }
    if contentLeft > 0 {
      let start = position
      position += min(contentLeft, input.count - position)
      contentLeft -= position - start
      return position == start ? nil : .content(start..<position)
    }
    let count = min(paddingLeft, input.count - position)
    position += count
    paddingLeft -= count
    isInRecord = paddingLeft > 0
    return isInRecord ? nil : .end
  }

  private mutating func nextHeader(_ input: Span<UInt8>, _ position: inout Int) -> Event? {
    // Nearly always it comes in one piece.
    if headerCount == 0, input.count - position >= RecordHeader.size, input[position] == RecordHeader.version {
      position += RecordHeader.size
      return begin(input.extracting(position - RecordHeader.size..<position))
    }
    while headerCount < RecordHeader.size {
      guard position < input.count else { return nil }
      header[headerCount] = input[position]
      headerCount += 1
      position += 1
      // Said at once: no need to wait for seven more bytes of what is no FastCGI.
      if headerCount == 1, header[0] != RecordHeader.version {
        headerCount = 0
        return .unknownVersion(header[0])
      }
    }
    headerCount = 0
    let whole = header
    return begin(whole.span)
  }

  private mutating func begin(_ bytes: Span<UInt8>) -> Event {
    guard let header = RecordHeader(bytes) else { return .unknownVersion(bytes[0]) }
    isInRecord = true
    contentLeft = Int(header.contentLength)
    paddingLeft = Int(header.paddingLength)
    return .begin(header)
  }
}
