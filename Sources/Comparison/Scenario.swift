// What is asked of the models: a scenario is a question, its cells are what is run to answer it.

import LoadGenerator

/// How the models are put on an equal footing.
package enum Fairness: String, Codable, Sendable, CaseIterable {
  case connections, memory, cpu, best

  package var title: String {
    switch self {
    case .connections: "equal database connections"
    case .memory: "equal memory"
    case .cpu: "equal CPU"
    case .best: "each at its best"
    }
  }
}

/// One thing to run, again and again.
package struct Cell: Codable, Sendable, Hashable {
  /// What is asked for.
  package enum Work: String, Codable, Sendable {
    case read, nested, write, mix, slow, headOfLine, fanOut, large

    /// Of whom it is asked.
    package var application: Testbed.Application {
      switch self {
      case .slow, .headOfLine, .fanOut: .workload
      case .read, .nested, .write, .mix, .large: .orders
      }
    }
  }

  package var setup: Setup
  package var fairness = Fairness.connections
  package var work: Work
  /// Client connections.
  package var concurrency = 16
  /// Requests a second; nil: a closed loop.
  package var rate: Double?
  /// Milliseconds of the database, or statements, where the work has such a thing.
  package var amount = 0
  /// Connections beside that do nothing, or little.
  package var others = Others.none
  package var isBuffered = true
  /// The most database connections there are to be had; nil: enough.
  package var connectionLimit: Int?
  package var burst = false
  package var disturbance: Disturbance?
  /// A longer measurement, in seconds; nil: the usual.
  package var seconds: Double?
  /// A longer load before it, in seconds.
  package var warmUp: Double?
  /// Set apart from an otherwise equal cell: the second half of an A/A pair.
  package var twin = 0

  package enum Others: Codable, Sendable, Hashable {
    case none
    case slowReaders(Int)
    case idleClients(Int)
    case idlePeers(Int)
  }

  package init(_ setup: Setup, _ work: Work) {
    self.setup = setup
    self.work = work
  }

  var nginx: Testbed.NginxSetup {
    var hasSlowReaders = false
    if case .slowReaders = others { hasSlowReaders = true }
    return Testbed.NginxSetup(isBuffering: isBuffered, hasSlowNetwork: hasSlowReaders)
  }

  /// When its burst begins, and how long it is, in seconds.
  var burstTimes: (after: Double, seconds: Double)? {
    guard burst, let seconds else { return nil }
    return (seconds * 0.25, seconds * 0.15)
  }

  /// Whether it leaves the database as it did not find it.
  var writes: Bool { work == .write || work == .mix }

  /// What the generator is told.
  func plan(port: UInt16, run: String, seconds usual: Double, warmUp: Double, seed: UInt64) -> LoadPlan {
    let prefix = setup.model.prefix
    let contacts = 1...Testbed.contacts
    func read(weight: Int = 1) -> RequestKind {
      RequestKind("read", "\(prefix)/contact/{id}", ids: contacts, weight: weight)
    }
    // As large an answer as a contact, shared as one is.
    func costing(_ name: String, _ query: String = "", weight: Int = 1) -> RequestKind {
      let handicap = setup.handicap > 0 ? "&processor=\(setup.handicap)" : ""
      return RequestKind(
        name, "\(prefix)/work?rows=1&bytes=50&key={id}&share=rendering\(query)\(handicap)", ids: contacts,
        weight: weight)
    }
    let order = """
      {"name":"SO-new","contact_id":{id},"order_lines":[{"product_id":1,"quantity":1,"price":0.25},\
      {"product_id":2,"quantity":2,"price":1.25},{"product_id":3,"quantity":3,"price":9.99}],"tag_ids":[1,2]}
      """
    func write(weight: Int = 1) -> RequestKind {
      RequestKind(
        "write", "\(prefix)/order", method: "POST", body: order, ids: contacts, weight: weight)
    }
    let kinds: [RequestKind] =
      switch work {
      case .read: [read()]
      case .nested:
        [
          RequestKind("nested", "\(prefix)/order?limit=20&after={id}", ids: 0...(Testbed.smallOrders - 20))
        ]
      case .write: [write()]
      case .mix: [read(weight: 9), write()]
      case .slow: [amount > 0 ? costing("slow", "&time=\(amount)") : costing("read")]
      case .headOfLine: [costing("fast", weight: 19), costing("slow", "&time=\(amount)")]
      case .fanOut: [costing("fan-out", "&statements=\(amount)&together=1")]
      case .large: [large(prefix)]
      }
    var plan = LoadPlan(port: port, kinds, connections: concurrency, rate: rate, seconds: seconds ?? usual)
    plan.warmUp = warmUp
    plan.seed = seed
    if let burstTimes { plan.burst = .init(after: burstTimes.after, seconds: burstTimes.seconds, factor: 10) }
    switch others {
    case .none: break
    case .slowReaders(let count):
      // More than sockets hold by themselves.
      let all = RequestKind(
        "all large", "\(prefix)/order?limit=\(Testbed.bigOrders)&after=\(Testbed.smallOrders)")
      plan.slowReaders = .init(all, count: count, bytesPerSecond: 100_000)
    case .idleClients(let count): plan.idleClients = count
    case .idlePeers(let count): plan.idlePeers = .init(path: "\(run)/\(setup.model.socket)", count: count)
    }
    // A fault may make everybody wait: that is what is to be seen, not hidden by giving up.
    plan.timeout = disturbance == nil && burst == false ? 5 : 10
    return plan
  }

  private func large(_ prefix: String) -> RequestKind {
    RequestKind(
      "large", "\(prefix)/order/{id}",
      ids: (Testbed.smallOrders + 1)...(Testbed.smallOrders + Testbed.bigOrders))
  }
}

/// A question.
package struct Scenario: Sendable {
  package let name: String
  package let title: String
  /// What is done, in a sentence.
  package let text: String
  package let cells: [Cell]
}
