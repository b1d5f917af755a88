// What CGI variables and a body mean as HTTP (RFC 3875 §4.1). A server feeds it name-value pairs as they come; the application
// reads it.

import HTTPTypes
import Text

/// An HTTP request as a gateway hands it on. The bytes of its variables are kept once, in the order they came.
package struct Request {
  /// Method, target and body as HTTP has them.
  package private(set) var method: HTTPRequest.Method = .get
  /// Whether there is a method: what comes without one is nothing, and no GET.
  package private(set) var hasMethod = false
  /// What CONTENT_LENGTH says; nil if it is absent, empty or no number, as some servers' −1 for a chunked body.
  package private(set) var contentLength: Int?
  /// Nobody can say how long the body is, nor where it ends.
  package var lacksLength = false
  package var body: [UInt8] = []
  /// The body was longer than its reader allows and has been thrown away.
  package var bodyIsTooLarge = false

  private var storage: [UInt8]
  /// Where in the storage each variable's value stands; method and length are parsed at once.
  private var places = Places(repeating: Place())
  private typealias Places = InlineArray<10, Place>
  /// Which fields of the client's header have come, a bit each, and of those that protect a request which without a value.
  private var present: UInt32 = 0
  private var blank: UInt32 = 0
  /// Whether there is a field that protects the request from being carried out, of whatever value.
  package private(set) var hasGuards = false
  /// Whether the body is in a form that has to be decoded first (`Content-Encoding`, RFC 9110 §8.4).
  package private(set) var isEncoded = false

  /// A range, in half the space: requests are many, and go from hand to hand.
  private struct Place {
    var start: UInt32 = 0
    var end: UInt32 = 0
    var range: Range<Int> { Int(start)..<Int(end) }

    init() {}
    /// What lies beyond 4 GiB is cut off.
    init(_ range: Range<Int>) {
      start = UInt32(clamping: range.lowerBound)
      end = UInt32(clamping: range.upperBound)
    }
  }

  /// Of a method's name, in bytes; the longest that is registered has 17.
  private static let longestMethod = 32

  /// An empty request. `storage` are bytes that `set(_:to:)` will point into.
  package init(storage: [UInt8] = []) { self.storage = storage }

  /// As new, but with the memory that it has.
  package mutating func reset() {
    method = .get
    hasMethod = false
    contentLength = nil
    lacksLength = false
    body = []
    bodyIsTooLarge = false
    storage.removeAll(keepingCapacity: true)
    places = Places(repeating: Place())
    present = 0
    blank = 0
    hasGuards = false
    isEncoded = false
  }

  /// The path below the mount, decoded: of SCRIPT_NAME and PATH_INFO together, whatever the gateway takes for the script.
  package var path: Span<UInt8> { storage.span.extracting(range(.pathInfo)) }
  /// Where the application is mounted, decoded: what stands before its paths (RFC 3875 §4.1.13); empty at the root.
  package var mount: Span<UInt8> { storage.span.extracting(range(.scriptName)) }
  /// QUERY_STRING, as it was sent.
  package var query: Span<UInt8> { storage.span.extracting(range(.queryString)) }
  package var contentType: Span<UInt8> { storage.span.extracting(range(.contentType)) }
  /// The client's id of the request if it is 1 to 128 letters, digits, `.`, `_` or `-`; else the gateway's; else one of our own.
  package var requestID: Span<UInt8> { storage.span.extracting(range(.requestID)) }
  /// `traceparent` (W3C Trace Context §3.2).
  package var traceParent: Span<UInt8> { storage.span.extracting(range(.traceParent)) }
  /// `If-Match` and `If-None-Match` (RFC 9110 §13.1); empty where they were not sent.
  package var ifMatch: Span<UInt8> { storage.span.extracting(range(.ifMatch)) }
  package var ifNoneMatch: Span<UInt8> { storage.span.extracting(range(.ifNoneMatch)) }
  /// `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header).
  package var idempotencyKey: Span<UInt8> { storage.span.extracting(range(.idempotencyKey)) }

  /// A field that is there to keep something from being done, and can't, as it says nothing: its client had a value in mind
  /// that was empty. Whoever takes it for one that is absent does what must not be done.
  package var emptyGuard: StaticString? {
    if blank != 0 { return Variable.guards.first { blank & $0.bit != 0 }?.field }
    if !ifMatch.isEmpty, EntityTag.isEmpty(ifMatch) { return Variable.ifMatch.field }
    if !ifNoneMatch.isEmpty, EntityTag.isEmpty(ifNoneMatch) { return Variable.ifNoneMatch.field }
    return nil
  }

  /// Takes a variable whose value stands at `value` in the storage. Unknown names are passed over.
  package mutating func set(_ name: Span<UInt8>, to value: Range<Int>) {
    guard let variable = Variable(name) else { return }
    switch variable {
    case .requestMethod:
      method = Self.method(storage.span.extracting(value))
      hasMethod = !value.isEmpty
    case .contentLength: contentLength = Self.length(storage.span.extracting(value))
    case .contentEncoding:
      if isCoding(value) { isEncoded = true }
    case .scriptName, .pathInfo, .queryString, .contentType, .gatewayID: places[variable.rawValue] = Place(value)
    case .ifModifiedSince, .ifUnmodifiedSince: takeGuard(variable, value)
    case .ifMatch, .ifNoneMatch, .idempotencyKey:
      takeGuard(variable, value)
      takeField(variable, value)
    case .requestID, .traceParent: takeField(variable, value)
    }
  }

  /// A field that comes in several lines is one list (RFC 9110 §5.3).
  private mutating func takeField(_ variable: Variable, _ value: Range<Int>) {
    guard present & variable.bit != 0 else {
      present |= variable.bit
      places[variable.rawValue] = Place(value)
      return
    }
    let (start, earlier) = (storage.count, storage[range(variable)])
    storage += earlier
    storage.append(", ")
    storage.append(contentsOf: storage[value])
    places[variable.rawValue] = Place(start..<storage.count)
  }

  private mutating func takeGuard(_ variable: Variable, _ value: Range<Int>) {
    hasGuards = true
    if isBlank(value) { blank |= variable.bit }
  }

  private func isBlank(_ value: Range<Int>) -> Bool { storage.span.extracting(value).trimmed.isEmpty }

  private func isCoding(_ value: Range<Int>) -> Bool {
    let name = storage.span.extracting(value).trimmed
    return !name.isEmpty && !name.equalsIgnoringCase("identity")
  }

  /// Takes a copy of a variable.
  package mutating func append(_ name: Span<UInt8>, _ value: Span<UInt8>) {
    guard Variable(name) != nil else { return }
    let start = storage.count
    value.withUnsafeBufferPointer { storage.append(contentsOf: $0) }
    set(name, to: start..<storage.count)
  }

  /// Call when all variables are in. `roots` are the first segments of the application's paths, each with its slash: where one of
  /// them begins, the mount ends. None are asked for where there is no SCRIPT_NAME.
  package mutating func finish(roots: @autoclosure () -> [String] = []) {
    splitPath(roots)
    if !hasPlainID { takeOtherID() }
  }

  private mutating func splitPath(_ roots: () -> [String]) {
    let (script, info) = (range(.scriptName), range(.pathInfo))
    if script.isEmpty { return }
    let start = storage.count
    // The whole path may also stand in both: nginx's own fastcgi_params, and a PATH_INFO beside them.
    if storage[script] != storage[info] { storage.append(contentsOf: storage[script]) }
    let scriptEnd = storage.count
    storage.append(contentsOf: storage[info])
    let mountEnd = Self.mountEnd(storage.span, start, scriptEnd, roots())
    var places = places
    places[Variable.scriptName.rawValue] = Place(start..<mountEnd)
    places[Variable.pathInfo.rawValue] = Place(mountEnd..<storage.count)
    self.places = places
  }

  /// Where the first of `roots` begins: behind the script, or in it. Where none does, nothing is mounted.
  private static func mountEnd(_ bytes: Span<UInt8>, _ start: Int, _ scriptEnd: Int, _ roots: [String]) -> Int {
    if roots.contains(where: { bytes.extracting(droppingFirst: scriptEnd).begins(withSegment: $0) }) {
      return scriptEnd
    }
    for at in start..<scriptEnd where bytes[at] == UInt8(ascii: "/") {
      if roots.contains(where: { bytes.extracting(droppingFirst: at).begins(withSegment: $0) }) { return at }
    }
    return start
  }

  private var hasPlainID: Bool { requestID.isPlainWord }
  private var hasGatewayID: Bool {
    let id = storage.span.extracting(range(.gatewayID))
    return id.isVisible && id.count <= Span<UInt8>.longestWord
  }

  /// An id that no other request has.
  package static func newID() -> [UInt8] {
    var id: [UInt8] = []
    for _ in 0..<2 { id.append(hexadecimal: .random(in: 0 ... .max)) }
    return id
  }

  private mutating func takeOtherID() {
    if hasGatewayID {
      places[Variable.requestID.rawValue] = places[Variable.gatewayID.rawValue]
      return
    }
    let start = storage.count
    storage += Self.newID()
    places[Variable.requestID.rawValue] = Place(start..<storage.count)
  }

  private func range(_ variable: Variable) -> Range<Int> { places[variable.rawValue].range }

  private static func method(_ text: Span<UInt8>) -> HTTPRequest.Method {
    if text.equals("GET") { return .get }
    if text.equals("POST") { return .post }
    // `Method` takes ASCII alone, of which a String's comparison is one of bytes.
    let method = text.count <= longestMethod ? HTTPRequest.Method(text.text.string) : nil
    return method ?? HTTPRequest.Method("INVALID") ?? .trace
  }

  /// A number that is too large for anybody is the largest that there is.
  private static func length(_ text: Span<UInt8>) -> Int? {
    guard !text.isEmpty, text.indices.allSatisfy({ text[$0] &- 0x30 < 10 }) else { return nil }
    return text.decimal.map { Int($0) } ?? .max
  }
}

