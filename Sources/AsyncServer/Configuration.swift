// What the event-loop responder is told.

import Application
import FastCGI
import Platform
import Postgres
import ProcessPool

package struct AsyncConfiguration: Sendable {
  package var master: MasterConfiguration
  package var database: ConnectionInfo
  package var options: Connection.Options
  /// Pipelined database connections of each loop.
  package var databaseConnections = 8
  /// Whether equal reads that wait together are answered together.
  package var sharesReads = true
  /// Whether the web server may close its writing side and still wait for its answer.
  package var mayHalfClose = false
  /// Connections of the web server that each loop holds; more wait to be accepted.
  package var connections = 20_000
  /// How long a request may take to arrive, and a client to take its answer.
  package var peerTimeout = Duration.seconds(30)
  /// How long a connection may be kept without a request.
  package var idleTimeout = Duration.seconds(3600)
  /// After how many a connection is closed.
  package var requestsPerConnection = 10_000_000
  /// Nanoseconds above which a turn of the loop is logged; 0: never.
  package var slowTurn: UInt64 = 50_000_000
  package var limits = RequestLimits(concurrent: 16, held: 1008)
  /// Statements on their way on one connection.
  package var pipelineDepth = 32
  /// Statements that wait for a place in a pipeline; more are refused.
  package var queueLimit = 4096
  /// What each loop serves.
  package let application: ApplicationFactory

  /// What is good, and yet may not be meant; nil if there is nothing.
  package var remark: String? {
    guard databaseConnections == 1 else { return nil }
    return "with one database connection reads wait behind whatever is slow, or waits for a lock; with two they do not"
  }

  package init(
    _ master: MasterConfiguration, database: ConnectionInfo, options: Connection.Options,
    application: @escaping ApplicationFactory
  ) {
    self.application = application
    self.master = master
    self.database = database
    self.options = options
  }
}
