// Which statements the server knows by name on a connection, and whether names are of any use there.

/// What has been prepared on one connection, as far as we know: a pooler may give each transaction another of the server's sessions,
/// which do not know what another has been told, or know it already.
///
/// Not Sendable: it is its connection's. An object, since it is asked for every statement: a copy would cost more than it does.
package final class Preparations {
  private enum State {
    case unknown, prepared
    /// The server may still know it by its former name, and it is of no use any more.
    case stale
  }

  /// How often the server may have lost a name before none is used any more, and how often a statement may have been of no use.
  private static let mostLosses = 3
  private static let mostGenerations = 8

  /// By the statement's number.
  private var states: [State] = []
  private var losses: [Int: Int] = [:]
  /// A statement that is of no use any more is prepared by another name: the former one may still be there where it can't be reached,
  /// as in a pooler that tracks names (PgBouncer 1.21 and later ends a connection that uses one twice).
  private var generations: [Int: Int] = [:]
  /// Whether statements are prepared at all.
  package private(set) var areUsed: Bool

  package init(areUsed: Bool) { self.areUsed = areUsed }

  private func state(of statement: Statement) -> State {
    statement.number < states.count ? states[statement.number] : .unknown
  }

  private func set(_ statement: Statement, to state: State) {
    while states.count <= statement.number { states.append(.unknown) }
    states[statement.number] = state
  }

  package func knows(_ statement: Statement) -> Bool { state(of: statement) == .prepared }

  /// What the server knows a statement by.
  package func name(of statement: Statement) -> String {
    generations.isEmpty ? statement.preparedName : name(of: statement, generations[statement.number] ?? 0)
  }

  private func name(of statement: Statement, _ generation: Int) -> String {
    generation == 0 ? statement.preparedName : "\(statement.preparedName)_\(generation)"
  }

  /// It is about to be prepared. The name by which it was before, which should go first; nil if there is none.
  package func prepare(_ statement: Statement) -> String? {
    defer { set(statement, to: .prepared) }
    guard state(of: statement) == .stale, let generation = generations[statement.number] else { return nil }
    return name(of: statement, generation - 1)
  }

  /// It could not be prepared.
  package func couldNotPrepare(_ statement: Statement) { set(statement, to: .unknown) }

  /// It was refused by its name, and has to be prepared anew.
  package func isOfNoUse(_ statement: Statement, _ error: PostgresError) {
    guard knows(statement) else { return }
    // A session that does not know it needs no other name for it, and may be one of several, of which others know it.
    if error.isLostPreparation { return set(statement, to: .unknown) }
    set(statement, to: .stale)
    generations[statement.number, default: 0] += 1
  }

  /// Counts what a session of the server's has forgotten, or known before it was told, or what is of no use however often it is
  /// prepared. True when it is enough: no names are used from then on.
  package func count(_ error: PostgresError, for statement: Statement) -> Bool {
    guard areUsed else { return false }
    if error.isLostPreparation { losses[statement.number, default: 0] += 1 }
    areUsed =
      losses[statement.number, default: 0] < Self.mostLosses
      && generations[statement.number, default: 0] < Self.mostGenerations
    return !areUsed
  }

  /// What to say of that.
  package static let advice =
    "prepared statements get lost or outdated, as behind a pooler in transaction mode: none are used on this connection any more "
    + "(--prepared off spares the attempts)"
}
