// Asking the server to give up what it is at ("Canceling Queries in Progress" of the libpq chapter).

import CPostgres

/// What it takes to ask for that, apart from the connection. Owns the `PGcancel`.
///
/// Unchecked Sendable: it never changes, and libpq lets any thread send it.
package final class Cancellation: @unchecked Sendable {
  private let handle: OpaquePointer

  /// nil where libpq has no memory for it.
  package init?(of connection: Connection) {
    guard let handle = PQgetCancel(connection.handle) else { return nil }
    self.handle = handle
  }

  deinit { PQfreeCancel(handle) }

  /// Connects, asks, and waits until the server has taken note. Whatever the server is at then is given up, if anything: it need
  /// not be what it was at before.
  package func send() {
    var reason = [CChar](repeating: 0, count: 256)
    PQcancel(handle, &reason, Int32(reason.count))
  }
}
