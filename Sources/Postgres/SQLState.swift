// SQLSTATE codes (PostgreSQL Appendix A), by the names that PostgreSQL gives them.

/// The five characters that say what kind of error it is.
package struct SQLState: RawRepresentable, Equatable, Hashable, Sendable, CustomStringConvertible {
  package let rawValue: String
  package init(rawValue: String) { self.rawValue = rawValue }
  package var description: String { rawValue }

  /// The first two characters.
  package var errorClass: Substring { rawValue.prefix(2) }

  package static let featureNotSupported = SQLState(rawValue: "0A000")
  package static let stringDataRightTruncation = SQLState(rawValue: "22001")
  package static let numericValueOutOfRange = SQLState(rawValue: "22003")
  package static let notNullViolation = SQLState(rawValue: "23502")
  package static let foreignKeyViolation = SQLState(rawValue: "23503")
  package static let uniqueViolation = SQLState(rawValue: "23505")
  package static let checkViolation = SQLState(rawValue: "23514")
  package static let exclusionViolation = SQLState(rawValue: "23P01")
  package static let readOnlyTransaction = SQLState(rawValue: "25006")
  package static let invalidSQLStatementName = SQLState(rawValue: "26000")
  package static let serializationFailure = SQLState(rawValue: "40001")
  package static let deadlockDetected = SQLState(rawValue: "40P01")
  package static let duplicatePreparedStatement = SQLState(rawValue: "42P05")
  package static let insufficientPrivilege = SQLState(rawValue: "42501")
  package static let undefinedTable = SQLState(rawValue: "42P01")
  package static let undefinedColumn = SQLState(rawValue: "42703")
  package static let undefinedFunction = SQLState(rawValue: "42883")
  package static let duplicateObject = SQLState(rawValue: "42710")
  package static let duplicateDatabase = SQLState(rawValue: "42P04")
  package static let tooManyConnections = SQLState(rawValue: "53300")
  package static let lockNotAvailable = SQLState(rawValue: "55P03")
  package static let queryCanceled = SQLState(rawValue: "57014")
}
