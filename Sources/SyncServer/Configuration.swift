// What the prefork responder is told.

import Application
import Postgres
import ProcessPool

package struct SyncConfiguration: Sendable {
  package var master: MasterConfiguration
  package var database: ConnectionInfo
  package var options: Connection.Options
  /// How long a peer may take to send or to take the next bytes, in seconds.
  package var peerTimeout = 30
  /// Whether the web server may close its writing side and still wait for its answer.
  package var mayHalfClose = false
  /// What each worker serves.
  package let application: ApplicationFactory

  package init(
    _ master: MasterConfiguration, database: ConnectionInfo, options: Connection.Options,
    application: @escaping ApplicationFactory
  ) {
    self.application = application
    self.master = master
    self.database = database
    self.options = options
    // The database lets go before the worker is given up, so that its answer can still be told.
    self.options.statementTimeout = master.limits.statementTimeout(options.statementTimeout)
  }
}
