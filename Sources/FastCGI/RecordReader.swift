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

  private enum State {
    case header
    case content(left: Int, padding: Int)
    case padding(left: Int)
  }

  private var state = State.header
  private var header: InlineArray<8, UInt8> = .init(repeating: 0)
  private var headerCount = 0

  package init() {}

  /// Whether the stream stands between two records.
  package var isBetweenRecords: Bool {
    if case .header = state { headerCount == 0 } else { false }
  }

  /// The next event of `input` from `position` on, which is moved behind it; nil when the input is used up.
  package mutating func next(_ input: Span<UInt8>, _ position: inout Int) -> Event? {
    switch state {
    case .header:
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
      guard let parsed = RecordHeader(header.span) else { return .unknownVersion(header[0]) }
      state = .content(left: Int(parsed.contentLength), padding: Int(parsed.paddingLength))
      return .begin(parsed)

    case .content(let left, let padding):
      if left == 0 {
        state = .padding(left: padding)
        return next(input, &position)
      }
      let count = min(left, input.count - position)
      guard count > 0 else { return nil }
      defer { position += count }
      state = .content(left: left - count, padding: padding)
      return .content(position..<position + count)

    case .padding(let left):
      let count = min(left, input.count - position)
      position += count
      guard count == left else {
        state = .padding(left: left - count)
        return nil
      }
      state = .header
      return .end
    }
  }
}
