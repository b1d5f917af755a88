// An HTTP answer, and how it is written for a gateway (RFC 3875 §6).

import HTTPTypes

package typealias Status = HTTPResponse.Status

/// An answer: status, header fields, body, and what the door should log about it.
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

    var value: StaticString {
      switch self {
      case .json: "application/json"
      case .problem: "application/problem+json"
      case .openMetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8"
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

  /// Appends the header in CGI's form: `Status:`, the fields, an empty line. What every answer has stands here, so that none goes
  /// out without it, whatever web server is in front of us.
  package func writeHead(to bytes: inout [UInt8], requestID: Span<UInt8>) {
    // Each line brings the end of the one before it. Most answers begin alike.
    if status.code == 200, contentType == .json {
      bytes.append(
        """
        Status: 200 OK\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\nX-Request-Id:\u{20}
        """)
    } else {
      bytes.append("Status: ")
      bytes.append(contentsOf: "\(status.code) \(status.reasonPhrase)".utf8)
      if let contentType {
        bytes.append("\r\nContent-Type: ")
        bytes.append(contentType.value)
      }
      bytes.append("\r\nX-Content-Type-Options: nosniff\r\nX-Request-Id: ")
    }
    requestID.withUnsafeBufferPointer { bytes.append(contentsOf: $0) }
    for field in fields {
      bytes.append("\r\n")
      bytes.append(contentsOf: field.name.rawName.utf8)
      bytes.append(": ")
      bytes.append(contentsOf: field.value.utf8)
    }
    if let entityTag {
      bytes.append("\r\nETag: ")
      entityTag.write(to: &bytes)
    }
    if let timing {
      bytes.append("\r\nServer-Timing: db;dur=")
      bytes.append(milliseconds: timing.database)
      bytes.append(", app;dur=")
      bytes.append(milliseconds: timing.application)
    }
    // A 204 has no Content-Length (RFC 9110 §8.6), and a 304's would be the whole body's.
    if status.code != 204, status.code != 304 {
      bytes.append("\r\nContent-Length: ")
      bytes.append(decimal: UInt64(body.count))
    }
    bytes.append("\r\n\r\n")
  }
}
