// The table of scenarios.

/// How much is to be run.
package struct Extent: Sendable {
  package var isQuick: Bool
  /// Each runs every cell twice: there and back (ABBA).
  package var repeats: Int
  /// A measurement and the load before it, in seconds.
  package var seconds: Double { isQuick ? 0.25 : 1 }
  package var warmUp: Double { isQuick ? 0.1 : 0.3 }
  /// A run in which something happens.
  var faultSeconds: Double { isQuick ? 1.3 : 4 }

  package init(isQuick: Bool, repeats: Int? = nil) {
    self.isQuick = isQuick
    self.repeats = repeats ?? (isQuick ? 3 : 6)
  }
}

/// What was found out before the scenarios began.
package struct Calibration: Codable, Sendable, Equatable {
  /// Reads a second that the faster of prefork and loop comes to.
  package var capacity = 10_000.0
  /// Database connections with which the loop needs as much memory as the pool.
  package var equalMemory = 16
  /// The setups with which each was fastest, for reads and for writes.
  package var best: [String: [Setup]] = [:]
  /// Microseconds that make a request a fifth slower.
  package var handicap = 25

  package init() {}
}

package enum Scenarios {
  /// Workers of a pool and database connections of a loop, where nothing else is said.
  package static let connections = 8

  package static let names = all(Extent(isQuick: false), Calibration(), others: []).map(\.name)

  /// What is run, in this order.
  /// `others` are models beside prefork and loop, which take part in what they can.
  package static func all(
    _ extent: Extent, _ calibration: Calibration, others: [Model], canPin: Bool = true, handicap: Bool = false
  ) -> [Scenario] {
    let quick = extent.isQuick
    let prefork = Setup(.prefork, connections: connections)
    let loop = Setup(.loop, connections: connections)
    let shared = Setup(.loopShared, connections: connections)
    let others = others.map { Setup($0, connections: connections) }
    let baselines = others.filter { !$0.model.isOurs }
    let both = [prefork, loop]
    let three = [prefork, loop, shared]

    func cells(_ setups: [Setup], _ work: Cell.Work, _ change: (inout Cell) -> Void = { _ in }) -> [Cell] {
      setups.map {
        var cell = Cell($0, work)
        change(&cell)
        return cell
      }
    }
    func faults(_ setups: [Setup], _ change: (inout Cell) -> Void) -> [Cell] {
      cells(setups, .read) {
        $0.seconds = extent.faultSeconds
        $0.concurrency = 64
        $0.rate = (calibration.capacity * 0.2).rounded()
        change(&$0)
      }
    }

    var scenarios = [
      Scenario(
        name: "same", title: "The same against itself",
        text: "Each model runs against itself as if it were two: what is found apart here is noise.",
        cells: both.flatMap { setup in
          cells([setup, setup], .read).enumerated().map { index, cell in
            var cell = cell
            cell.twin = index
            return cell
          }
        }),
      Scenario(
        name: "read", title: "A fast read by key",
        text: "One contact by its id, as fast as the clients can ask, from few clients to many.",
        cells: (quick ? [1, 16, 64] : [1, 4, 16, 64, 256]).flatMap { concurrency in
          cells(concurrency == 16 ? three + others : three, .read) { $0.concurrency = concurrency }
        }),
      Scenario(
        name: "rate", title: "Latency against offered rate",
        text: "Reads by key at a rate that does not wait for answers, up to more than can be answered.",
        cells: (quick ? [0.2, 0.5, 1.0] : [0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0, 1.15]).flatMap {
          share in
          cells(both, .read) {
            $0.concurrency = 64
            $0.rate = (calibration.capacity * share).rounded()
          }
        }),
      Scenario(
        name: "nested", title: "A list with nested lines and tags",
        text: "Twenty orders with their lines and tags, from 16 clients.",
        cells: cells(three + (quick ? baselines : others), .nested)),
      Scenario(
        name: "write", title: "An order is written",
        text: "Orders of three lines and two tags, each in a transaction of its own, from 16 clients.",
        cells: cells(both + (quick ? baselines : others), .write)),
      Scenario(
        name: "mix", title: "Nine reads and a write",
        text: "Nine in ten read a contact, one writes an order, from 16 clients.",
        cells: cells(three, .mix)),
      Scenario(
        name: "slow-database", title: "A slow database",
        text:
          "Small reads of no table, for which the database sleeps, by how long and from how many clients; \(connections) database connections for each.",
        cells: (quick ? [0, 10, 100] : [0, 10, 100, 1000]).flatMap { delay in
          (quick ? [4, 64] : [4, 16, 64, 256]).flatMap { concurrency in
            cells(both, .slow) {
              $0.amount = delay
              $0.concurrency = concurrency
              if delay >= 100 { $0.seconds = max(extent.seconds, Double(delay) / 1000 * (quick ? 5 : 4)) }
            }
          }
        }),
      Scenario(
        name: "head-of-line", title: "A few slow ones among fast ones",
        text:
          "One read in twenty takes the database 100 ms: what the other nineteen have to wait, at half the rate that the connections allow.",
        cells: cells(three, .headOfLine) {
          $0.amount = 100
          $0.concurrency = 64
          // Half of what the connections can do, at a rate that does not wait: what a slow one holds up is seen, and not that a
          // few clients all wait for slow ones.
          $0.rate = (Double(connections) / (0.05 * 0.1) / 2).rounded()
          $0.seconds = quick ? 0.6 : nil
        }),
      Scenario(
        name: "fan-out", title: "Many statements for one answer",
        text:
          "Requests that need several small statements, none of which depends on another: a worker sends them one behind the other on its connection, the loop spreads them over all it has; from 4 clients.",
        cells: (quick ? [16] : [1, 4, 16, 64]).flatMap { count in
          cells(both, .fanOut) {
            $0.amount = count
            $0.concurrency = 4
          }
        }),
      Scenario(
        name: "large", title: "Answers that have to be computed",
        text: "Orders of 1,000 lines, 50 KB of JSON each, from 16 clients.",
        cells: cells(three, .large)),
      Scenario(
        name: "burst", title: "A burst",
        text: "Ten times the usual rate for a while: how far behind it gets, and for how long.",
        cells: faults(both) { $0.burst = true }),
      Scenario(
        name: "slow-clients", title: "Clients that read slowly",
        text:
          "Fast reads from 16 clients while 32 others take 1 MB at 100 KB a second, with nginx's buffers and without.",
        cells: [true, false].flatMap { buffered in
          cells(both, .read) {
            $0.others = .slowReaders(32)
            // Until all of them have something to read.
            $0.warmUp = quick ? 0.6 : 2
            $0.isBuffered = buffered
          }
        }),
      Scenario(
        name: "idle-clients", title: "Connections that do nothing",
        text: "Reads from 16 clients while \(quick ? "2,000" : "10,000") other connections to nginx are open and idle.",
        cells: cells(both, .read) { $0.others = .idleClients(quick ? 2000 : 10_000) }),
      Scenario(
        name: "idle-fastcgi", title: "FastCGI connections that do nothing",
        text:
          "Reads from 16 clients while \(connections) connections to the responder itself are open and idle, as a web server's kept ones are.",
        cells: cells(both, .read) {
          $0.others = .idlePeers(connections)
          $0.seconds = quick ? 0.6 : nil
        }),
      Scenario(
        name: "few-connections", title: "Fewer database connections than the pool wants",
        text: "The database lets in 4, the responders are set up for \(connections); 16 clients.",
        cells: cells(both, .read) { $0.connectionLimit = 4 }),
      Scenario(
        name: "kill", title: "A process is killed", text: "kill -9 of a worker, or of the loop, under a steady rate.",
        cells: faults(both) { $0.disturbance = Disturbance(.killWorker, after: extent.faultSeconds * 0.3) }),
      Scenario(
        name: "restart", title: "PostgreSQL is restarted", text: "A fast shutdown and a start, under a steady rate.",
        cells: faults(both) { $0.disturbance = Disturbance(.restartPostgres, after: extent.faultSeconds * 0.3) }),
      Scenario(
        name: "reload", title: "A reload", text: "HUP: the program is replaced, under a steady rate.",
        cells: faults(both) { $0.disturbance = Disturbance(.reload, after: extent.faultSeconds * 0.3) }),
      Scenario(
        name: "fairness", title: "Four kinds of fairness",
        text:
          "\(quick ? "Reads" : "Reads and writes") from 64 clients, with what each may have made equal in four ways.",
        cells: (quick ? [Cell.Work.read] : [.read, .write]).flatMap { work in
          Fairness.allCases.filter { $0 != .cpu || canPin }.flatMap { fairness in
            fair(both, fairness, work, calibration).map { setup in
              var cell = Cell(setup, work)
              cell.fairness = fairness
              cell.concurrency = 64
              return cell
            }
          }
        }),
    ]
    if handicap {
      var slower = prefork
      slower.handicap = calibration.handicap
      scenarios.append(
        Scenario(
          name: "handicap", title: "A model that is made slower on purpose",
          text:
            "The pool against itself computing for \(calibration.handicap) µs more, which makes a small read of no table a fifth slower; one client.",
          cells: cells([prefork, slower], .slow) {
            $0.concurrency = 1
            $0.seconds = max(1, extent.seconds)
          }))
    }
    return scenarios
  }

  /// The setups of a fairness.
  private static func fair(_ setups: [Setup], _ fairness: Fairness, _ work: Cell.Work, _ calibration: Calibration)
    -> [Setup]
  {
    switch fairness {
    case .connections: return setups
    case .memory:
      return setups.map {
        var setup = $0
        if setup.model == .loop { setup.connections = calibration.equalMemory }
        return setup
      }
    case .cpu:
      return setups.map {
        var setup = $0
        setup.isPinned = true
        return setup
      }
    case .best: return calibration.best[work.rawValue] ?? setups
    }
  }
}
