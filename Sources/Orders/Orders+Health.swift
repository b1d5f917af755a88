// Whether requests should be sent here (`/health`), and whether the process answers at all (`/live`).

import CGI
import HTTPTypes
import JSON
import Postgres

extension Orders {
  func health(_ result: QueryResult) -> Response {
    let found = DatabaseState(result)
    let fault = found.fault
    let isStopping = isStopping()
    let isWell = found.isWell && !isStopping
    let database: StaticString
    if case .wrongEncoding = fault { database = "encoding" } else { database = fault == nil ? "ok" : "unavailable" }
    var response = state(isWell ? "ok" : isStopping ? "draining" : "unavailable", isWell: isWell) { writer in
      writer.raw(#","database":""#)
      writer.raw(database)
      writer.raw(#"","schema":"#)
      writer.string(found.schema.rawValue)
    }
    if !isWell {
      response.fields.append(HTTPField(name: .retryAfter, value: String(Problem.retryAfter)))
      response.fault = fault.map { "\($0)" } ?? found.remark
    }
    return response
  }

  /// Whatever the database does, and however much there is to do.
  func live() -> Response { state("ok", isWell: true) { _ in } }

  /// Whether a request only asks whether anybody answers.
  package func isLivenessCheck(_ request: borrowing Request) -> Bool { Route(path: request.path, mode: mode) == .live }

  private func state(_ status: StaticString, isWell: Bool, _ more: (inout JSONWriter) -> Void) -> Response {
    writer.raw(#"{"mode":"#)
    writer.string(mode.rawValue)
    writer.raw(#","status":""#)
    writer.raw(status)
    writer.raw(#"""#)
    more(&writer)
    writer.raw(#","version":"#)
    writer.string(Self.version)
    writer.raw("}")
    var response = Response(isWell ? .ok : .serviceUnavailable, contentType: .json, body: writer.take())
    response.entityTag = .digest(of: response.body)
    return response
  }
}

extension SchemaState {
  /// What to do where the schema does not fit the program; nil where it does, or nobody knows.
  package var remark: String? {
    switch self {
    case .ok, .unknown: nil
    case .missing: "the database has no schema: run 'forkloop migrate' on it"
    case .older: "the database's schema is older than this program: run 'forkloop migrate' on it"
    case .newer:
      "the database's schema is newer than this program: use the program that has migrated it, or a newer one"
    }
  }
}
