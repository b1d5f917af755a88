// Answers that say what went wrong: problem details (RFC 9457).

import CGI
import HTTPTypes
import JSON

/// A status with an explanation for the client, and one for our log.
struct Problem: Error {
  let status: Status
  /// For the client. Never SQL, a path, a host or a value that the client did not send.
  let detail: String
  var faults: Faults = []
  /// Whether to ask the client to come back (RFC 9110 §10.2.3).
  var isTemporary = false
  /// For our log.
  var fault: String?
  /// What a client needs to know besides, to do better.
  var fields: [HTTPField] = []

  /// Seconds after which a client may try again.
  static let retryAfter = 1

  static func badRequest(detail: String) -> Problem { Problem(status: .badRequest, detail: detail) }

  static func notFound(detail: String) -> Problem { Problem(status: .notFound, detail: detail) }

  static func methodNotAllowed(_ methods: Methods) -> Problem {
    Problem(status: .methodNotAllowed, detail: "This path takes \(methods.allow.value).")
  }

  static let bodyTooLarge = Problem(
    status: .contentTooLarge, detail: "The body is longer than \(Orders.longestBody) bytes.")

  static let lengthRequired = Problem(
    status: .lengthRequired, detail: "The body's length must be told in advance, by Content-Length.")

  static let notJSON = Problem(
    status: .unsupportedMediaType, detail: "The body must be JSON, with Content-Type: application/json.",
    fields: [HTTPField(name: .accept, value: "application/json")])

  static let notPatch = Problem(
    status: .unsupportedMediaType, detail: "The body must be a merge patch, with Content-Type: \(JSONBody.patchTypes).",
    fields: [JSONBody.acceptPatch])

  static let encoded = Problem(
    status: .unsupportedMediaType, detail: "The body must be sent as it is, without Content-Encoding.",
    fields: [HTTPField(name: .acceptEncoding, value: "identity")])

  static let preconditionFailed = Problem(
    status: .preconditionFailed, detail: "It is no longer what If-Match says. Read it again before changing it.")

  static func unprocessable(_ faults: Faults) -> Problem {
    let told = faults.told.count
    let rest = told < faults.count ? ", of which the first \(told) are told" : ""
    let detail =
      faults.count == 1 ? "There is a fault in the request." : "There are \(faults.count) faults in the request\(rest)."
    return Problem(status: .unprocessableContent, detail: detail, faults: faults)
  }

  static func conflict(detail: String) -> Problem { Problem(status: .conflict, detail: detail) }

  func response(_ writer: inout JSONWriter) -> Response {
    writer.raw(#"{"type":"about:blank","title":"#)
    writer.string(status.reasonPhrase)
    writer.raw(#","status":"#)
    writer.integer(status.code)
    writer.raw(#","detail":"#)
    writer.string(detail)
    if !faults.isEmpty {
      writer.raw(#","errors":["#)
      for (index, fault) in faults.told.enumerated() {
        if index > 0 { writer.raw(",") }
        fault.write(to: &writer)
      }
      writer.raw("]")
    }
    writer.raw("}")
    var response = Response(status, contentType: .problem, body: writer.take())
    response.fields = fields
    if isTemporary { response.fields.append(HTTPField(name: .retryAfter, value: String(Self.retryAfter))) }
    response.fault = fault
    return response
  }
}
