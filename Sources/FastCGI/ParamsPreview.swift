// A request in bytes that somebody else is going to read: libfcgi, which makes C strings of its variables, answers no role but as
// if it were its own, and takes a record that it does not expect for a broken connection.

/// A request as it stands at the beginning of a connection's bytes, if it is one that nobody can misunderstand: all of it, of a
/// responder, in BEGIN_REQUEST, PARAMS and STDIN alone.
package struct ParamsPreview {
  /// PARAMS, all of them in one piece; `NameValuePairs` walks them.
  package private(set) var params: [UInt8] = []
  /// The request's; nil if not even that has come.
  package private(set) var requestID: UInt16?

  package enum Outcome: Equatable {
    case complete
    /// Something is still to come.
    case incomplete
    /// There is something else than one such request.
    case other
  }

  package init() {}

  /// Looks at all that has come, from its first byte on.
  package mutating func look(at bytes: Span<UInt8>) -> Outcome {
    params.removeAll(keepingCapacity: true)
    requestID = nil
    var reader = RecordReader()
    var position = 0
    var wanted = RecordKind.beginRequest
    var header = RecordHeader(.beginRequest, requestID: 0, contentLength: 0)
    while let event = reader.next(bytes, &position) {
      switch event {
      case .unknownVersion: return .other
      case .begin(let next):
        guard next.kind == wanted, requestID.map({ $0 == next.requestID }) ?? true else { return .other }
        header = next
      case .content(let range):
        let content = bytes.extracting(range)
        switch header.kind {
        // A role in pieces is nothing to be quick about.
        case .beginRequest:
          guard requestID != nil || content.isRole(Role.responder) else { return .other }
          requestID = header.requestID
        case .params: content.withUnsafeBufferPointer { params.append(contentsOf: $0) }
        default: break
        }
      case .end:
        switch header.kind {
        case .beginRequest:
          guard requestID != nil, header.contentLength >= 8 else { return .other }
          wanted = .params
        case .params where header.contentLength == 0:
          // libfcgi takes no variables at all for a broken connection.
          if params.isEmpty { return .other }
          wanted = .stdin
        case .stdin where header.contentLength == 0: return .complete
        default: break
        }
      }
    }
    return .incomplete
  }
}

extension Span<UInt8> {
  /// Whether a BEGIN_REQUEST that begins so is of this role (§5.1).
  fileprivate func isRole(_ role: UInt16) -> Bool { count >= 2 && UInt16(self[0]) << 8 | UInt16(self[1]) == role }
}
