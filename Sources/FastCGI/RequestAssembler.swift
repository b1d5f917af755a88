// Puts requests together from the records of one connection, and answers what is between the web server and us alone.

/// The bounds that a request must keep to.
package struct RequestLimits: Equatable, Sendable {
  /// Bytes of PARAMS.
  package var params: Int
  /// Name-value pairs in PARAMS that are variables of the web server's own. The fields of its client's header, which it passes on
  /// as `HTTP_…`, are as many as the bytes allow.
  package var pairs: Int
  /// Bytes of STDIN that are kept; what goes beyond is read and thrown away.
  package var body: Int
  /// Requests that may be under way on a connection at the same time.
  package var concurrent: Int
  /// Requests beyond these that are taken all the same, and begun when others have been answered. What all of them hold that have
  /// not been begun is never more than `concurrent` of the largest may hold.
  package var held: Int

  package init(params: Int = 64 << 10, pairs: Int = 200, body: Int = 1 << 20, concurrent: Int = 1, held: Int = 0) {
    self.params = params
    self.pairs = pairs
    self.body = body
    self.concurrent = concurrent
    self.held = held
  }
}

/// A request whose records are all in.
package struct AssembledRequest: Equatable, Sendable {
  package let id: UInt16
  package let keepsConnection: Bool
  /// PARAMS, all of them in one piece; `NameValuePairs` walks them. If they were too large, only the few that it takes to answer.
  package let params: [UInt8]
  /// PARAMS were longer or more than allowed, and have been thrown away but for these.
  package var paramsAreTooLarge = false
  package let body: [UInt8]
  package let bodyIsTooLarge: Bool
}

