// The loops' state for machines: JSON under /async/status, OpenMetrics under /async/metrics. The loop that is asked answers,
// for itself from its own memory and for all from the scoreboard.

import EventLoop
import Glibc
import JSON
import Platform
import ProcessPool

/// One loop, and what all have done, at one moment.
struct StatusPage {
  let health: LoopHealth
  let buffers: BufferUse
  let pool: DatabasePool
  /// Connections of this loop, and requests that have no answer yet.
  let connections: Int
  let underWay: Int
  let context: WorkerContext
  /// nil where the kernel does not tell.
  let listenQueue: (waiting: Int, most: Int)?

  private var scoreboard: Scoreboard { context.scoreboard }

  func json() -> [UInt8] {
    var writer = JSONWriter(capacity: 4 << 10)
    func key(_ name: StaticString, _ writer: inout JSONWriter) {
      writer.raw(",\"")
      writer.raw(name)
      writer.raw("\":")
    }
    func number(_ name: StaticString, _ value: some BinaryInteger, _ writer: inout JSONWriter) {
      key(name, &writer)
      writer.integer(value)
    }
    func seconds(_ name: StaticString, _ nanoseconds: UInt64, _ writer: inout JSONWriter) {
      key(name, &writer)
      writer.raw(OpenMetrics.seconds(nanoseconds).utf8.span)
    }
    let totals = scoreboard.poolTotals()
    let loops = scoreboard.reports()
    let header = scoreboard.header
    writer.raw(#"{"mode":"async""#)
    number("master", context.master, &writer)
    number("pid", getpid(), &writer)
    let startedAt = header.pointee.startedAt.load(ordering: .relaxed)
    number("start_time", startedAt, &writer)
    number("start_since", max(0, time(nil) - Int(startedAt)), &writer)
    number("reloads", header.pointee.reloads.load(ordering: .relaxed), &writer)
    number("crashed_loops", header.pointee.crashed.load(ordering: .relaxed), &writer)
    number("accepted_connections", totals.connections, &writer)
    number("requests", totals.requests, &writer)
    seconds("request_seconds", totals.busy, &writer)
    key("listen_queue", &writer)
    writer.raw((listenQueue.map { String($0.waiting) } ?? "null").utf8.span)
    key("listen_queue_length", &writer)
    writer.raw((listenQueue.map { String($0.most) } ?? "null").utf8.span)
    number("connections", connections, &writer)
    number("requests_under_way", underWay, &writer)
    writer.raw(#","loop":{"turns":"#)
    writer.integer(health.turns.count)
    number("jobs", health.jobs, &writer)
    seconds("busy_seconds", health.turns.sum, &writer)
    seconds("longest_turn_seconds", health.turns.longest, &writer)
    number("slow_turns", health.slowTurns, &writer)
    number("timers", health.lags.count, &writer)
    seconds("lag_seconds", health.lags.sum, &writer)
    seconds("longest_lag_seconds", health.lags.longest, &writer)
    writer.raw(#"},"memory":{"heap_bytes":"#)
    writer.integer(Memory.heap)
    number("allocations_avoided", buffers.reused, &writer)
    number("backlogged_answers", buffers.backlogged, &writer)
    writer.raw(#"},"database":{"queue":"#)
    writer.integer(pool.queueLength)
    number("slow_queue", pool.slowQueueLength, &writer)
    number("queue_length", pool.queueLimit, &writer)
    number("statements", pool.counters.statements, &writer)
    number("shared_reads", pool.counters.shared, &writer)
    number("refused", pool.counters.refused, &writer)
    number("repeated_reads", pool.counters.repeated, &writer)
    number("abandoned", pool.counters.abandoned, &writer)
    number("cancelled", pool.counters.cancelled, &writer)
    writer.raw(#","connections":["#)
    for (index, connection) in pool.connections.enumerated() {
      if index > 0 { writer.raw(",") }
      writer.raw(#"{"state":"#)
      writer.string(connection.isReady ? "ready" : "connecting")
      number("depth", connection.depth, &writer)
      writer.raw("}")
    }
    writer.raw(#"]},"loops":["#)
    for (index, loop) in loops.enumerated() {
      writer.raw(index > 0 ? #",{"slot":"# : #"{"slot":"#)
      writer.integer(loop.slot)
      number("pid", loop.process, &writer)
      number("generation", loop.generation, &writer)
      key("state", &writer)
      writer.string(loop.state == .idle ? "serving" : loop.state.name)
      number("connections", loop.open, &writer)
      number("accepted_connections", loop.totals.connections, &writer)
      number("requests", loop.totals.requests, &writer)
      number("rss_bytes", Memory.resident(of: loop.process), &writer)
      writer.raw("}")
    }
    writer.raw("]}")
    return writer.take()
  }

  func metrics() -> [UInt8] {
    let totals = scoreboard.poolTotals()
    let loops = scoreboard.reports()
    let header = scoreboard.header
    var text = OpenMetrics(prefix: "forkloop_async")
    text.gauge("loops", "Loops.", loops.count)
    text.family("open_connections", "gauge", "Connections of the web server.")
    for loop in loops { text.sample("open_connections", labels: "slot=\"\(loop.slot)\"", String(loop.open)) }
    text.counter("connections", "Connections accepted.", totals.connections)
    text.counter("reloads", "Reloads.", header.pointee.reloads.load(ordering: .relaxed))
    text.counter("loops_crashed", "Loops that died.", header.pointee.crashed.load(ordering: .relaxed))
    if let listenQueue {
      text.gauge("listen_queue", "Connections that wait to be accepted.", listenQueue.waiting)
      text.gauge("listen_queue_limit", "How many may wait.", listenQueue.most)
    }
    text.gauge("requests_under_way", "Requests that the answering loop has not answered yet.", underWay)
    text.histogram("turn_seconds", "Turns of the answering loop: from events to the next wait.", health.turns)
    text.counter("slow_turns", "Turns of the answering loop longer than --slow-turn.", health.slowTurns)
    text.secondsGauge("longest_turn_seconds", "The longest turn of the answering loop.", health.turns.longest)
    text.histogram("timer_lag_seconds", "By how much timers of the answering loop were late.", health.lags)
    text.secondsGauge("longest_timer_lag_seconds", "The most that one of them was late.", health.lags.longest)
    text.gauge("heap_bytes", "Memory that the answering loop has allocated.", Memory.heap)
    text.counter(
      "allocations_avoided", "Reads and answers for which a buffer of the answering loop's was used again.",
      buffers.reused)
    text.counter(
      "backlogged_answers", "Answers of which something had to wait for a later turn.", buffers.backlogged)
    text.gauge("database_queue", "Statements of the answering loop that wait for a pipeline.", pool.queueLength)
    text.gauge(
      "database_slow_queue", "Those that wait for a connection to themselves, since they are slow.",
      pool.slowQueueLength)
    text.gauge("database_queue_limit", "How many may wait in each.", pool.queueLimit)
    text.family("database_pipeline_depth", "gauge", "Statements on their way, by connection of the answering loop.")
    for (index, connection) in pool.connections.enumerated() {
      text.sample("database_pipeline_depth", labels: "connection=\"\(index)\"", String(connection.depth))
    }
    text.gauge("database_connections", "Database connections that are up.", pool.connections.count { $0.isReady })
    text.counter("database_statements", "Statements that were sent by the answering loop.", pool.counters.statements)
    text.counter("shared_reads", "Requests that were answered by another's statement.", pool.counters.shared)
    text.counter("repeated_reads", "Statements that were sent again on another connection.", pool.counters.repeated)
    text.counter("refused_requests", "Requests that found the database away or its queue full.", pool.counters.refused)
    text.counter("abandoned_requests", "Requests whose client had gone before they were sent.", pool.counters.abandoned)
    text.counter(
      "cancelled_statements", "Statements that were given up since their clients had gone.", pool.counters.cancelled)
    text.latency("request_seconds", "Time from a request's last byte to its answer.", totals)
    return text.finished()
  }
}
