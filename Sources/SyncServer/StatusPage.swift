// The pool's state for machines: JSON under /sync/status, OpenMetrics under /sync/metrics.

import Glibc
import JSON
import Platform
import ProcessPool

/// The pool at one moment.
struct StatusPage {
  let pool: PoolConfiguration
  let generation: Int
  /// Idle connections that the web server keeps.
  let parked: Int
  let workers: [WorkerReport]
  let totals: Totals
  /// nil where the kernel does not tell.
  let queue: (waiting: Int, most: Int)?
  let counters: Counters
  let now: UInt64

  struct Counters {
    var startedAt: UInt64
    var slowRequests: UInt64
    var recycled: UInt64
    var timedOut: UInt64
    var shed: UInt64
    var gone: UInt64
    var crashed: UInt64
    var reloads: UInt64
    var maxChildrenReached: UInt64
    var maxActive: UInt64
    var maxQueue: UInt64
  }

  init(_ state: PoolState) {
    let scoreboard = state.scoreboard
    pool = state.pool
    generation = state.generation
    parked = state.parked
    workers = scoreboard.reports()
    totals = scoreboard.poolTotals()
    queue = ListeningSocket.queue(of: state.listener)
    let header = scoreboard.header
    counters = Counters(
      startedAt: header.pointee.startedAt.load(ordering: .relaxed),
      slowRequests: header.pointee.slowRequests.load(ordering: .relaxed),
      recycled: header.pointee.recycled.load(ordering: .relaxed),
      timedOut: header.pointee.timedOut.load(ordering: .relaxed),
      shed: header.pointee.shed.load(ordering: .relaxed),
      gone: header.pointee.gone.load(ordering: .relaxed),
      crashed: header.pointee.crashed.load(ordering: .relaxed),
      reloads: header.pointee.reloads.load(ordering: .relaxed),
      maxChildrenReached: header.pointee.maxChildrenReached.load(ordering: .relaxed),
      maxActive: header.pointee.maxActive.load(ordering: .relaxed),
      maxQueue: header.pointee.maxQueue.load(ordering: .relaxed))
    now = MonotonicClock.now
  }

  func count(_ state: WorkerState) -> Int { workers.count { $0.state == state } }
  var active: Int { workers.count { $0.state.isServing } }

  /// `status` as JSON: the names are PHP-FPM's where it has one.
  func json() -> [UInt8] {
    var writer = JSONWriter(capacity: 16 << 10)
    func key(_ name: StaticString, _ writer: inout JSONWriter) {
      writer.raw(",\"")
      writer.raw(name)
      writer.raw("\":")
    }
    func number(_ name: StaticString, _ value: some BinaryInteger, _ writer: inout JSONWriter) {
      key(name, &writer)
      writer.integer(value)
    }
    func text(_ name: StaticString, _ value: String, _ writer: inout JSONWriter) {
      key(name, &writer)
      writer.string(value)
    }
    func seconds(_ name: StaticString, _ nanoseconds: UInt64, _ writer: inout JSONWriter) {
      key(name, &writer)
      writer.raw(OpenMetrics.seconds(nanoseconds).utf8.span)
    }
    writer.raw(#"{"mode":"sync""#)
    text("process_manager", pool.mode.rawValue, &writer)
    number("master", getpid(), &writer)
    number("start_time", counters.startedAt, &writer)
    number("start_since", max(0, time(nil) - Int(counters.startedAt)), &writer)
    number("generation", generation, &writer)
    number("reloads", counters.reloads, &writer)
    number("accepted_connections", totals.connections, &writer)
    number("requests", totals.requests, &writer)
    seconds("busy_seconds", totals.busy, &writer)
    seconds("database_seconds", totals.database, &writer)
    key("listen_queue", &writer)
    writer.raw((queue.map { String($0.waiting) } ?? "null").utf8.span)
    key("listen_queue_length", &writer)
    writer.raw((queue.map { String($0.most) } ?? "null").utf8.span)
    number("max_listen_queue", counters.maxQueue, &writer)
    number("parked_connections", parked, &writer)
    number("workers_idle", count(.idle), &writer)
    number("workers_active", active, &writer)
    number("workers_starting", count(.starting), &writer)
    number("workers_total", workers.count, &writer)
    number("workers_max", pool.workers, &writer)
    number("max_active_workers", counters.maxActive, &writer)
    number("max_workers_reached", counters.maxChildrenReached, &writer)
    number("slow_requests", counters.slowRequests, &writer)
    number("timed_out_requests", counters.timedOut, &writer)
    number("shed_requests", counters.shed, &writer)
    number("gone_requests", counters.gone, &writer)
    number("recycled_workers", counters.recycled, &writer)
    number("crashed_workers", counters.crashed, &writer)
    writer.raw(#","workers":["#)
    for (index, worker) in workers.enumerated() {
      writer.raw(index > 0 ? #",{"slot":"# : #"{"slot":"#)
      writer.integer(worker.slot)
      number("pid", worker.process, &writer)
      number("generation", worker.generation, &writer)
      text("state", worker.state.name, &writer)
      seconds("state_since", now - min(worker.since, now), &writer)
      seconds("started_since", now - min(worker.started, now), &writer)
      number("connections", worker.totals.connections, &writer)
      number("requests", worker.totals.requests, &writer)
      seconds("last_seconds", worker.lastDuration, &writer)
      seconds("busy_seconds", worker.totals.busy, &writer)
      text("method", worker.method, &writer)
      text("path", worker.path, &writer)
      text("request_id", worker.requestID, &writer)
      number("rss_bytes", Memory.resident(of: worker.process), &writer)
      writer.raw("}")
    }
    writer.raw("]}")
    return writer.take()
  }

  /// OpenMetrics 1.0 text.
  func metrics() -> [UInt8] {
    var text = OpenMetrics(prefix: "forkloop_sync")
    text.family("workers", "gauge", "Workers by what they are doing.")
    for state in WorkerState.allCases where state != .vacant {
      text.sample("workers", labels: "state=\"\(state.name)\"", String(count(state)))
    }
    text.gauge("workers_max", "The most workers that there may be.", pool.workers)
    text.gauge("workers_active_max", "The most workers that were busy at once.", counters.maxActive)
    if let queue {
      text.gauge("listen_queue", "Connections that wait to be accepted.", queue.waiting)
      text.gauge("listen_queue_limit", "How many may wait.", queue.most)
    }
    text.gauge("listen_queue_max", "The most that were seen waiting.", counters.maxQueue)
    text.gauge("parked_connections", "Idle connections that the web server keeps.", parked)
    text.counter("connections", "Connections accepted.", totals.connections)
    text.counter("slow_requests", "Requests that took longer than --slow.", counters.slowRequests)
    text.counter("timed_out_requests", "Requests that took longer than --request-timeout.", counters.timedOut)
    text.counter("shed_requests", "Requests that waited longer than --max-queue-wait.", counters.shed)
    text.counter("workers_recycled", "Workers that were replaced.", counters.recycled)
    text.counter("gone_requests", "Requests whose client had gone before their answer.", counters.gone)
    text.counter("workers_crashed", "Workers that ended otherwise.", counters.crashed)
    text.counter(
      "workers_limit_reached", "Times that a worker more was wanted than there may be.", counters.maxChildrenReached)
    text.counter("reloads", "Reloads.", counters.reloads)
    text.secondsCounter("database_seconds", "Time in the database.", totals.database)
    text.latency("request_seconds", "Time from accepting a connection to the answer's end.", totals)
    return text.finished()
  }
}
