// Whether requests should be sent here (`/health`), and whether the process answers at all (`/live`).

import CGI
import HTTPTypes
import JSON
import Postgres

extension Orders {
  /// Which step the schema is at, and whether what it should hold is there. Nothing is locked, so that no lock is in its way.
  static let health = Statement(
    "health", readOnly: true,
    """
    select coalesce(max(number), 0), (
      select bool_and(to_regclass(name) is not null)
      from unnest(array['contact', 'product', 'tag', '"order"', 'order_line', 'order_tag_rel', 'idempotency_key']) name)
    from schema_migration
    """)

  /// The state of the schema by what `health` has come to, and what is wrong with the database if something is.
  package static func state(
    of result: Result<ResultSet, PostgresError>
  ) -> (schema: SchemaState, fault: PostgresError?) {
    switch result {
    case .success(let rows):
      guard rows.rowCount > 0, rows.bytes(0, 1).equals("t") else { return (.missing, nil) }
      return (Schema.migrations.state(at: rows.integer(0, 0)), nil)
    case .failure(.statement(let fault)) where fault.state == .undefinedTable: return (.missing, nil)
    case .failure(let error): return (.unknown, error)
    }
  }

  func health(_ result: Result<ResultSet, PostgresError>) -> Response {
    let (schema, fault) = Self.state(of: result)
    let isStopping = isStopping()
    let isWell = fault == nil && schema == .ok && !isStopping
    let database: StaticString
    if case .wrongEncoding = fault { database = "encoding" } else { database = fault == nil ? "ok" : "unavailable" }
    var response = state(isWell ? "ok" : isStopping ? "draining" : "unavailable", isWell: isWell) { writer in
      writer.raw(#","database":""#)
      writer.raw(database)
      writer.raw(#"","schema":"#)
      writer.string(schema.rawValue)
    }
    if !isWell {
      response.fields.append(HTTPField(name: .retryAfter, value: String(Problem.retryAfter)))
      response.fault = fault.map { "\($0)" } ?? schema.remark
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
