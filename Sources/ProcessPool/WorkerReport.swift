// What the scoreboard has to say of a worker, and of all.

import Glibc
import Platform

/// What a worker is doing.
package enum WorkerState: UInt32, Sendable, CaseIterable {
  /// Nobody is here.
  case vacant
  /// Connects to the database.
  case starting
  case idle
  /// A request comes in, the database has it, its answer goes out.
  case reading, database, writing
  /// Finishes, and takes nothing new.
  case draining

  /// Whether a request is under way.
  package var isServing: Bool { self == .reading || self == .database || self == .writing }

  package var name: String { "\(self)" }
}

/// Counters of a worker, or of all.
package struct Totals: Equatable, Sendable {
  package var connections: UInt64 = 0
  package var requests: UInt64 = 0
  /// Nanoseconds in requests, and of those in the database.
  package var busy: UInt64 = 0
  package var database: UInt64 = 0
  package var latency = [UInt64](repeating: 0, count: Latency.bucketCount)

  package static func += (total: inout Totals, more: Totals) {
    total.connections += more.connections
    total.requests += more.requests
    total.busy += more.busy
    total.database += more.database
    for index in total.latency.indices { total.latency[index] += more.latency[index] }
  }
}

/// A worker as the scoreboard shows it.
package struct WorkerReport: Equatable, Sendable {
  package let slot: Int
  package let process: pid_t
  package let generation: Int
  package let state: WorkerState
  /// Since when it is in this state, and when it was started, in monotonic nanoseconds.
  package let since: UInt64
  package let started: UInt64
  /// When the request being served began; of the last one otherwise.
  package let requestStarted: UInt64
  package let lastDuration: UInt64
  /// Connections that it holds, where it holds several.
  package let open: Int
  package let totals: Totals
  package let method: String
  package let path: String
  package let requestID: String

  /// The request, in a line of the log.
  var description: String { method.isEmpty ? "a request that has not arrived" : "\(method) \(path)" }
}
