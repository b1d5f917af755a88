// The one place where a SQLSTATE becomes a status.

import CGI
import JSON
import Postgres

extension Problem {
  /// What to tell a client whose statement failed.
  init(_ error: PostgresError, of operation: Operation) {
    switch error {
    case .unavailable, .queueFull, .cancelled: self = .unavailable(error)
    case .interrupted:
      self = .unavailable(detail: "The database was told to give this up. Nothing was done.", fault: "\(error)")
    case .wrongEncoding:
      self = .unavailable(detail: "The database can't be used.", fault: "\(error)")
    case .connectionLost where operation.statement.isReadOnly:
      self = .unavailable(detail: "The database went away.", fault: "\(error)")
    case .connectionLost where operation.isOnce:
      // The key makes it safe to ask again, whatever has become of it.
      self = .unavailable(detail: "The database went away. Ask again with the same key.", fault: "\(error)")
    case .connectionLost:
      // Retry-After would be an invitation to write twice.
      self = Problem(
        status: .serviceUnavailable,
        detail: "The database went away while it was writing. Look whether the object is there before trying again.",
        fault: "\(error)")
    case .statement(let server):
      self.init(server, of: operation, fault: "\(error)")
    }
  }

  private init(_ server: PostgresError.ServerFault, of operation: Operation, fault: String) {
    switch server.state {
    case .foreignKeyViolation where operation.statement === operation.reply.resource?.delete:
      self = .conflict(detail: "Something still refers to this \(operation.reply.resource?.rawValue ?? "").")
    case .foreignKeyViolation where !server.isOfOurOwnKey:
      // Of the database's own, in the table that it is about. `order_insert` does not say which.
      self =
        server.table.map(Self.tables.contains) ?? true
        ? .refused(.notFound, "It refers to something that does not exist.", by: server, fault: fault)
        : .conflict(detail: "Something still refers to what would be changed.")
      self.fault = fault
    case .foreignKeyViolation:
      // The statement itself names what is missing; this is a row that went away in the same moment.
      self = .conflict(detail: "Something that this refers to, or that refers to this, has just changed. Try again.")
    case .uniqueViolation: self = Problem(violated: server, of: operation, fault: fault)
    case .checkViolation where server.constraint.map(Self.ownChecks.contains) == true:
      // Whatever was sent has passed them: it is the rest of a row that was there before the constraint.
      self = .internal(fault: "\(fault): the row has been so for longer than the constraint is there")
    case .checkViolation:
      self = .refused(.outOfRange, "The database does not take this.", by: server, fault: fault)
    case .numericValueOutOfRange:
      self = .refused(.outOfRange, "A number is out of the database's range.", by: server, fault: fault)
    case .stringDataRightTruncation:
      self = .refused(.tooLong, "A text is too long for the database.", by: server, fault: fault)
    case .exclusionViolation:
      self = .conflict(detail: "Something that excludes this is there already.")
      self.fault = fault
    case .serializationFailure, .deadlockDetected, .lockNotAvailable:
      self = .unavailable(detail: "Another write was in the way.", fault: fault)
    case .readOnlyTransaction:
      self = .unavailable(detail: "The database takes no writes at the moment.", fault: fault)
    case .queryCanceled:
      self = Problem(status: .gatewayTimeout, detail: "The database took too long.", fault: fault)
    case .notNullViolation where server.table == "idempotency_key" && server.column == "created_at":
      // Of an idempotency key: another request with it has ended just now.
      self = .keyInUse
    case .undefinedTable, .undefinedColumn, .undefinedFunction:
      self = .unavailable(
        detail: "The database has not been set up.", fault: "\(fault): run 'forkloop migrate' on this database")
    default:
      // 08 connection exception, 53 insufficient resources, 57 operator intervention: the server, not the statement.
      if ["08", "53", "57"].contains(server.state.errorClass) {
        self = .unavailable(detail: "The database can't be used at the moment.", fault: fault)
      } else {
        self = .internal(fault: fault)
      }
    }
  }

  /// The schema's constraints on what clients send; it has looked at that before.
  private static let ownChecks: Set<String> = Set(
    [
      "order_name_check", "order_name_not_blank", "order_line_quantity_check", "order_line_price_check",
      "order_line_price_finite",
    ]
      + Resource.rowStatements.flatMap { rows in
        rows.columns.map { "\(rows.table)_\($0)_check" } + ["\(rows.table)_name_not_blank"]
      })

  /// Something has to be the only one of its kind. Of our constraints only the names are the client's business.
  private init(violated server: PostgresError.ServerFault, of operation: Operation, fault: String) {
    switch (server.table, server.constraint) {
    case (let table?, let constraint)
    where constraint == "\(table)_name_key" && Self.tablesOfUniqueNames.contains(table):
      self = .conflict(
        detail: operation.isOnce
          ? "The name is taken, or the first request with this Idempotency-Key has just ended: ask again for its answer."
          : "The name is taken.")
    case (let table?, let constraint) where Self.tables.contains(table) && constraint == "\(table)_pkey":
      // An identity gives ids that are there already, as after an import of rows with theirs.
      let name = table == "order" ? #""order""# : table
      self = .internal(
        fault: "\(fault): the sequence of \(table).id is behind the table, set it: "
          + "select setval(pg_get_serial_sequence('\(name)', 'id'), (select max(id) from \(name)))")
    case (let table?, _) where Self.tables.contains(table):
      // Of the database's own, which we don't know: it is what was sent that is there already.
      self = .conflict(detail: "Something with the same value is there already.")
      self.fault = fault
    default: self = .internal(fault: fault)
    }
  }

  static func `internal`(fault: String) -> Problem {
    Problem(status: .internalServerError, detail: "Something went wrong here.", fault: fault)
  }

  /// The first request with an Idempotency-Key has not ended.
  static let keyInUse = Problem.conflict(
    detail: "The first request with this Idempotency-Key is still under way. Ask again for its answer.")

  /// What the database's own rules keep out, which nobody knows here but the table that they are about.
  private static func refused(
    _ code: Fault.Code, _ detail: String, by server: PostgresError.ServerFault, fault: String
  ) -> Problem {
    let pointer: JSONPointer
    switch server.table {
    case "order_line": pointer = JSONPointer.root.member("order_lines")
    case "order_tag_rel": pointer = JSONPointer.root.member("tag_ids")
    default: pointer = .root
    }
    var problem = Problem.unprocessable([Fault(pointer, code, detail)])
    problem.fault = fault
    return problem
  }

  private static let tables = Set(
    ["order", "order_line", "order_tag_rel"] + Resource.rowStatements.map(\.table))

  private static let tablesOfUniqueNames = Set(
    Resource.allCases.filter(\.description.hasUniqueName).map(\.rawValue))

  /// The database can't be asked.
  static func unavailable(_ error: PostgresError) -> Problem {
    .unavailable(detail: "The database can't be reached at the moment.", fault: "\(error)")
  }

  private static func unavailable(detail: String, fault: String) -> Problem {
    Problem(status: .serviceUnavailable, detail: detail, isTemporary: true, fault: fault)
  }
}

extension PostgresError.ServerFault {
  private static let ownKeys: Set<String> = [
    "order_contact_id_fkey", "order_line_order_id_fkey", "order_line_product_id_fkey", "order_tag_rel_order_id_fkey",
    "order_tag_rel_tag_id_fkey",
  ]

  /// Whether a foreign key is one of the schema's: what is sent has been looked up for it.
  fileprivate var isOfOurOwnKey: Bool { constraint.map(Self.ownKeys.contains) ?? false }
}