/// The variables that are read, of the two dozen that a web server sends.
private enum Variable: Int {
  case scriptName, pathInfo, queryString, contentType, gatewayID
  case requestID, traceParent, ifMatch, ifNoneMatch, idempotencyKey
  // Of these nothing is kept but what they come to.
  case requestMethod, contentLength, contentEncoding, ifModifiedSince, ifUnmodifiedSince

  init?(_ name: Span<UInt8>) {
    switch name.count {
    case 9 where name.equals("PATH_INFO"): self = .pathInfo
    // Apache's mod_unique_id, and nginx's $request_id by the name that it is mostly given.
    case 9 where name.equals("UNIQUE_ID"): self = .gatewayID
    case 10 where name.equals("REQUEST_ID"): self = .gatewayID
    case 11 where name.equals("SCRIPT_NAME"): self = .scriptName
    case 12 where name.equals("QUERY_STRING"): self = .queryString
    case 12 where name.equals("CONTENT_TYPE"): self = .contentType
    case 13 where name.equals("HTTP_IF_MATCH"): self = .ifMatch
    case 14 where name.equals("REQUEST_METHOD"): self = .requestMethod
    case 14 where name.equals("CONTENT_LENGTH"): self = .contentLength
    case 16 where name.equals("HTTP_TRACEPARENT"): self = .traceParent
    case 17 where name.equals("HTTP_X_REQUEST_ID"): self = .requestID
    case 18 where name.equals("HTTP_IF_NONE_MATCH"): self = .ifNoneMatch
    case 20 where name.equals("HTTP_IDEMPOTENCY_KEY"): self = .idempotencyKey
    case 21 where name.equals("HTTP_CONTENT_ENCODING"): self = .contentEncoding
    case 22 where name.equals("HTTP_IF_MODIFIED_SINCE"): self = .ifModifiedSince
    case 24 where name.equals("HTTP_IF_UNMODIFIED_SINCE"): self = .ifUnmodifiedSince
    default: return nil
    }
  }

  var bit: UInt32 { 1 << UInt32(rawValue) }

  /// The fields that protect a request, by the names that their clients know.
  static let guards: [Variable] = [.ifMatch, .ifNoneMatch, .ifModifiedSince, .ifUnmodifiedSince, .idempotencyKey]

  var field: StaticString? {
    switch self {
    case .ifMatch: "If-Match"
    case .ifNoneMatch: "If-None-Match"
    case .ifModifiedSince: "If-Modified-Since"
    case .ifUnmodifiedSince: "If-Unmodified-Since"
    case .idempotencyKey: "Idempotency-Key"
    default: nil
    }
  }
}
