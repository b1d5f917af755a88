import Platform
import Synchronization
import Testing

@testable import ProcessPool

@Suite("The pool's plan")
struct PoolPlanTests {
  typealias Census = PoolPlan.Census

  @Test("static always fills up, and shrinks when fewer are allowed")
  func fixed() {
    var plan = PoolPlan()
    let pool = PoolConfiguration(workers: 8)
    #expect(plan.change(Census(total: 5, idle: 1), pool).start == 3)
    #expect(plan.change(Census(total: 8, idle: 8), pool) == PoolPlan.Change())
    #expect(plan.change(Census(total: 10, idle: 0), pool) == PoolPlan.Change(retire: 2))
    #expect(PoolPlan.initial(pool) == 8)
  }

  @Test("dynamic doubles what it starts at once while idle workers are short, and begins anew after a rest")
  func doubles() {
    var plan = PoolPlan()
    let pool = PoolConfiguration(mode: .dynamic, workers: 1000, start: 2, minSpare: 100, maxSpare: 200)
    let starts = (0..<8).map { _ in plan.change(Census(total: 10), pool).start }
    #expect(starts == [1, 2, 4, 8, 16, 32, 32, 32])
    #expect(plan.change(Census(total: 300, idle: 150), pool) == PoolPlan.Change())
    #expect(plan.change(Census(total: 10), pool).start == 1)
  }

  @Test("dynamic lets one go at a time above the most spare, and says when it is at its limit")
  func dynamicLimits() {
    var plan = PoolPlan()
    let pool = PoolConfiguration(mode: .dynamic, workers: 10, start: 20, minSpare: 1, maxSpare: 4)
    #expect(plan.change(Census(total: 10, idle: 9), pool) == PoolPlan.Change(retire: 1))
    #expect(plan.change(Census(total: 5, idle: 4), pool) == PoolPlan.Change())
    #expect(plan.change(Census(total: 10, idle: 0), pool) == PoolPlan.Change(start: 0, retire: 0, isAtLimit: true))
    #expect(PoolPlan.initial(pool) == 10, "never more than are allowed")
  }

  @Test("ondemand starts as many as wait and are not on their way yet, and lets go who was idle too long")
  func ondemand() {
    var plan = PoolPlan()
    let pool = PoolConfiguration(mode: .ondemand, workers: 4)
    #expect(PoolPlan.initial(pool) == 0)
    #expect(plan.change(Census(waiting: 1), pool).start == 1)
    #expect(plan.change(Census(total: 1, starting: 1, waiting: 1), pool).start == 0)
    #expect(plan.change(Census(total: 1, starting: 1, waiting: 9), pool).start == 3)
    #expect(plan.change(Census(total: 1, idle: 1, waiting: 1), pool).start == 0, "there is one who will take it")
    #expect(plan.change(Census(total: 4, waiting: 3), pool).isAtLimit)
    #expect(plan.change(Census(total: 3, idle: 2, idleTooLong: 2), pool).retire == 2)
  }
}

@Suite("Backoff")
struct BackoffTests {
  static let second: UInt64 = 1_000_000_000

  @Test("doubles from a tenth of a second to half a minute, and forgets after a healthy minute")
  func doubles() {
    var backoff = Backoff()
    var now = 1000 * Self.second
    var pauses: [UInt64] = []
    for _ in 0..<11 {
      backoff.failed(now: now, jitter: 0)
      pauses.append((backoff.until - now) / 1_000_000)
      #expect(backoff.isWaiting(now) && !backoff.isWaiting(backoff.until))
      now = backoff.until
    }
    #expect(pauses == [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000])
    #expect(backoff.recentFailures(now) == 11)
    now += 61 * Self.second
    #expect(backoff.recentFailures(now) == 0, "after a healthy minute as many are started as are wanted")
    backoff.failed(now: now, jitter: 0)
    #expect(backoff.recentFailures(now) == 1)
  }

  @Test("is shortened by up to a half")
  func jitter() {
    var backoff = Backoff()
    backoff.failed(now: 100 * Self.second, jitter: 1)
    #expect(backoff.until - 100 * Self.second == Backoff.shortest / 2)
  }
}

@Suite("The scoreboard")
struct ScoreboardTests {
  @Test("shows what a worker writes, and keeps its counts when it has gone")
  func shows() throws {
    let scoreboard = try #require(try Scoreboard())
    #expect(scoreboard.reports().isEmpty)
    let index = try #require(scoreboard.vacantSlot)
    scoreboard.reserve(index, generation: 7, now: 1)
    var slot = WorkerSlot(scoreboard, index)
    #expect(scoreboard.report(index)?.state == .starting)
    slot.isReady()
    slot.accepted(afterBlocking: true)
    #expect(scoreboard.report(index)?.state == .reading)
    slot.shows(method: "DELETE", path: Array("/sync/order/1".utf8).span, requestID: Array("id-1".utf8).span)
    slot.asksDatabase()
    #expect(scoreboard.report(index)?.state == .database)
    slot.hasDatabasesAnswer()
    let timing = slot.writes()
    #expect(timing.application > 0)
    slot.answered()
    slot.accepted(afterBlocking: true)
    #expect(scoreboard.report(index)?.path == "", "while a request comes in, the one before is not shown")
    slot.cameToNothing()
    let report = try #require(scoreboard.report(index))
    #expect(report.generation == 7 && report.state == .idle)
    #expect((report.method, report.path, report.requestID) == ("DELETE", "/sync/order/1", "id-1"))
    #expect((report.totals.connections, report.totals.requests, report.totals.latency.reduce(0, +)) == (2, 1, 1))
    let before = scoreboard.poolTotals()
    scoreboard.vacate(index)
    #expect(scoreboard.reports().isEmpty)
    #expect(scoreboard.poolTotals() == before)
    #expect(scoreboard.vacantSlot == index)
  }

