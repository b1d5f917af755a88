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
  /// A read that has run for longer on a reserved connection, while others need it, is given up there, in nanoseconds.
  static let blockade = 40 * hindrance
  /// Below this, in nanoseconds, a statement costs the database less than its request costs all the others. Between a page of
  /// rows by key, and one of orders with all their parts.
  private static let lightness = 300_000.0
  /// How much a new observation counts against all those before.
  private static let weight = 0.25
  /// More than this, in nanoseconds, no observation counts: a single hiccup of the machine, however long, makes no fast statement
  /// slow, two in a row do, and a few fast runs clear any.
  private static let most = 3 * Double(hindrance)
  /// For how long a read that was given up is not tried again, in nanoseconds, at first and at most: it doubles each time.
  private static let pauses = 2 * blockade...16 * blockade

  /// Moving averages in nanoseconds, by the statements' numbers; nil where one has never run.
  private var averages: [Double?] = []
  /// Of the statements that were given up when they ran last, by their numbers.
  private var paused: [Int: (length: UInt64, end: UInt64)] = [:]

  /// Takes note that `statements` together took `nanoseconds`. Answers come when the last of a segment has ended: which of them
  /// it was nobody knows, and they share the blame. One that is blamed runs alone from then on, and so shows what it is.
  mutating func note(_ statements: [Statement], took nanoseconds: UInt64) {
    guard !statements.isEmpty else { return }
    let each = Double(nanoseconds) / Double(statements.count)
    if each < Double(Self.hindrance) {
      for statement in statements { note(statement.number, took: each) }
      if !paused.isEmpty { for statement in statements { paused[statement.number] = nil } }
    } else {
      // What held them up did so once, however many of the same were among them.
      for number in Set(statements.map(\.number)) { note(number, took: each) }
    }
  }

  private mutating func note(_ number: Int, took nanoseconds: Double) {
    makeRoom(for: number)
    if let average = averages[number] {
      averages[number] = average * (1 - Self.weight) + min(nanoseconds, Self.most) * Self.weight
    } else {
      averages[number] = min(nanoseconds * Self.weight, Self.most)
    }
  }

  private mutating func makeRoom(for number: Int) {
    if number >= averages.count { averages += repeatElement(nil, count: number - averages.count + 1) }
  }

  /// A read is given up now, since it has run for too long: it is slow, and not to be tried for a while.
  mutating func isGivenUp(_ statement: Statement, at now: UInt64) {
    makeRoom(for: statement.number)
    averages[statement.number] = Self.most
    let last = paused[statement.number] ?? (length: 0, end: 0)
    guard now >= last.end else { return }
    let length = min(max(2 * last.length, Self.pauses.lowerBound), Self.pauses.upperBound)
    paused[statement.number] = (length, now + length)
  }

  /// Whether it was given up so lately that it is not to be tried again.
  func isPaused(_ statement: Statement, at now: UInt64) -> Bool {
    paused[statement.number].map { now < $0.end } ?? false
  }

  /// Whether others should not be put behind it. Of one that has never run nobody knows: many may be asked for before the first
  /// is answered.
  func isSlow(_ statement: Statement) -> Bool {
    average(statement).map { $0 >= Double(Self.hindrance) } ?? true
  }

  /// Whether it is done before it is worth waiting for.
  func isLight(_ statement: Statement) -> Bool {
    average(statement).map { $0 < Self.lightness } ?? false
  }

  private func average(_ statement: Statement) -> Double? {
    statement.number < averages.count ? averages[statement.number] : nil
  }
}
