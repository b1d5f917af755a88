// Which statements the server knows by name on a connection, and whether names are of any use there.

/// What has been prepared on one connection, as far as we know: a pooler may give each transaction another of the server's sessions,
/// which do not know what another has been told, or know it already.
package struct Preparations: Sendable {
  private enum State {
    case unknown, prepared
    /// The server may still know it by its name, and it is of no use any more.
    case stale
  }

  /// How often the server may have lost a name before none is used any more.
  private static let mostLosses = 3

  /// By the statement's number.
  private var states: [State] = []
  private var losses: [Int: Int] = [:]
  /// Whether statements are prepared at all.
  package private(set) var areUsed: Bool

  package init(areUsed: Bool) { self.areUsed = areUsed }

  private func state(of statement: Statement) -> State {
    statement.number < states.count ? states[statement.number] : .unknown
  }

  private mutating func set(_ statement: Statement, to state: State) {
    while states.count <= statement.number { states.append(.unknown) }
    states[statement.number] = state
  }

  package func knows(_ statement: Statement) -> Bool { state(of: statement) == .prepared }

  /// It is about to be prepared. Whether what is left of an earlier preparation has to go first.
  package mutating func prepare(_ statement: Statement) -> Bool {
    defer { set(statement, to: .prepared) }
    return state(of: statement) == .stale
  }

  /// It could not be prepared.
  package mutating func couldNotPrepare(_ statement: Statement) { set(statement, to: .unknown) }

  /// It was refused by its name, and has to be prepared anew unless that is on its way.
  package mutating func isOfNoUse(_ statement: Statement) { if knows(statement) { set(statement, to: .stale) } }

  /// Counts what a session of the server's has forgotten, or known before it was told. True when it is enough: no names are used
  /// from then on.
  package mutating func count(_ error: PostgresError, for statement: Statement) -> Bool {
    guard areUsed, error.isLostPreparation else { return false }
    losses[statement.number, default: 0] += 1
    areUsed = losses[statement.number, default: 0] < Self.mostLosses
    return !areUsed
  }

  /// What to say of that.
  package static let advice =
    "the database forgets prepared statements, as behind a pooler in transaction mode: none are used on this connection any more "
    + "(--prepared off spares the attempts)"
}