  @Test("cuts off what is too long to show, and shows nothing of the request before")
  func cuts() throws {
    let scoreboard = try #require(try Scoreboard())
    scoreboard.reserve(3, generation: 1, now: 1)
    let slot = WorkerSlot(scoreboard, 3)
    let long = [UInt8](repeating: 0x61, count: 500)
    slot.shows(method: "PROPFINDER", path: long.span, requestID: long.span)
    let first = try #require(scoreboard.report(3))
    #expect((first.method, first.path.count, first.requestID.count) == ("PROPFIND", 120, 64))
    slot.shows(method: "GET", path: Array("/".utf8).span, requestID: [UInt8]().span)
    let second = try #require(scoreboard.report(3))
    #expect((second.method, second.path, second.requestID) == ("GET", "/", ""))
  }

  @Test("is taken over by the program that comes after, but for another layout")
  func inherited() throws {
    let first = try #require(try Scoreboard())
    first.reserve(0, generation: 1, now: 5)
    let second = try #require(try Scoreboard(inherited: first.descriptor))
    #expect(second.report(0)?.started == 5)
    first.header.pointee.magic.store(1, ordering: .relaxed)
    #expect(try Scoreboard(inherited: first.descriptor) == nil)
  }

  @Test(
    "puts each duration into its bucket",
    arguments: [(0, 0), (100_000, 0), (100_001, 1), (1_000_000, 3), (30_000_000_000, 16), (30_000_000_001, 17)])
  func buckets(_ nanoseconds: UInt64, _ bucket: Int) { #expect(Latency.bucket(nanoseconds) == bucket) }
}

@Suite("How long a connection has waited")
struct ArrivalTests {
  static let millisecond: UInt64 = 1_000_000

  @Test("is known from looks at the queue, whoever accepts")
  func waits() throws {
    let scoreboard = try #require(try Scoreboard())
    let limit = 100 * Self.millisecond
    // At 1000 ms two have come; at 1050 ms five; nobody has been accepted.
    scoreboard.sampleArrivals(now: 1000 * Self.millisecond) { 2 }
    scoreboard.sampleArrivals(now: 1050 * Self.millisecond) { 5 }
    let late = (0..<6).map { _ in scoreboard.acceptedOneThatWaited(longerThan: limit, now: 1120 * Self.millisecond) }
    #expect(late == [true, true, false, false, false, false])
    // What was accepted is counted from then on.
    scoreboard.sampleArrivals(now: 1200 * Self.millisecond) { 1 }
    #expect(!scoreboard.acceptedOneThatWaited(longerThan: limit, now: 1300 * Self.millisecond))
    #expect(!scoreboard.acceptedOneThatWaited(longerThan: limit, now: 1400 * Self.millisecond))
  }

  @Test("is known when both counters go round")
  func goesRound() throws {
    let scoreboard = try #require(try Scoreboard())
    scoreboard.header.pointee.accepted.store(UInt64(UInt32.max) - 1, ordering: .relaxed)
    let now = (UInt64(UInt32.max) - 10) * Self.millisecond
    scoreboard.sampleArrivals(now: now) { 3 }
    let late = (0..<4).map { _ in
      scoreboard.acceptedOneThatWaited(longerThan: 20 * Self.millisecond, now: now + 50 * Self.millisecond)
    }
    #expect(late == [true, true, true, false])
  }
}

@Suite("What a master leaves behind")
struct InheritanceTests {
  @Test("comes back as it was, in the same process only")
  func roundTrip() {
    var left = Inheritance(
      listener: 5, address: "unix:/run/a b.sock", status: -1, statusAddress: "", scoreboard: 7, generation: 3,
      workers: [11, 12])
    #expect(Inheritance(left.text) == left)
    #expect(left.descriptors == [5, 7])
    left.kept = [23, 9, 24, 10]
    left.parked = [30] + Array(40...20_000) + [20_002]
    left.movedAt = 2
    left.formers = [.init(number: 6, address: "unix:/run/c d.sock"), .init(number: 8, address: "[::1]:9000")]
    #expect(Inheritance(left.text) == left)
    #expect(left.text.utf8.count < 250)
    #expect(Inheritance("1\n" + left.text.split(separator: "\n", maxSplits: 1)[1]) == nil)
    #expect(Inheritance("nonsense") == nil)
  }
}

@Suite("The status")
struct StatusPageTests {
  @Test(
    "tells seconds exactly",
    arguments: [(0, "0.0"), (1, "0.000000001"), (1_500_000_000, "1.5"), (30_000_000_000, "30.0"), (250_000, "0.00025")])
  func seconds(_ nanoseconds: UInt64, _ text: String) { #expect(OpenMetrics.seconds(nanoseconds) == text) }

  @Test("keeps the database's limit below the request's")
  func statementTimeout() {
    var limits = WorkerLimits()
    #expect(limits.statementTimeout(15_000) == 15_000)
    limits.requestTime = 10_000_000_000
    #expect(limits.statementTimeout(15_000) == 9_000)
    #expect(limits.statementTimeout(500) == 500)
  }
}

@Suite("The scoreboard's layout")
struct ScoreboardLayoutTests {
  @Test("the count of lost lines stands behind the header")
  func lostLines() throws {
    let scoreboard = try #require(try Scoreboard())
    scoreboard.lostLines.pointee.store(3, ordering: .relaxed)
    #expect(UnsafeRawPointer(scoreboard.lostLines) >= UnsafeRawPointer(scoreboard.header + 1))
    #expect(UnsafeRawPointer(scoreboard.lostLines) < UnsafeRawPointer(scoreboard.slot(0)))
  }
}
