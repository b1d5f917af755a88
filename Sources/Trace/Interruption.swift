// Waiting that somebody can put an end to.

import Glibc
import LocalStack
import Platform

/// Somebody wants no more of it.
package struct Interrupted: Error {
  package init() {}
}

/// Whether somebody does, and waits that look for it.
package struct Interruption {
  private let hasCome: () -> Bool

  package init(_ hasCome: @escaping () -> Bool) { self.hasCome = hasCome }

  package func check() throws(Interrupted) { if hasCome() { throw Interrupted() } }

  /// Until `condition` is true; `message` is told when it is not within so many seconds.
  func wait(_ seconds: UInt64, _ message: String, until condition: () throws -> Bool) throws {
    let deadline = MonotonicClock.now + seconds * 1_000_000_000
    while try !condition() {
      try check()
      if MonotonicClock.now > deadline { throw LocalStackError(message) }
      usleep(2_000)
    }
  }
}
