// What a load generator is told to do.

/// A kind of request, of which a load has one or several.
package struct RequestKind: Codable, Sendable, Equatable {
  /// Under which its results are told.
  package var name: String
  package var method: String
  /// Path and query. `{id}` here and in the body becomes a whole number drawn from `ids`.
  package var path: String
  package var fields: [String: String]
  package var body: String?
  /// The lowest and the highest of the numbers.
  package var ids: [Int]
  /// How often it is drawn, in relation to the other kinds.
  package var weight: Int

  package init(
    _ name: String, _ path: String, method: String = "GET", fields: [String: String] = [:], body: String? = nil,
    ids: ClosedRange<Int> = 1...1, weight: Int = 1
  ) {
    self.name = name
    self.method = method
    self.path = path
    self.fields = fields
    self.body = body
    self.ids = [ids.lowerBound, ids.upperBound]
    self.weight = weight
  }
}

/// A load: who asks for what, how often and for how long. Times in seconds.
package struct LoadPlan: Codable, Sendable, Equatable {
  /// An IPv4 address, and a port.
  package var host = "127.0.0.1"
  package var port: UInt16
  package var kinds: [RequestKind]
  package var connections: Int
  /// Requests a second, evenly spaced, whatever becomes of those before (an open loop); nil: each connection asks again as soon as
  /// it has been answered (a closed loop).
  package var rate: Double?
  /// For a while, another rate.
  package var burst: Burst?
  /// Load before the measurement begins.
  package var warmUp = 0.5
  /// The measurement.
  package var seconds: Double
  /// After which a request is given up.
  package var timeout = 10.0
  /// Of the random numbers: equal plans draw equal requests.
  package var seed: UInt64 = 1
  /// Connections beside, that ask for the first kind and take its answers slowly; they are not measured.
  package var slowReaders: SlowReaders?
  /// Connections beside, that are opened and never used.
  package var idleClients = 0
  /// Connections to the responder itself, past the web server, that are opened and never used.
  package var idlePeers: IdlePeers?

  package struct Burst: Codable, Sendable, Equatable {
    /// Into the measurement.
    package var after: Double
    package var seconds: Double
    /// How many times the rate.
    package var factor: Double

    package init(after: Double, seconds: Double, factor: Double) {
      self.after = after
      self.seconds = seconds
      self.factor = factor
    }
  }

  package struct SlowReaders: Codable, Sendable, Equatable {
    package var kind: RequestKind
    package var count: Int
    package var bytesPerSecond: Int

    package init(_ kind: RequestKind, count: Int, bytesPerSecond: Int) {
      self.kind = kind
      self.count = count
      self.bytesPerSecond = bytesPerSecond
    }
  }

  package struct IdlePeers: Codable, Sendable, Equatable {
    /// Of a Unix socket.
    package var path: String
    package var count: Int

    package init(path: String, count: Int) {
      self.path = path
      self.count = count
    }
  }

  package init(port: UInt16, _ kinds: [RequestKind], connections: Int, rate: Double? = nil, seconds: Double) {
    self.port = port
    self.kinds = kinds
    self.connections = connections
    self.rate = rate
    self.seconds = seconds
  }

  /// What is wrong with it, in a line; nil if nothing is.
  package var fault: String? {
    if kinds.isEmpty { return "there is no request to make" }
    if !(1...100_000).contains(connections) { return "connections must be from 1 to 100000, not \(connections)" }
    if let rate, !(rate > 0 && rate <= 10_000_000) {
      return "the rate must be above 0 and at most 10000000, not \(rate)"
    }
    if !(seconds > 0 && seconds <= 86_400) { return "seconds must be above 0 and at most 86400, not \(seconds)" }
    if !(0...3600).contains(warmUp) { return "the warm-up must be from 0 to 3600 seconds, not \(warmUp)" }
    if !(timeout > 0 && timeout <= 3600) {
      return "the timeout must be above 0 and at most 3600 seconds, not \(timeout)"
    }
    func isSound(_ kind: RequestKind) -> Bool {
      (1...1_000_000).contains(kind.weight) && kind.ids.count == 2 && kind.ids[0] >= 0 && kind.ids[0] <= kind.ids[1]
        && kind.ids[1] < .max
    }
    if kinds.count > 1000 || !(kinds + (slowReaders.map { [$0.kind] } ?? [])).allSatisfy(isSound) {
      return "each request needs a weight from 1 to 1000000, and as ids a lowest and a highest number, not negative"
    }
    if let burst, !((0.001...1000).contains(burst.factor) && burst.after >= 0 && burst.seconds >= 0) {
      return "a burst needs a factor from 0.001 to 1000, and times that are not negative"
    }
    if let rate, rate * (seconds + warmUp) * max(1, burst?.factor ?? 1) > 1e9 {
      return "that would be over 1000000000 requests"
    }
    let others = [idleClients, slowReaders?.count ?? 0, idlePeers?.count ?? 0]
    if !others.allSatisfy((0...1_000_000).contains) { return "connections beside must be from 0 to 1000000" }
    if let slowReaders, slowReaders.bytesPerSecond < 1 { return "slow readers must read at least a byte a second" }
    return nil
  }
}
