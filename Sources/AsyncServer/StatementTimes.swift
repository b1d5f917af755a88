// Which statements have lately been slow, so that they can be kept out of the way of the others.

import Postgres

/// The time that each statement takes.
struct StatementTimes {
  /// A statement that takes longer, in nanoseconds, holds up what is behind it. Several times what one takes that only reads a
  /// page; sending the next before the last is answered saves a fraction of a millisecond.
  static let hindrance: UInt64 = 5_000_000
  /// How much a new observation counts against all those before: a single hiccup of the machine makes nothing slow, unless it
  /// was four times the hindrance.
  private static let weight = 0.25

  /// Moving averages in nanoseconds; 0 for what has never been slow, or not for long.
  private var averages: [ObjectIdentifier: Double] = [:]

  /// Takes note that `statements` together took `nanoseconds`. Answers come when the last of a segment has ended: which of them
  /// it was nobody knows, and they share the blame. One that is blamed runs alone from then on, and so shows what it is.
  mutating func note(_ statements: [Statement], took nanoseconds: UInt64) {
    guard !statements.isEmpty else { return }
    let each = nanoseconds / UInt64(statements.count)
    for statement in statements {
      let key = ObjectIdentifier(statement)
      let before = averages[key]
      if before == 0, each < Self.hindrance { continue }
      let average = (before ?? 0) * (1 - Self.weight) + Double(each) * Self.weight
      averages[key] = average < Double(Self.hindrance) / 8 ? 0 : average
    }
  }

  /// Whether others should not be put behind it. Of one that has never run nobody knows: many may be asked for before the first
  /// is answered.
  func isSlow(_ statement: Statement) -> Bool {
    guard let average = averages[ObjectIdentifier(statement)] else { return true }
    return average >= Double(Self.hindrance)
  }
}
