// FastCGI 1.0 records as values. Nothing in this target does I/O: bytes go in, events and bytes come out.

/// A record's first eight bytes (FastCGI 1.0 §3.3).
package struct RecordHeader: Equatable, Sendable {
  package static let size = 8
  package static let version: UInt8 = 1
  /// The id of management records (§3.3).
  package static let nullRequestID: UInt16 = 0
  /// The most content a record can have.
  package static let longestContent = 65_535

  package var kind: RecordKind
  package var requestID: UInt16
  package var contentLength: UInt16
  package var paddingLength: UInt8

  package init(_ kind: RecordKind, requestID: UInt16, contentLength: UInt16, paddingLength: UInt8 = 0) {
    self.kind = kind
    self.requestID = requestID
    self.contentLength = contentLength
    self.paddingLength = paddingLength
  }

  /// From eight bytes; nil if they are of another version.
  package init?(_ bytes: Span<UInt8>) {
    guard bytes.count == Self.size, bytes[0] == Self.version else { return nil }
    kind = RecordKind(rawValue: bytes[1])
    requestID = UInt16(bytes[2]) << 8 | UInt16(bytes[3])
    contentLength = UInt16(bytes[4]) << 8 | UInt16(bytes[5])
    paddingLength = bytes[6]
  }
}

/// A record's type (§3.3, §8). Any byte is one: an unknown type has its own answer.
package struct RecordKind: RawRepresentable, Equatable, Sendable {
  package let rawValue: UInt8
  package init(rawValue: UInt8) { self.rawValue = rawValue }

  package static let beginRequest = RecordKind(rawValue: 1)
  package static let abortRequest = RecordKind(rawValue: 2)
  package static let endRequest = RecordKind(rawValue: 3)
  package static let params = RecordKind(rawValue: 4)
  package static let stdin = RecordKind(rawValue: 5)
  package static let stdout = RecordKind(rawValue: 6)
  package static let stderr = RecordKind(rawValue: 7)
  package static let data = RecordKind(rawValue: 8)
  package static let getValues = RecordKind(rawValue: 9)
  package static let getValuesResult = RecordKind(rawValue: 10)
  package static let unknownType = RecordKind(rawValue: 11)
}

/// What a web server wants of an application (§5.1, §6). Only responders are built here.
package enum Role { package static let responder: UInt16 = 1 }

/// FCGI_KEEP_CONN: the web server keeps the connection after the request (§5.1).
package let keepConnectionFlag: UInt8 = 1

/// How a request ended, for the protocol (§5.5).
package enum ProtocolStatus: UInt8, Sendable {
  case requestComplete = 0
  case cannotMultiplex = 1
  case overloaded = 2
  case unknownRole = 3
}
