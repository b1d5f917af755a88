// An HTTP answer, and how it is written for a gateway (RFC 3875 §6).

import HTTPTypes

package typealias Status = HTTPResponse.Status

/// An answer: status, header fields, body, and what the server should log about it.
package struct Response {
  package var status: Status
  package var contentType: ContentType?
  /// Fields other than those that are written by themselves: see `writeHead`.
  package var fields: [HTTPField]
  /// Which state of the thing that was asked for the body shows.
  package var entityTag: EntityTag?
  /// What `Server-Timing` says (W3C Server Timing §3), if it is to be said.
  package var timing: Timing?
  package var body: [UInt8]
  /// Whether the body is left out when written, its length still told: the answer to HEAD (RFC 9110 §9.3.2).
  package var omitsBody = false
  /// What went wrong inside, for our log and nobody else's eyes.
  package var fault: String?

  package enum ContentType {
    case json, problem, openMetrics

    /// The whole line: most answers are short, and each piece of a head costs.
    var line: StaticString {
      switch self {
      case .json: "Content-Type: application/json\r\n"
      case .problem: "Content-Type: application/problem+json\r\n"
      case .openMetrics: "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
      }
    }
  }

  /// For how long the database was waited for, and for how long the rest took, in nanoseconds.
  package struct Timing {
    package let database: UInt64
    package let application: UInt64

    package init(database: UInt64, application: UInt64) {
      self.database = database
      self.application = application
    }
  }

  package init(_ status: Status, contentType: ContentType? = nil, fields: [HTTPField] = [], body: [UInt8] = []) {
    self.status = status
    self.contentType = contentType
    self.fields = fields
    self.body = body
  }

  /// Appends the header in CGI's form: the fields, `Status:`, an empty line. What every answer has stands here, so that none goes
  /// out without it, whatever web server is in front of us. The status comes last: to HAProxy before its issue 2865 a `Location`
  /// behind it is a redirect, whatever it says (RFC 3875 §6.2.3 has no order).
  package func writeHead(to bytes: inout [UInt8], requestID: Span<UInt8>) {
    // Most answers begin alike.
    if contentType == .json {
      bytes.append("Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\nX-Request-Id: ")
    } else {
      if let contentType { bytes.append(contentType.line) }
      bytes.append("X-Content-Type-Options: nosniff\r\nX-Request-Id: ")
    }
    requestID.withUnsafeBufferPointer { bytes.append(contentsOf: $0) }
    bytes.append("\r\n")
    for field in fields {
      bytes.append(contentsOf: field.name.rawName.utf8)
      bytes.append(": ")
      bytes.append(contentsOf: field.value.utf8)
      bytes.append("\r\n")
    }
    if let entityTag {
      bytes.append("ETag: ")
      entityTag.write(to: &bytes)
      bytes.append("\r\n")
    }
    if let timing {
      bytes.append("Server-Timing: db;dur=")
      bytes.append(milliseconds: timing.database)
      bytes.append(", app;dur=")
      bytes.append(milliseconds: timing.application)
      bytes.append("\r\n")
    }
    // A 204 has no Content-Length (RFC 9110 §8.6), and a 304's would be the whole body's.
    if status.code != 204, status.code != 304 {
      bytes.append("Content-Length: ")
      bytes.append(decimal: UInt64(body.count))
      bytes.append("\r\n")
    }
    if status.code == 200 {
      bytes.append("Status: 200 OK\r\n\r\n")
    } else {
      bytes.append("Status: ")
      bytes.append(contentsOf: "\(status.code) \(status.reasonPhrase)\r\n\r\n".utf8)
    }
  }
}
