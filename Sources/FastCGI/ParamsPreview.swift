// A request's variables in bytes that somebody else is going to read: libfcgi, which makes C strings of them.

/// PARAMS as they stand at the beginning of a connection's bytes, from as many of them as have come.
package struct ParamsPreview {
  /// PARAMS, all of them in one piece; `NameValuePairs` walks them.
  package private(set) var params: [UInt8] = []

  package enum Outcome: Equatable {
    case complete
    /// Something is still to come.
    case incomplete
    /// There is something else than the header of one request.
    case other
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
      case .unknownVersion: return .other
      case .begin(let next):
        guard id == nil ? next.kind == .beginRequest : next.kind == .params && next.requestID == id else {
          return .other
        }
        header = next
        id = next.requestID
      case .content(let range):
        guard header.kind == .params else { continue }
        bytes.extracting(range).withUnsafeBufferPointer { params.append(contentsOf: $0) }
      case .end:
        if header.kind == .params, header.contentLength == 0 { return .complete }
      }
    }
    return .incomplete
  }
}
