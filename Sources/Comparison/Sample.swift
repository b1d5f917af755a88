// One run of one cell: what the generator saw, and what it cost.

import LoadGenerator

package struct Sample: Codable, Sendable, Equatable {
  package var load: LoadResult
  package var nginx = Usage()
  package var responder = Usage()
  package var postgres = Usage()
  /// In bytes, at the end of the measurement: the responder's proportional set sizes, and what its PostgreSQL servers have of
  /// their own.
  package var responderMemory = 0
  package var postgresMemory = 0
  /// From its start until it let clients in, in seconds.
  package var startSeconds = 0.0

  package init(_ load: LoadResult) { self.load = load }

  /// Processor seconds that a request cost in all, without the generator's.
  package var cpuPerRequest: Double {
    load.completed > 0 ? (nginx.cpu + responder.cpu + postgres.cpu) / Double(load.completed) : 0
  }
}

/// Something that is done to a model while it is under load.
package struct Disturbance: Codable, Sendable, Hashable {
  package enum Kind: String, Codable, Sendable { case killWorker, restartPostgres, reload }
  package var kind: Kind
  /// Seconds into the measurement.
  package var after: Double

  package init(_ kind: Kind, after: Double) {
    self.kind = kind
    self.after = after
  }
}
