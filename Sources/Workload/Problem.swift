// Answers that say what went wrong: problem details (RFC 9457).

import Application
import CGI
import HTTPTypes
import JSON
import Postgres
import Text

struct Problem: Error {
  let status: Status
  let detail: String
  var faults = Faults()
  var fields: [HTTPField] = []
  /// For our log.
  var fault: String?

  init(_ status: Status, _ detail: String) {
    self.status = status
    self.detail = detail
  }

  static let retryAfter = HTTPField(name: .retryAfter, value: "1")

  static let undecodable = Problem(
    .badRequest, "The query string can't be decoded: it must be percent-encoded UTF-8.")

  static let lengthRequired = Problem(
    .lengthRequired, "The body's length must be told in advance, by Content-Length.")

  static func tooLarge(_ most: Int) -> Problem {
    Problem(.contentTooLarge, "The body is longer than \(most) bytes.")
  }

  static func unprocessable(_ faults: Faults) -> Problem {
    var problem = Problem(.unprocessableContent, "Faults in the query: \(faults.count).")
    problem.faults = faults
    return problem
  }

  /// The database may be there again in a moment, and the server less busy.
  private static func unavailable(_ detail: String, fault: String? = nil) -> Problem {
    var problem = Problem(.serviceUnavailable, detail)
    problem.fields = [retryAfter]
    problem.fault = fault
    return problem
  }

  init(_ refusal: Refusal) {
    switch refusal {
    case .headerTooLarge: self.init(.requestHeaderFieldsTooLarge, "The header is too long.")
    case .busy: self = .unavailable("The server is busy. Try again shortly.")
    case .database(let error): self.init(error)
    case .timedOut: self.init(.gatewayTimeout, "The request took too long and was given up.")
    case .condition: self.init(.preconditionFailed, "A condition does not hold.")
    case .nothingHere: self.init(.notFound, "There is nothing at this path.")
    case .misconfigured(let fault):
      self.init(.internalServerError, "Something went wrong here.")
      self.fault = fault
    }
  }

  private init(_ error: PostgresError) {
    if case .connectionLost = error {
      // Retry-After would be an invitation to write twice.
      self.init(.serviceUnavailable, "The database went away while it was at this.")
      fault = "\(error)"
      return
    }
    guard case .statement(let server) = error else {
      self = .unavailable("The database can't be reached at the moment.", fault: "\(error)")
      return
    }
    if server.state == .queryCanceled {
      self.init(.gatewayTimeout, "The database took too long.")
    } else if ["08", "53", "57"].contains(server.state.errorClass) {
      // Connection exception, insufficient resources, operator intervention: the server, not the statement.
      self = .unavailable("The database can't be used at the moment.")
    } else {
      self.init(.internalServerError, "Something went wrong here.")
    }
    fault = "\(error)"
  }

  func response(_ writer: inout JSONWriter) -> Response {
    writer.raw(#"{"type":"about:blank","title":"#)
    writer.string(status.reasonPhrase)
    writer.raw(#","status":"#)
    writer.integer(status.code)
    writer.raw(#","detail":"#)
    writer.string(detail)
    if !faults.isEmpty {
      writer.raw(#","errors":["#)
      faults.write(to: &writer)
      writer.raw("]")
    }
    writer.raw("}")
    var response = Response(status, contentType: .problem, fields: fields, body: writer.take())
    response.fault = fault
    return response
  }
}

/// What is wrong with a query: the first faults to be told, all of them counted.
struct Faults: Sendable {
  enum Code: String, Sendable {
    case unknown, repeated, malformed
    case outOfRange = "out_of_range"
  }

  struct Fault: Sendable {
    let parameter: String
    let code: Code
    let detail: String
  }

  /// That are told: no answer is to be many times its request.
  private static let most = 20
  /// Of a name that a client has made up, in bytes.
  private static let longestName = 40

  private(set) var told: [Fault] = []
  private(set) var count = 0

  var isEmpty: Bool { count == 0 }

  mutating func report(_ parameter: Plan.Parameter, _ code: Code, _ detail: String) {
    report(parameter.rawValue, code, "\(parameter.rawValue) \(detail).")
  }

  mutating func reportUnknown(_ name: UTF8Text) {
    let isLong = name.count > Self.longestName
    report(isLong ? "\(name.prefix(Self.longestName))…" : name.string, .unknown, "There is no such parameter here.")
  }

  private mutating func report(_ parameter: String, _ code: Code, _ detail: String) {
    count += 1
    if told.count < Self.most { told.append(Fault(parameter: parameter, code: code, detail: detail)) }
  }

  func write(to writer: inout JSONWriter) {
    for (index, fault) in told.enumerated() {
      if index > 0 { writer.raw(",") }
      writer.raw(#"{"parameter":"#)
      writer.string(fault.parameter)
      writer.raw(#","code":"#)
      writer.string(fault.code.rawValue)
      writer.raw(#","detail":"#)
      writer.string(fault.detail)
      writer.raw("}")
    }
  }
}
