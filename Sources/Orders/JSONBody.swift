// From a request's body to a JSON value, or to the status that says why not.

import CGI
import HTTPTypes
import JSON

enum JSONBody {
  /// What a PATCH takes: a merge patch (RFC 7396), by whichever of its names.
  static let patchTypes = "application/merge-patch+json, application/json"

  static var acceptPatch: HTTPField { HTTPField(name: .acceptPatch, value: patchTypes) }

  /// The body's value: 415 if it is not sent as JSON, 411 if nobody knows its length, 413 if it is too long, 400 if it is not all
  /// there or no JSON.
  static func value(of request: borrowing Request) -> Result<JSONValue, Problem> {
    let isPatch = request.method == .patch
    guard isJSON(request.contentType, isPatch: isPatch) else { return .failure(isPatch ? .notPatch : .notJSON) }
    if request.isEncoded { return .failure(.encoded) }
    if request.lacksLength { return .failure(.lengthRequired) }
    if request.bodyIsTooLarge || request.body.count > Orders.longestBody { return .failure(.bodyTooLarge) }
    if let length = request.contentLength {
      if length > Orders.longestBody { return .failure(.bodyTooLarge) }
      guard request.body.count == length else {
        return .failure(.badRequest(detail: "The body is not as long as its Content-Length says."))
      }
    }
    do throws(JSONSyntaxError) {
      return .success(try JSONReader.read(request.body))
    } catch {
      return .failure(.badRequest(detail: "The body is not JSON: \(error)."))
    }
  }

  /// `application/json` or `application/…+json`, whatever parameters follow (RFC 9110 §8.3, RFC 6839 §3.1). Of patches there
  /// are several kinds, which all end so.
  private static func isJSON(_ type: Span<UInt8>, isPatch: Bool) -> Bool {
    var end = 0
    while end < type.count, type[end] != UInt8(ascii: ";") { end += 1 }
    while end > 0, type[end - 1] == UInt8(ascii: " ") || type[end - 1] == UInt8(ascii: "\t") { end -= 1 }
    let essence = type.extracting(first: end)
    if essence.equalsIgnoringCase("application/json") { return true }
    if isPatch { return essence.equalsIgnoringCase("application/merge-patch+json") }
    return essence.extracting(first: 12).equalsIgnoringCase("application/")
      && essence.count > 17 && essence.extracting(last: 5).equalsIgnoringCase("+json")
  }
}
