// A comparison from its start to its report.

import Glibc
import LoadGenerator
import LocalStack
import Platform

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// What a comparison is told.
package struct ComparisonOptions: Sendable {
  package var extent: Extent
  /// Names of scenarios; empty: all.
  package var scenarios: [String] = []
  package var handicap = false

  package init(extent: Extent) { self.extent = extent }
}

/// Runs scenarios on a testbed. One thread, which waits for the generator, a process of its own.
package final class Comparison {
  private let options: ComparisonOptions
  let testbed: Testbed
  let progress: Progress
  let shouldStop: () -> Bool
  var report = Report()
  /// Whether the database is as runs should find it.
  private var isClean = true
  private var seed: UInt64 = 1

  /// Somebody wants no more of it.
  struct Interrupted: Error {}

  package init(
    _ options: ComparisonOptions, _ testbed: Testbed, machine: Machine, progress: Progress,
    unless shouldStop: @escaping () -> Bool
  ) {
    self.options = options
    self.testbed = testbed
    self.progress = progress
    self.shouldStop = shouldStop
    report.machine = machine
    report.isQuick = options.extent.isQuick
    report.repeats = options.extent.repeats
  }

  /// Runs everything; where it is interrupted, or fails, what had been done by then. `keep` is given the report after each
  /// scenario.
  package func run(keeping keep: (Report) throws -> Void) throws(LocalStackError) -> Report {
    let began = MonotonicClock.now
    report.started = Date().formatted(.iso8601)
    do {
      progress.say("making a scratch database in \(testbed.folders.state)")
      try testbed.setUp()
      try compareAnswers()
      try calibrate()
      try runScenarios {
        report.seconds = Double(MonotonicClock.now - began) / 1e9
        try keep(report)
      }
      report.isComplete = true
    } catch is Interrupted {
      progress.say("stopped: what had been done by then is in the report")
    } catch {
      if shouldStop() {
        progress.say("stopped")
      } else {
        report.failure = "\(error)"
      }
    }
    // Of the last scenario every cell should have been run.
    report.scenarios.removeAll { $0.cells.contains { $0.samples.isEmpty } }
    if let failure = report.failure, report.scenarios.isEmpty { throw LocalStackError(failure) }
    report.seconds = Double(MonotonicClock.now - began) / 1e9
    return report
  }

  // MARK: Before the scenarios

  /// Beside prefork and loop.
  var others: [Model] {
    let tools = testbed.tools
    return [.preforkDynamic] + (tools.fcgiwrap == nil ? [] : [.cgi]) + (tools.php == nil ? [] : [.php])
      + (tools.python == nil ? [] : [.fastapi])
  }

  private func calibrate() throws {
    progress.say("finding out what this machine can do")
    var ceiling = LoadPlan(
      port: testbed.port, [RequestKind("static", "/favicon.svg")], connections: 64, seconds: options.extent.seconds)
    ceiling.warmUp = options.extent.warmUp
    report.ceiling = try generate(ceiling, nil) { _ in }.throughput

    var calibration = Calibration()
    let prefork = Setup(.prefork, connections: Scenarios.connections)
    let loop = Setup(.loop, connections: Scenarios.connections)
    func sample(_ setup: Setup, _ work: Cell.Work = .read, concurrency: Int = 64) throws -> Sample {
      var cell = Cell(setup, work)
      cell.concurrency = concurrency
      return try measure(cell)
    }
    let (pool, small) = (try sample(prefork), try sample(loop))
    calibration.capacity = max(pool.load.throughput, small.load.throughput, 100)
    let alone = try (0..<3).map { _ in try sample(prefork, .slow, concurrency: 1).load.latencies.p50 }
    calibration.handicap = max(1, Int((Statistics.median(alone) / 4).rounded()))

    var many = loop
    many.connections = 4 * Scenarios.connections
    let large = try sample(many)
    func memory(_ sample: Sample) -> Double { Double(sample.responderMemory + sample.postgresMemory) }
    let perConnection = (memory(large) - memory(small)) / Double(many.connections - loop.connections)
    if perConnection > 0 {
      let spare = ((memory(pool) - memory(small)) / perConnection).rounded(.down)
      calibration.equalMemory = min(128, max(1, Scenarios.connections + Int(spare)))
    }

    // Only for those who ask for it: it takes long.
    if wants("fairness") {
      for work in options.extent.isQuick ? [Cell.Work.read] : [.read, .write] {
        var best: [Setup] = []
        for model in [Model.prefork, .loop] {
          var candidates = [2, 4, 8, 16, 32].map { Setup(model, connections: $0) }
          if model == .loop, testbed.tools.processors.servers.count > 1 {
            for var setup in candidates where setup.connections >= 4 {
              setup.loops = 2
              candidates.append(setup)
            }
          }
          var fastest: (setup: Setup, throughput: Double)?
          for setup in candidates {
            let throughput = try sample(setup, work).load.throughput
            if throughput > fastest?.throughput ?? 0 { fastest = (setup, throughput) }
          }
          if let fastest { best.append(fastest.setup) }
        }
        calibration.best[work.rawValue] = best
      }
    }
    report.calibration = calibration
  }

  private func wants(_ name: String) -> Bool { options.scenarios.isEmpty || options.scenarios.contains(name) }

  // MARK: The scenarios

  private func runScenarios(_ keep: () throws -> Void) throws {
    let scenarios = Scenarios.all(
      options.extent, report.calibration, others: others,
      canPin: testbed.tools.taskset != nil, handicap: options.handicap
    ).filter { wants($0.name) || (options.handicap && $0.name == "handicap") }
    progress.begin(
      scenarios.flatMap(\.cells).map(seconds),
      passes: 2 * options.extent.repeats)
    for scenario in scenarios {
      report.scenarios.append(ScenarioResult(scenario))
      let index = report.scenarios.count - 1
      // There and back: what drifts with time meets both ends alike.
      for pass in 0..<(2 * options.extent.repeats) {
        let order = pass % 2 == 0 ? Array(scenario.cells.indices) : scenario.cells.indices.reversed()
        for cell in order {
          let setup = scenario.cells[cell].setup
          progress.tell(scenario.title, setup.model.title, pass: pass + 1, of: 2 * options.extent.repeats)
          report.scenarios[index].cells[cell].samples.append(try measure(scenario.cells[cell]))
          progress.did(seconds(scenario.cells[cell]))
        }
      }
      progress.finished(scenario.title)
      try keep()
    }
  }

  /// That a run of it takes at least.
  private func seconds(_ cell: Cell) -> Double {
    (cell.seconds ?? options.extent.seconds) + (cell.warmUp ?? options.extent.warmUp)
  }

  /// Runs a cell once.
  private func measure(_ cell: Cell) throws -> Sample {
    if shouldStop() { throw Interrupted() }
    if !isClean {
      testbed.stopResponder()
      try testbed.resetDatabase()
    }
    isClean = !cell.writes
    try testbed.setNginx(cell.nginx)
    if cell.connectionLimit != nil { try testbed.limitConnections(to: cell.connectionLimit) }
    let startSeconds = try testbed.start(cell.setup, cell.work.application)
    seed += 1
    let plan = cell.plan(
      port: testbed.port, run: testbed.folders.run, seconds: options.extent.seconds,
      warmUp: cell.warmUp ?? options.extent.warmUp,
      seed: seed)
    var before: Testbed.Snapshot?
    var sample = Sample(LoadResult())
    sample.load = try generate(plan, cell.disturbance) { moment in
      switch moment {
      case .warm: before = testbed.snapshot()
      case .measured:
        let after = testbed.snapshot()
        guard let before else { return }
        sample.nginx = after.nginx - before.nginx
        sample.responder = after.responder - before.responder
        sample.postgres = after.postgres - before.postgres
        (sample.responderMemory, sample.postgresMemory) = testbed.memory()
      }
    }
    sample.startSeconds = startSeconds
    testbed.stopResponder()
    if cell.connectionLimit != nil { try testbed.limitConnections(to: nil) }
    // Only where something happens is it of interest when.
    if cell.disturbance == nil, !cell.burst { sample.load.timeline = [] }
    return sample
  }

  /// Runs the generator and does what is to be done while it measures.
  private func generate(_ plan: LoadPlan, _ disturbance: Disturbance?, _ note: (LoadRun.Moment) -> Void) throws
    -> LoadResult
  {
    let path = "\(testbed.folders.state)/plan.json"
    try writeText(String(decoding: try JSONEncoder().encode(plan), as: UTF8.self), to: path)
    var generator = try Generator(testbed.tools, plan: path, log: "\(testbed.folders.log)/load.log")
    var due: (disturbance: Disturbance, at: UInt64)?
    while true {
      var wait: Duration = .milliseconds(200)
      if let pending = due {
        let now = MonotonicClock.now
        if now >= pending.at {
          due = nil
          try testbed.disturb(pending.disturbance.kind)
          continue
        }
        wait = .nanoseconds(Int64(min(pending.at - now, 200_000_000)))
      }
      if shouldStop() {
        generator.stop()
        throw Interrupted()
      }
      switch try generator.next(within: wait) {
      case .nothing: continue
      case .moment(let moment):
        note(moment)
        guard moment == .warm else { continue }
        // Not before it is known what had been used: on a busy machine that would be in the middle of the measurement, or later.
        generator.measure()
        if let disturbance { due = (disturbance, MonotonicClock.now + UInt64(disturbance.after * 1e9)) }
      case .result(let result): return result
      }
    }
  }
}
