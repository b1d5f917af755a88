// What the event-loop responder is told.

import FastCGI
import Platform
import Postgres

package struct AsyncConfiguration: Sendable {
  package var listen: ListenAddress
  /// Pipelined database connections.
  package var databaseConnections: Int
  package var database: ConnectionInfo
  package var options: Connection.Options
  /// How long requests may take to end after TERM.
  package var drainTimeout: Duration
  /// How long a request may take to arrive, and a client to take its answer.
  package var peerTimeout: Duration
  package var limits = RequestLimits()
  /// Statements on their way on one connection.
  package var pipelineDepth = 32
  /// Whether equal reads that wait together are answered together.
  package var sharesReads = true
  /// Statements that wait for a place in a pipeline; more are refused.
  package var queueLimit = 4096

  package init(
    listen: ListenAddress, databaseConnections: Int, database: ConnectionInfo, options: Connection.Options,
    drainTimeout: Duration = .seconds(30), peerTimeout: Duration = .seconds(30)
  ) {
    self.listen = listen
    self.databaseConnections = databaseConnections
    self.database = database
    self.options = options
    self.drainTimeout = drainTimeout
    self.peerTimeout = peerTimeout
  }
}
