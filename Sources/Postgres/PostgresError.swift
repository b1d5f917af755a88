// Everything that can come instead of rows.

/// Why a statement has no result.
package enum PostgresError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The server refused or gave up the statement; the connection is as good as before.
  case statement(ServerFault)
  /// The server has given the statement up before its time was over, since somebody has asked for that: nothing has happened.
  case interrupted(String)
  /// There was no connection to send it on: nothing has happened in the database.
  case unavailable(String)
  /// The database is none that we can use, whose encoding is another than UTF8: nothing has happened in it.
  case wrongEncoding(String)
  /// The connection broke while the statement was on its way: a write may have happened or not.
  case connectionLost(String)
  /// Too many statements are waiting already: this one has not been sent.
  case queueFull
  /// Nobody wants the answer any more: the statement has not been sent.
  case cancelled

  /// The same for statements that were not sent because of it: nothing has happened to them.
  package var beforeSending: PostgresError {
    if case .connectionLost(let why) = self { return .unavailable(why) }
    return self
  }

  /// Whether the statement may have to be prepared anew: its rows have other types than they had when it was prepared (0A000, which
  /// can also mean that something is not supported), or the server does not know it any more (26000). The server has said so
  /// instead of executing it, and what fails leaves nothing behind: a write may be sent again, too.
  package var mayBeStalePreparation: Bool {
    guard case .statement(let fault) = self else { return false }
    return fault.state == .featureNotSupported || fault.state == .invalidSQLStatementName
  }

  /// Whether a statement was refused for its name: the session does not know it, or knows it already by the same text. So it is
  /// where sessions are passed on without their names being kept apart.
  package var isLostPreparation: Bool {
    guard case .statement(let fault) = self else { return false }
    return fault.state == .invalidSQLStatementName || fault.state == .duplicatePreparedStatement
  }

  /// Whether a statement could not be prepared since the session knows it, by the same name and so the same text.
  package var isKnownPreparation: Bool {
    guard case .statement(let fault) = self else { return false }
    return fault.state == .duplicatePreparedStatement
  }

  /// Whether a pooler has refused a connection for the settings that were to go along: PgBouncer's words, and those of Amazon's
  /// RDS Proxy. There is no code that says so.
  package var isRefusedParameter: Bool {
    guard case .unavailable(let why) = self else { return false }
    return ["unsupported startup parameter", "unsupported options startup parameter", "command-line options"].contains {
      why.contains($0)
    }
  }

  /// Whether the server was asked to give the statement up, by its own time limit or by somebody: both have one code, and the words
  /// that tell them apart are in the server's language.
  package var isCancellation: Bool {
    guard case .statement(let fault) = self else { return false }
    return fault.state == .queryCanceled
  }

  /// The same of a statement that has run for at most `nanoseconds` and may run for `limit` milliseconds; 0: for ever.
  package func judged(after nanoseconds: UInt64, limit: UInt64) -> PostgresError {
    guard isCancellation, limit == 0 || nanoseconds < min(limit, 1 << 31) * 1_000_000 else { return self }
    return .interrupted("\(self)")
  }

  /// What the server said of an error, as far as anybody here needs it.
  package struct ServerFault: Equatable, Sendable {
    package let state: SQLState
    /// For the log only: it may quote SQL and values.
    package let message: String
    /// The table that it was about, if it was about one.
    package let table: String?
    /// The constraint that was violated, if it was one.
    package let constraint: String?
    /// The column that it was about, if it was about one.
    package let column: String?

    package init(
      state: SQLState, message: String, table: String? = nil, constraint: String? = nil, column: String? = nil
    ) {
      self.state = state
      self.message = message
      self.table = table
      self.constraint = constraint
      self.column = column
    }
  }

  /// For logs.
  package var description: String {
    switch self {
    case .statement(let fault): "\(fault.state) \(fault.message)"
    case .interrupted(let what): "\(what) (before its time limit)"
    case .unavailable(let why): "no database connection: \(why)"
    case .wrongEncoding(let name):
      "the database's encoding is \(name), and must be UTF8 (create database … encoding 'UTF8' template template0)"
    case .connectionLost(let why): "the database connection was lost: \(why)"
    case .queueFull: "the queue for the database is full"
    case .cancelled: "cancelled"
    }
  }
}