/// The receiving half of a connection as a value: records in, actions out (FastCGI 1.0 §4 to §6).
///
/// Requests may be interleaved, as many as the limits allow (§3.3); GET_VALUES tells the web server whether and how many
/// (FCGI_MPXS_CONNS, FCGI_MAX_REQS). Some more are taken, since not every web server asks, and HAProxy counts one no longer that
/// it has aborted; to have one refused costs it the connection with all others on it (mux_fcgi.c, fcgi_detach). Records are read
/// on whatever is under way, so that nothing waits for what stands behind it.
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
    case malformedParams
    /// BEGIN_REQUEST with the id of a request that is under way.
    case idInUse(UInt16)
  }

  private struct Partial {
    let id: UInt16
    let keepsConnection: Bool
    var params: [UInt8] = []
    var hasParams = false
    /// Once they are too large.
    var kept: KeptPairs?
    var body: [UInt8] = []
    var bodyIsTooLarge = false

    /// Bytes that it holds.
    var size: Int { (kept?.params.count ?? params.count) + body.count }

    mutating func takeParams(_ content: Span<UInt8>, _ limits: RequestLimits) {
      // For a request that has them all: the specification lets such records trail in (§3.3).
      if hasParams { return }
      if kept == nil, params.count + content.count > limits.params { keepLittle() }
      if kept != nil {
        kept?.take(content)
      } else {
        content.withUnsafeBufferPointer { params.append(contentsOf: $0) }
      }
    }

    mutating func takeBody(_ content: Span<UInt8>, _ limits: RequestLimits) {
      if body.count + content.count > limits.body { bodyIsTooLarge = true }
      if bodyIsTooLarge {
        body = []
      } else {
        content.withUnsafeBufferPointer { body.append(contentsOf: $0) }
      }
    }

    /// Its PARAMS are too large.
    mutating func keepLittle() {
      kept = KeptPairs(of: params)
      params = []
    }
  }

  /// A request that has been handed over, and the bytes that it holds until it is begun.
  private struct Serving {
    let id: UInt16
    var size: Int
  }

  /// Small management and BEGIN_REQUEST bodies are gathered; longer ones are cut off here and their rest is ignored.
  private static let longestGathered = 1024

  private let limits: RequestLimits
  private var reader = RecordReader()
  private var header = RecordHeader(.beginRequest, requestID: 0, contentLength: 0)
  private var gathered: [UInt8] = []
  /// Requests of which something is still to come.
  private var partials: [Partial] = []
  /// Where among them the record being read belongs.
  private var current: Int?
  /// Requests that are being served or are to be, whose ids are taken until `finished`.
  private var serving: [Serving] = []

  /// Replies that are ours to give without anybody's help, to be sent when there is a chance.
  package private(set) var replies = RecordWriter()

  package init(limits: RequestLimits = RequestLimits()) { self.limits = limits }

  /// Whether nothing has begun: no record, no request. Only then may an idle connection be closed without loss.
  package var isIdle: Bool { partials.isEmpty && serving.isEmpty && reader.isBetweenRecords }

  /// Whether a request or a record has begun to arrive of which something is still to come.
  package var isReceiving: Bool { !partials.isEmpty || !reader.isBetweenRecords }

  /// The first request that has begun to arrive, or is being served.
  package var firstID: UInt16? { serving.first?.id ?? partials.first?.id }

  /// The variables of the first request that has begun to arrive, once they are whole.
  package var firstParams: [UInt8]? {
    guard let first = partials.first, first.hasParams else { return nil }
    return first.kept?.params ?? first.params
  }

  /// Whether a request was refused: it has been ended already.
  package private(set) var hasRefused = false

  /// Hands over the replies gathered so far.
  package mutating func takeReplies() -> [UInt8] {
    if replies.bytes.isEmpty { return [] }
    defer { replies = RecordWriter() }
    return replies.bytes
  }

  /// Say when a request holds nothing any more.
  package mutating func begun(_ id: UInt16) {
    if let index = serving.firstIndex(where: { $0.id == id }) { serving[index].size = 0 }
  }

  /// Say when the answer to a request has been written.
  package mutating func finished(_ id: UInt16) { serving.removeAll { $0.id == id } }

  /// Works through `input` from `position` on, up to the next action; nil when the input is used up.
  package mutating func next(_ input: Span<UInt8>, _ position: inout Int) -> Action? {
    while let event = reader.next(input, &position) {
      switch event {
      case .unknownVersion(let version):
        return .close(.unknownVersion(version))
      case .begin(let header):
        self.header = header
        current = partials.firstIndex { $0.id == header.requestID }
        gathered.removeAll(keepingCapacity: true)
      case .content(let range):
        take(input.extracting(range))
      case .end:
        if let action = recordEnded() { return action }
      }
    }
    return nil
  }

  private mutating func take(_ content: Span<UInt8>) {
    switch header.kind {
    case .params, .stdin:
      // For a request that was refused, aborted or answered: the specification lets such records trail in (§3.3).
      guard let current else { return }
      if header.kind == .params {
        partials[current].takeParams(content, limits)
      } else {
        partials[current].takeBody(content, limits)
      }
    case .data: break
    default:
      let space = Self.longestGathered - gathered.count
      content.extracting(first: max(0, space)).withUnsafeBufferPointer { gathered.append(contentsOf: $0) }
    }
  }

  private mutating func recordEnded() -> Action? {
    if header.requestID == RecordHeader.nullRequestID {
      if header.kind == .getValues { answerValues() } else { replies.unknownType(header.kind) }
      return nil
    }
    switch header.kind {
    case .beginRequest: return beginRequest()
    case .abortRequest: return abortRequest()
    case .params where header.contentLength == 0:
      if let current { partials[current].hasParams = true }
      return nil
    case .stdin where header.contentLength == 0:
      return current.map { requestComplete(partials.remove(at: $0)) }
    case .params, .stdin:
      keepToSize()
      return nil
    default:
      return nil
    }
  }

  private mutating func beginRequest() -> Action? {
    guard gathered.count >= 8 else { return .close(.malformedRecord(.beginRequest)) }
    let role = UInt16(gathered[0]) << 8 | UInt16(gathered[1])
    let id = header.requestID
    if current != nil || isServing(id) { return .close(.idInUse(id)) }
    if partials.count + serving.count >= limits.concurrent + limits.held {
      refuse(id, limits.concurrent == 1 ? .cannotMultiplex : .overloaded)
    } else if role != Role.responder {
      refuse(id, .unknownRole)
    } else {
      partials.append(Partial(id: id, keepsConnection: gathered[2] & keepConnectionFlag != 0))
    }
    return nil
  }

  private func isServing(_ id: UInt16) -> Bool { serving.contains { $0.id == id } }

  private mutating func refuse(_ id: UInt16, _ status: ProtocolStatus) {
    hasRefused = true
    replies.end(requestID: id, status)
  }

  /// Refuses whoever has come last, where all together hold too much. Looked at when a record has ended, whose bytes count the same
  /// in whatever pieces they have come.
  private mutating func keepToSize() {
    // So many can't.
    if partials.count + serving.count <= limits.concurrent { return }
    var size = partials.reduce(0) { $0 + $1.size } + serving.reduce(0) { $0 + $1.size }
    while size > limits.concurrent * (limits.params + limits.body), let last = partials.popLast() {
      size -= last.size
      refuse(last.id, .overloaded)
    }
  }

  private mutating func abortRequest() -> Action? {
    let id = header.requestID
    if let current {
      partials.remove(at: current)
      replies.end(requestID: id, .requestComplete)
      return .aborted(id: id)
    }
    // One that is being served is ended by whoever serves it.
    return isServing(id) ? .aborted(id: id) : nil
  }

  private mutating func requestComplete(_ partial: consuming Partial) -> Action {
    var walk = NameValuePairs()
    var count = 0
    do {
      let params = partial.params.span
      while count <= limits.pairs, let pair = try walk.next(params) {
        if !params.extracting(pair.name).isFieldName { count += 1 }
      }
    } catch {
      return .close(.malformedParams)
    }
    if partial.kept == nil, count > limits.pairs { partial.keepLittle() }
    serving.append(Serving(id: partial.id, size: partial.size))
    return .request(
      AssembledRequest(
        id: partial.id, keepsConnection: partial.keepsConnection, params: partial.kept?.params ?? partial.params,
        paramsAreTooLarge: partial.kept != nil, body: partial.body, bodyIsTooLarge: partial.bodyIsTooLarge))
  }

  /// GET_VALUES (§4.1): the three variables that the specification names, of those that were asked for.
  private mutating func answerValues() {
    var walk = NameValuePairs()
    var content: [UInt8] = []
    while let pair = try? walk.next(gathered.span) {
      // By bytes: a String's comparison normalizes.
      let name = gathered[pair.name]
      if name.elementsEqual("FCGI_MAX_CONNS".utf8) {
        NameValuePairs.append(name, "1024".utf8, to: &content)
      } else if name.elementsEqual("FCGI_MAX_REQS".utf8) {
        // HAProxy takes it for the most that one connection may have under way (mux_fcgi.c).
        NameValuePairs.append(name, "\(limits.concurrent > 1 ? limits.concurrent : 1024)".utf8, to: &content)
      } else if name.elementsEqual("FCGI_MPXS_CONNS".utf8) {
        NameValuePairs.append(name, (limits.concurrent > 1 ? "1" : "0").utf8, to: &content)
      }
    }
    replies.record(.getValuesResult, requestID: RecordHeader.nullRequestID, content)
  }
}

extension Span<UInt8> {
  /// Whether it begins with `HTTP_`.
  package var isFieldName: Bool {
    count > 5 && self[0] == UInt8(ascii: "H") && self[1] == UInt8(ascii: "T") && self[2] == UInt8(ascii: "T")
      && self[3] == UInt8(ascii: "P") && self[4] == UInt8(ascii: "_")
  }
}
