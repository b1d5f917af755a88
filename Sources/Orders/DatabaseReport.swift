// What a start and `--check` have to say of the database, before anybody is served from it.

import Postgres

/// What was found out about a database.
package struct DatabaseReport: Equatable, Sendable {
  /// Why nothing can be done with it at all.
  package var refusal: String?
  /// With what it refuses to be used with these settings, until somebody does something about it.
  package var objection: String?
  /// What is not as it should be, a line each.
  package var remarks: [String] = []

  package init() {}

  /// Asks the database. Waits for it; of one that does not answer nothing is said.
  /// `needsSchema`: whether the API is what is served from it.
  package init(of info: ConnectionInfo, _ options: Connection.Options, needsSchema: Bool = true) {
    var options = options
    if let fault = info.certificateFault() {
      objection = "the database's settings can't be used: \(fault)"
      return
    }
    do throws(PostgresError) {
      let connection = try Connection.connect(to: info, &options)
      if needsSchema { try lookAtSchema(on: connection) }
      let missing = try SessionSettings.missing(on: connection, to: info)
      if !missing.isEmpty {
        remarks.append(
          "a pooler lets nothing be set, and the role has not set \(missing.joined(separator: ", ")): run 'forkloop migrate'"
        )
      }
      if let limit = try SessionSettings.shorterLimit(on: connection, to: info, options) {
        remarks.append(
          """
          a pooler lets nothing be set, and the role's statement_timeout is \(limit) ms: it holds, and not the longer \
          \(options.statementTimeout) ms (FORKLOOP_STATEMENT_TIMEOUT); alter role … set statement_timeout
          """)
      }
    } catch {
      if case .wrongEncoding = error {
        refusal = "\(error)"
      } else if Connection.isRefused(error, by: info, options) {
        objection = "the database refuses these settings: \(error)"
      }
    }
  }

  private mutating func lookAtSchema(on connection: Connection) throws(PostgresError) {
    let state = DatabaseState(connection.executeUnprepared(Orders.health, Parameters()))
    if state.schema == .missing, let schemas = try Self.unusableSchemas(on: connection) {
      remarks.append(
        "the role may not use the schema \(schemas): run 'forkloop setup', or grant usage on schema \(schemas)")
    } else if let remark = state.remark {
      remarks.append(remark)
    }
    if case .statement = state.fault, let fault = state.fault {
      remarks.append("the schema can't be looked at: \(fault)")
    }
  }

  private static func unusableSchemas(on connection: Connection) throws(PostgresError) -> String? {
    let rows = try connection.executeUnprepared(Orders.unusableSchemas, Parameters()).get()
    return rows.rowCount > 0 && !rows.isNull(0, 0) ? rows.string(0, 0) : nil
  }
}
