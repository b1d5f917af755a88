// An HTTP answer, and how it is written for a gateway (RFC 3875 §6).

import HTTPTypes

package typealias Status = HTTPResponse.Status

/// An answer: status, header fields, body, and what the door should log about it.
package struct Response {
  package var status: Status
  package var contentType: ContentType?
  /// Fields other than Content-Type and Content-Length.
  package var fields: [HTTPField]
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

  package init(_ status: Status, contentType: ContentType? = nil, fields: [HTTPField] = [], body: [UInt8] = []) {
    self.status = status
    self.contentType = contentType
    self.fields = fields
    self.body = body
  }

  /// Appends the header in CGI's form: `Status:`, the fields, an empty line.
  package func writeHead(to bytes: inout [UInt8]) {
    if status.code == 200 {
      bytes.append("Status: 200 OK\r\n")
    } else {
      bytes.append("Status: ")
      bytes.append(contentsOf: "\(status.code) \(status.reasonPhrase)\r\n".utf8)
    }
    if let contentType {
      bytes.append("Content-Type: ")
      bytes.append(contentType.value)
      bytes.append("\r\n")
    }
    for field in fields {
      bytes.append(contentsOf: field.name.rawName.utf8)
      bytes.append(": ")
      bytes.append(contentsOf: field.value.utf8)
      bytes.append("\r\n")
    }
    // A 204 has no Content-Length (RFC 9110 §8.6).
    if status.code != 204 {
      bytes.append("Content-Length: ")
      bytes.append(contentsOf: String(body.count).utf8)
      bytes.append("\r\n")
    }
    bytes.append("\r\n")
  }
}

extension [UInt8] {
  fileprivate mutating func append(_ literal: StaticString) {
    append(contentsOf: UnsafeBufferPointer(start: literal.utf8Start, count: literal.utf8CodeUnitCount))
  }
}
