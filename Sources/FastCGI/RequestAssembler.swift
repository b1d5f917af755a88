// Puts requests together from the records of one connection, and answers what is between the web server and us alone.

/// The bounds that a request must keep to.
package struct RequestLimits: Equatable, Sendable {
  /// Bytes of PARAMS.
  package var params: Int
  /// Name-value pairs in PARAMS.
  package var pairs: Int
  /// Bytes of STDIN that are kept; what goes beyond is read and thrown away.
  package var body: Int

  package init(params: Int = 64 << 10, pairs: Int = 200, body: Int = 1 << 20) {
    self.params = params
    self.pairs = pairs
    self.body = body
  }
}

/// A request whose records are all in.
package struct AssembledRequest: Equatable, Sendable {
  package let id: UInt16
  package let keepsConnection: Bool
  /// PARAMS, all of them in one piece; `NameValuePairs` walks them.
  package let params: [UInt8]
  package let body: [UInt8]
  package let bodyIsTooLarge: Bool
}

/// The receiving half of a connection as a value: records in, actions out (FastCGI 1.0 §4 to §6).
///
/// One request at a time: that is what web servers do, and what GET_VALUES tells them (FCGI_MPXS_CONNS=0).
package struct RequestAssembler {
  package enum Action: Equatable {
    /// Serve this.
    case request(AssembledRequest)
    /// The web server no longer wants the request of this id; it has been ended.
    case aborted(id: UInt16)
    /// Nothing more can be understood or is allowed here: close the connection.
    case close(ProtocolFault)
  }

  package enum ProtocolFault: Equatable, Error, Sendable {
    case unknownVersion(UInt8)
    case malformedRecord(RecordKind)
    case paramsTooLarge
    case tooManyParams
    case malformedParams
  }

  private struct Partial {
    let id: UInt16
    let keepsConnection: Bool
    var params: [UInt8] = []
    var hasParams = false
    var body: [UInt8] = []
    var bodyIsTooLarge = false
  }

  /// Small management and BEGIN_REQUEST bodies are gathered; longer ones are cut off here and their rest is ignored.
  private static let longestGathered = 1024

  private let limits: RequestLimits
  private var reader = RecordReader()
  private var header = RecordHeader(.beginRequest, requestID: 0, contentLength: 0)
  private var gathered: [UInt8] = []
  private var partial: Partial?
  /// The request that is being served, whose id is taken until `finished`.
  private var serving: UInt16?

  /// Replies that are ours to give without anybody's help, to be sent when there is a chance.
  package private(set) var replies = RecordWriter()

  package init(limits: RequestLimits = RequestLimits()) { self.limits = limits }

  /// Whether nothing has begun: no record, no request. Only then may an idle connection be closed without loss.
  package var isIdle: Bool { partial == nil && serving == nil && reader.isBetweenRecords }

  /// Hands over the replies gathered so far.
  package mutating func takeReplies() -> [UInt8] {
    defer { replies = RecordWriter() }
    return replies.bytes
  }

  /// Say when the answer to the request being served has been written.
  package mutating func finished() { serving = nil }

  /// Works through `input` from `position` on, up to the next action; nil when the input is used up.
  package mutating func next(_ input: Span<UInt8>, _ position: inout Int) -> Action? {
    while let event = reader.next(input, &position) {
      switch event {
      case .unknownVersion(let version):
        return .close(.unknownVersion(version))
      case .begin(let header):
        self.header = header
        gathered.removeAll(keepingCapacity: true)
      case .content(let range):
        if let fault = take(input.extracting(range)) { return .close(fault) }
      case .end:
        if let action = recordEnded() { return action }
      }
    }
    return nil
  }

  private mutating func take(_ content: Span<UInt8>) -> ProtocolFault? {
    let isCurrent = partial?.id == header.requestID
    switch header.kind {
    case .params where isCurrent:
      guard (partial?.params.count ?? 0) + content.count <= limits.params else { return .paramsTooLarge }
      if partial?.hasParams == false { content.withUnsafeBufferPointer { partial?.params.append(contentsOf: $0) } }
    case .stdin where isCurrent:
      if partial?.bodyIsTooLarge == false, (partial?.body.count ?? 0) + content.count <= limits.body {
        content.withUnsafeBufferPointer { partial?.body.append(contentsOf: $0) }
      } else {
        partial?.bodyIsTooLarge = true
        partial?.body = []
      }
    case .params, .stdin, .data:
      // For a request that was refused, aborted or answered: the specification lets such records trail in (§3.3).
      break
    default:
      let room = Self.longestGathered - gathered.count
      content.extracting(first: max(0, room)).withUnsafeBufferPointer { gathered.append(contentsOf: $0) }
    }
    return nil
  }

  private mutating func recordEnded() -> Action? {
    if header.requestID == RecordHeader.nullRequestID {
      if header.kind == .getValues { answerValues() } else { replies.unknownType(header.kind) }
      return nil
    }
    switch header.kind {
    case .beginRequest: return beginRequest()
    case .abortRequest: return abortRequest()
    case .params where header.contentLength == 0 && partial?.id == header.requestID:
      partial?.hasParams = true
      return nil
    case .stdin where header.contentLength == 0 && partial?.id == header.requestID:
      return requestComplete()
    default:
      return nil
    }
  }

  private mutating func beginRequest() -> Action? {
    guard gathered.count >= 8 else { return .close(.malformedRecord(.beginRequest)) }
    let role = UInt16(gathered[0]) << 8 | UInt16(gathered[1])
    if partial != nil || serving != nil {
      replies.end(requestID: header.requestID, .cannotMultiplex)
    } else if role != Role.responder {
      replies.end(requestID: header.requestID, .unknownRole)
    } else {
      partial = Partial(id: header.requestID, keepsConnection: gathered[2] & keepConnectionFlag != 0)
    }
    return nil
  }

  private mutating func abortRequest() -> Action? {
    if partial?.id == header.requestID {
      partial = nil
      replies.end(requestID: header.requestID, .requestComplete)
      return .aborted(id: header.requestID)
    }
    // The one being served ends with its answer, whoever still wants it.
    return serving == header.requestID ? .aborted(id: header.requestID) : nil
  }

  private mutating func requestComplete() -> Action? {
    guard let partial else { return nil }
    self.partial = nil
    var walk = NameValuePairs()
    var count = 0
    do {
      while try walk.next(partial.params.span) != nil {
        count += 1
        if count > limits.pairs { return .close(.tooManyParams) }
      }
    } catch {
      return .close(.malformedParams)
    }
    serving = partial.id
    return .request(
      AssembledRequest(
        id: partial.id, keepsConnection: partial.keepsConnection, params: partial.params, body: partial.body,
        bodyIsTooLarge: partial.bodyIsTooLarge))
  }

  /// GET_VALUES (§4.1): the three variables that the specification names, of those that were asked for.
  private mutating func answerValues() {
    var walk = NameValuePairs()
    var content: [UInt8] = []
    while let pair = try? walk.next(gathered.span) {
      let name = Array(gathered[pair.name])
      switch String(decoding: name, as: UTF8.self) {
      case "FCGI_MAX_CONNS", "FCGI_MAX_REQS": NameValuePairs.append(name, "1024".utf8, to: &content)
      case "FCGI_MPXS_CONNS": NameValuePairs.append(name, "0".utf8, to: &content)
      default: break
      }
    }
    replies.record(.getValuesResult, requestID: RecordHeader.nullRequestID, content)
  }
}
