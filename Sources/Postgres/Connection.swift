// One libpq connection, with no opinion on waiting: `Connection+Blocking` waits in libpq, `Connection+Pipeline` leaves
// the waiting to an event loop.

import CPostgres
import Glibc

/// A connection to the server. Owns the `PGconn`.
///
/// Not Sendable: one thread owns it. It holds what libpq holds and nothing else.
package final class Connection {
  let handle: OpaquePointer
  /// Who waits for what is executed, while somebody looks after that; and what has become of it.
  var client: ClientWatch?
  var departure = Departure.none

  /// What every connection of ours asks for beside where to go.
  package struct Options: Equatable, Sendable {
    /// Shown in pg_stat_activity.
    package var applicationName: String
    /// The server's own limit for each statement, in milliseconds (statement_timeout).
    package var statementTimeout: Int
    /// How long to wait for a connection to each host, in seconds, where the user has said nothing.
    package var connectTimeout: Int
    /// Whether statements are prepared once and executed by their names.
    package var prepares: Bool
    /// Whether `SessionSettings` go along as a startup parameter. Poolers refuse it.
    package var sendsSettings = true

    package static let defaultStatementTimeout = 15_000

    package init(
      applicationName: String, statementTimeout: Int = defaultStatementTimeout, connectTimeout: Int = 3,
      prepares: Bool = true
    ) {
      self.applicationName = applicationName
      self.statementTimeout = statementTimeout
      self.connectTimeout = connectTimeout
      self.prepares = prepares
    }

    /// A host that has vanished without a word is given up within half a minute, where TCP alone would wait for hours.
    /// What the user has said in a URL, a `PG*` variable or the service file stays.
    func applied(to info: ConnectionInfo) -> ConnectionInfo {
      let said = info.effective()
      var info = info
      info.keywords["fallback_application_name"] = applicationName
      info.keywords["client_encoding"] = "UTF8"
      let defaults = [
        "connect_timeout": String(connectTimeout), "keepalives_idle": "10", "keepalives_interval": "5",
        "keepalives_count": "3", "tcp_user_timeout": "25000",
      ]
      for (name, value) in defaults where said[name] == nil { info.keywords[name] = value }
      if sendsSettings {
        info.keywords["options"] = SessionSettings.startupOptions(
          statementTimeout: statementTimeout, around: said["options"])
      }
      return info
    }

    /// Whether the user says in `options` how long a statement may take.
    package static func sayTimeLimit(_ info: ConnectionInfo) -> Bool {
      info.effective()["options"]?.contains("statement_timeout") ?? false
    }
  }

  init(owning handle: OpaquePointer) {
    self.handle = handle
    // Notices are for a person at a terminal.
    PQsetNoticeProcessor(handle, { _, _ in }, nil)
  }

  deinit { PQfinish(handle) }

  /// Lets go of notifications, which libpq keeps for whoever asks (LISTEN): nobody here does, but a pooler's session or a trigger
  /// may have listened.
  func dropNotifications() { while let notification = PQnotifies(handle) { PQfreemem(notification) } }

  /// The socket to watch; it can change while connecting.
  package var socket: Int32 { PQsocket(handle) }

  /// Whether libpq still believes in the connection.
  package var isAlive: Bool { departure != .stuck && PQstatus(handle) == CONNECTION_OK }

  /// Whether the server is one of those that we know the SQL of: 13 or later.
  package var serverVersion: Int { Int(PQserverVersion(handle)) }

  /// What is wrong with the database's encoding; nil if nothing is. Every text that we write is UTF-8, and any character may be in
  /// it; SQL_ASCII knows no characters and gives back what nobody can read. A pooler that does not tell is believed.
  package var encodingFault: PostgresError? {
    guard let name = PQparameterStatus(handle, "server_encoding"), strcmp(name, "UTF8") != 0 else { return nil }
    return .wrongEncoding(String(cString: name))
  }

  /// libpq's last message, on one line.
  var message: String { Self.oneLine(PQerrorMessage(handle)) }

  static func oneLine(_ text: UnsafePointer<CChar>?) -> String {
    guard let text else { return "" }
    let lines = String(cString: text).unicodeScalars.split { $0 == "\n" || $0 == "\r" }
    return lines.map { String($0) }.joined(separator: " ")
  }

  /// What a `PGresult` means; takes ownership of it.
  func outcome(owning result: OpaquePointer?) -> QueryResult {
    guard let result else { return .failure(.connectionLost(message)) }
    switch PQresultStatus(result) {
    case PGRES_TUPLES_OK, PGRES_COMMAND_OK, PGRES_EMPTY_QUERY:
      return .success(ResultSet(owning: result))
    default:
      defer { PQclear(result) }
      return .failure(fault(of: result))
    }
  }

  private func fault(of result: OpaquePointer) -> PostgresError {
    func field(_ code: Character) -> String? {
      PQresultErrorField(result, Int32(code.asciiValue ?? 0)).map { String(cString: $0) }
    }
    // The codes are libpq's PG_DIAG_SQLSTATE, _SEVERITY_NONLOCALIZED, _MESSAGE_PRIMARY, _TABLE_NAME, _CONSTRAINT_NAME and
    // _COLUMN_NAME.
    // Without a state it is libpq's own complaint, and after FATAL or PANIC nothing follows: the connection is gone.
    guard let state = field("C"), field("V") == "ERROR" else {
      let message = Self.oneLine(PQresultErrorMessage(result))
      // A session that has had nothing to do for too long (57P05), and a pooler that has found none in time: what was sent has not
      // been looked at.
      let isUntouched = field("C") == "57P05" || field("M") == "query_wait_timeout"
      return isUntouched ? .unavailable(message) : .connectionLost(message)
    }
    return .statement(
      .init(
        state: SQLState(rawValue: state), message: field("M") ?? "", table: field("t"), constraint: field("n"),
        column: field("c")))
  }
}
