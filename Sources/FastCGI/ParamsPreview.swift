// A request's variables in bytes that somebody else is going to read: libfcgi, which makes C strings of them.

/// PARAMS as they stand at the beginning of a connection's bytes, from as many of them as have come.
package struct ParamsPreview {
  /// PARAMS, all of them in one piece; `NameValuePairs` walks them.
  package private(set) var params: [UInt8] = []

  package enum Outcome: Equatable {
    case complete
    /// Something is still to come.
    case incomplete
    /// This is no FastCGI.
    case malformed
  }

  package init() {}

  /// Looks at all that has come, from its first byte on.
  package mutating func look(at bytes: Span<UInt8>) -> Outcome {
    params.removeAll(keepingCapacity: true)
    var reader = RecordReader()
    var position = 0
    var id: UInt16?
    var header = RecordHeader(.beginRequest, requestID: 0, contentLength: 0)
    while let event = reader.next(bytes, &position) {
      switch event {
      case .unknownVersion: return .malformed
      case .begin(let next):
        header = next
        if header.kind == .beginRequest, id == nil { id = header.requestID }
      case .content(let range):
        guard header.kind == .params, header.requestID == id else { continue }
        bytes.extracting(range).withUnsafeBufferPointer { params.append(contentsOf: $0) }
      case .end:
        if header.kind == .params, header.requestID == id, header.contentLength == 0 { return .complete }
      }
    }
    return .incomplete
  }
}
