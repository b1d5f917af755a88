// How long statements have lately taken, so that slow ones can be kept out of the way of the others, and light ones need not be
// waited for.

import Postgres

/// The time that each statement takes.
struct StatementTimes {
  /// A statement that takes longer, in nanoseconds, holds up what is behind it. Several times what one takes that only reads a
  /// page; sending the next before the last is answered saves a fraction of a millisecond.
  static let hindrance: UInt64 = 5_000_000
  /// What was put behind a statement before it had run for that long waits for it no longer than this, in nanoseconds, if it can be
  /// sent elsewhere: long enough that a busy machine does not do everything twice.
  static let standstill = 10 * hindrance
  /// A read that has run for longer on a reserved connection, while there is no other, is given up there, in nanoseconds.
  static let blockade = 40 * hindrance
  /// Below this, in nanoseconds, a statement costs the database less than its request costs all the others. Between a page of
  /// rows by key, and one of orders with all their parts.
  private static let lightness = 300_000.0
  /// How much a new observation counts against all those before: a single hiccup of the machine makes nothing slow, unless it
  /// was four times the hindrance.
  private static let weight = 0.25

  /// Moving averages in nanoseconds, by the statements' numbers; nil where one has never run.
  private var averages: [Double?] = []

  /// Takes note that `statements` together took `nanoseconds`. Answers come when the last of a segment has ended: which of them
  /// it was nobody knows, and they share the blame. One that is blamed runs alone from then on, and so shows what it is.
  mutating func note(_ statements: [Statement], took nanoseconds: UInt64) {
    guard !statements.isEmpty else { return }
    let each = Double(nanoseconds) / Double(statements.count) * Self.weight
    for statement in statements {
      let number = statement.number
      if number >= averages.count { averages += repeatElement(nil, count: number - averages.count + 1) }
      averages[number] = (averages[number] ?? 0) * (1 - Self.weight) + each
    }
  }

  /// Whether others should not be put behind it. Of one that has never run nobody knows: many may be asked for before the first
  /// is answered.
  func isSlow(_ statement: Statement) -> Bool {
    average(statement).map { $0 >= Double(Self.hindrance) } ?? true
  }

  /// Whether it has ever run.
  func isKnown(_ statement: Statement) -> Bool { average(statement) != nil }

  /// Whether it is done before it is worth waiting for.
  func isLight(_ statement: Statement) -> Bool {
    average(statement).map { $0 < Self.lightness } ?? false
  }

  private func average(_ statement: Statement) -> Double? {
    statement.number < averages.count ? averages[statement.number] : nil
  }
}
