// What the prefork pool is told.

import Platform
import Postgres

package struct SyncConfiguration: Sendable {
  package var listen: ListenAddress
  /// Worker processes, each with one database connection.
  package var workers: Int
  package var database: ConnectionInfo
  package var options: Connection.Options
  /// How long requests may take to end after TERM.
  package var drainTimeout: Duration
  /// How long a peer may take to send or to take the next bytes, in seconds.
  package var peerTimeout: Int

  package init(
    listen: ListenAddress, workers: Int, database: ConnectionInfo, options: Connection.Options,
    drainTimeout: Duration = .seconds(30), peerTimeout: Int = 30
  ) {
    self.listen = listen
    self.workers = workers
    self.database = database
    self.options = options
    self.drainTimeout = drainTimeout
    self.peerTimeout = peerTimeout
  }
}
