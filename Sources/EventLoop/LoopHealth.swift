// How a loop is doing.

/// Figures since the loop began; times in nanoseconds.
package struct LoopHealth: Equatable, Sendable {
  /// A turn begins when events have come and ends when the loop waits again.
  package var turns: UInt64 = 0
  /// Jobs that were run: a task's steps between two waits.
  package var jobs: UInt64 = 0
  /// Time in turns; the rest was waiting.
  package var busy: UInt64 = 0
  package var longestTurn: UInt64 = 0
  /// Turns longer than the limit that was set.
  package var slowTurns: UInt64 = 0
  /// The most that a timer was late: how long somebody has to wait for the loop at worst.
  package var longestLag: UInt64 = 0
}
