// How a loop is doing.

import Platform

/// Figures since the loop began.
package struct LoopHealth: Equatable, Sendable {
  /// A turn begins when events have come and ends when the loop waits again.
  package var turns = Durations()
  /// Turns longer than the limit that was set.
  package var slowTurns: UInt64 = 0
  /// By how much timers were late: how long somebody has to wait for the loop.
  package var lags = Durations()
  /// Jobs that were run: a task's steps between two waits.
  package var jobs: UInt64 = 0
}
