// A load: connections as tasks of one loop, and what they see.
//
// In an open loop a latency counts from the moment at which the request was meant to be sent, also when it could not be sent
// then since all connections were waiting: a server that stands still for two seconds keeps everybody waiting who would have
// come in these two seconds, and not only those whom it had let in ("coordinated omission").

import CLinux
import EventLoop
import Glibc
import Histogram
import Platform

/// A load from its start to its result. Runs on the calling thread.
///
/// Unchecked Sendable: made and used on its loop's thread only.
package final class LoadRun: @unchecked Sendable {
  /// Of the time-line, in seconds.
  package static let interval = 0.1

  private let plan: LoadPlan
  private let loop: EventLoop
  private let address: sockaddr_in
  private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 128 << 10, alignment: 16)
  private var mix: RequestMix
  private var connections: [HTTPConnection] = []
  private var others: [HTTPConnection] = []
  private var idlePeers: [Int32] = []

  // Moments in monotonic nanoseconds: between which it is measured, once that is known.
  private var measured = UInt64.max
  private var end = UInt64.max
  private var arrivals: Arrivals?
  private var isStopped = false

  private var result = LoadResult()
  private var latencies: [Histogram<UInt32>]
  private var lateness = LoadRun.recorder()
  private let tell: (Moment) -> Void
  private let mayMeasure: () -> Bool

  /// What whoever watches may want to know at once: that the warm-up is over, and that the measurement is.
  package enum Moment: Sendable { case warm, measured }

  package struct Failure: Error, CustomStringConvertible {
    package let description: String
  }

  private static func recorder() -> Histogram<UInt32> { Latencies.recorder() }

  /// `tell` is called after the warm-up, which goes on until `mayMeasure`, and when the measurement ends.
  package init(
    _ plan: LoadPlan, tell: @escaping (Moment) -> Void = { _ in }, mayMeasure: @escaping () -> Bool = { true }
  ) throws(Failure) {
    if let fault = plan.fault { throw Failure(description: fault) }
    self.plan = plan
    self.tell = tell
    self.mayMeasure = mayMeasure
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = plan.port.bigEndian
    guard inet_pton(AF_INET, plan.host, &address.sin_addr) == 1 else {
      throw Failure(description: "'\(plan.host)' is no IPv4 address")
    }
    self.address = address
    mix = RequestMix(plan)
    latencies = plan.kinds.map { _ in Self.recorder() }
    result.kinds = plan.kinds.map { KindResult(name: $0.name) }
    do { loop = try EventLoop() } catch { throw Failure(description: "\(error)") }
    Descriptor.raiseLimit()
  }

  deinit { buffer.deallocate() }

  /// Runs it; what it came to. `shouldStop` is asked ten times a second.
  package func run(unless shouldStop: @escaping @Sendable () -> Bool = { false }) -> LoadResult {
    clinux_set_timer_slack(1)
    Task(executorPreference: loop) {
      await self.load(unless: shouldStop)
      self.loop.stop()
    }
    loop.run()
    return result
  }

  private func load(unless shouldStop: @escaping @Sendable () -> Bool) async {
    await connectOthers(unless: shouldStop)
    connections = (0..<plan.connections).map { _ in HTTPConnection(loop, address, buffer: buffer) }
    let start = MonotonicClock.now
    if let rate = plan.rate { arrivals = Arrivals(rate: rate, from: start) }
    result.timeline = Array(repeating: Interval(), count: max(1, Int((plan.seconds / Self.interval).rounded(.up))))
    await withTaskGroup { group in
      group.addTask { await self.keepTime(from: start, unless: shouldStop) }
      for connection in connections { group.addTask { await self.ask(on: connection) } }
      // Those who never end by themselves are let go with the last of those who do.
      for _ in 0...connections.count { await group.next() }
      group.cancelAll()
    }
    result.idle = others.count(where: \.isIdle) + idlePeers.count
    for number in idlePeers { close(number) }
    summarise()
  }

  // MARK: Asking

  private func ask(on connection: HTTPConnection) async {
    var request: [UInt8] = []
    while !isStopped {
      let intended: UInt64
      if plan.rate != nil {
        let now = MonotonicClock.now
        // What is still to be sent then is unsent.
        guard now < end, let moment = arrivals?.take() else { return }
        intended = moment
        if moment > now {
          await sleep(until: moment)
          // It may have been taken before the end was known.
          if isStopped || moment >= end { return }
          let late = MonotonicClock.now - moment
          if moment >= measured { lateness.record(min(late / 1000, Latencies.longest)) }
        }
      } else {
        intended = MonotonicClock.now
        guard intended < end else { return }
      }
      let kind = mix.next(into: &request)
      let outcome = await connection.exchange(request, isHead: mix.isHead(kind))
      // What was given up for the end's sake is nobody's failure.
      if isStopped { return }
      note(outcome, of: kind, intended: intended)
      // Where nobody answers, asking again at once would be a busy wait.
      if outcome == .broken { await loop.sleep(.milliseconds(10)) }
    }
  }

  /// In slices, so that somebody who wants no more of it need not wait for the slowest.
  private func sleep(until moment: UInt64) async {
    while !isStopped {
      let now = MonotonicClock.now
      guard now < min(moment, end) else { return }
      await loop.sleep(.nanoseconds(Int64(min(moment - now, 100_000_000))))
    }
  }

  private func note(_ outcome: HTTPConnection.Outcome, of kind: Int, intended: UInt64) {
    let now = MonotonicClock.now
    let microseconds = min((now - intended) / 1000, Latencies.longest)
    var isGood = false
    if case .answered(let status) = outcome, status < 400 { isGood = true }
    if now >= measured, now < end {
      let index = min(Int(Double(now - measured) / (Self.interval * 1e9)), result.timeline.count - 1)
      if isGood {
        result.completed += 1
        result.timeline[index].answered += 1
        result.timeline[index].longest = max(result.timeline[index].longest, Double(microseconds))
      } else {
        result.timeline[index].failed += 1
      }
    }
    guard intended >= measured, intended < end else { return }
    switch outcome {
    case .answered(let status):
      if isGood {
        result.kinds[kind].answered += 1
        latencies[kind].record(microseconds)
      } else {
        result.kinds[kind].refused["\(status)", default: 0] += 1
      }
    case .broken: result.kinds[kind].broken += 1
    case .timedOut: result.kinds[kind].timedOut += 1
    }
  }

  // MARK: Time

  /// Begins and ends the measurement, and gives up requests that take too long. Ends when the load does.
  private func keepTime(from start: UInt64, unless shouldStop: @escaping @Sendable () -> Bool) async {
    let limit = UInt64(plan.timeout * 1e9)
    let warm = start + UInt64(plan.warmUp * 1e9)
    var cpu = 0.0
    var (isWarm, hasBegun, hasEnded) = (false, false, false)
    while !hasEnded || connections.contains(where: \.isBusy) {
      var now = MonotonicClock.now
      if !isWarm, now >= warm {
        isWarm = true
        tell(.warm)
      }
      if isWarm, !hasBegun, mayMeasure() {
        hasBegun = true
        cpu = Self.cpuSeconds()
        now = MonotonicClock.now
        measured = now
        end = now + UInt64(plan.seconds * 1e9)
        arrivals?.measure(plan, from: measured, to: end)
      }
      if !hasEnded, now >= end || isStopped {
        hasEnded = true
        result.cpuSeconds = hasBegun ? Self.cpuSeconds() - cpu : 0
        result.seconds = Double(min(now, end) - min(measured, now)) / 1e9
        tell(.measured)
      }
      for connection in connections { connection.enforce(limit, now: now) }
      if !isStopped, shouldStop() {
        isStopped = true
        for connection in connections { connection.giveUp() }
      }
      let next = !isWarm ? warm : !hasBegun ? now + 1_000_000 : !hasEnded ? end : now + 20_000_000
      await loop.sleep(.nanoseconds(Int64(min(max(next, now) - now, 50_000_000))))
    }
  }

  private static func cpuSeconds() -> Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
  }

  private func summarise() {
    result.unsent = isStopped ? 0 : arrivals?.remaining(from: measured) ?? 0
    var all = Self.recorder()
    for index in latencies.indices {
      result.kinds[index].latencies = Latencies(latencies[index])
      all.add(latencies[index])
    }
    result.latencies = Latencies(all)
    result.lateness = lateness.totalCount > 0 ? Double(lateness.valueAtPercentile(99)) : 0
  }

  // MARK: Those who are only there

  private func connectOthers(unless shouldStop: @escaping @Sendable () -> Bool) async {
    for _ in 0..<plan.idleClients where !shouldStop() {
      let connection = HTTPConnection(loop, address, buffer: buffer)
      if await connection.connect() { others.append(connection) }
    }
    if let peers = plan.idlePeers {
      for _ in 0..<peers.count where !shouldStop() {
        // Where the queue is full it is refused at once.
        let number = clinux_stream_socket(AF_UNIX, 1)
        guard number >= 0 else { continue }
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &name.sun_path) {
          $0.copyBytes(from: peers.path.utf8.prefix(ListenAddress.longestPath))
        }
        let isConnected = withUnsafePointer(to: &name) {
          $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            connect(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
          }
        }
        if isConnected { idlePeers.append(number) } else { close(number) }
      }
    }
    if let slow = plan.slowReaders {
      for index in 0..<slow.count {
        let connection = HTTPConnection(loop, address, buffer: buffer, bytesPerSecond: slow.bytesPerSecond)
        var mix = RequestMix([slow.kind], host: "\(plan.host):\(plan.port)", seed: plan.seed &+ UInt64(index))
        others.append(connection)
        Task(executorPreference: loop) {
          var request: [UInt8] = []
          while !self.isStopped, MonotonicClock.now < self.end {
            _ = mix.next(into: &request)
            if await connection.exchange(request, isHead: false) == .broken { await self.loop.sleep(.milliseconds(10)) }
          }
        }
      }
    }
  }
}
