// How many workers to start and to let go, from what the scoreboard shows. No process is touched here.

/// Decides for one pool. Called again and again, some times a second.
struct PoolPlan {
  /// What there is, of the current generation.
  struct Census: Equatable {
    /// Workers that were started and can be told to do something.
    var total = 0
    /// Of those: waiting for a request, or about to.
    var idle = 0
    var starting = 0
    /// Idle for longer than the idle timeout.
    var idleTooLong = 0
    /// Connections that nobody has accepted yet.
    var waiting = 0
  }

  struct Change: Equatable {
    var start = 0
    var retire = 0
    /// More would have been started, but for `workers`.
    var isAtLimit = false
  }

  /// The most that are started at once.
  static let mostAtOnce = 32

  /// How many a dynamic pool starts at once; doubles from one look to the next while idle workers are short.
  private var rate = 1

  mutating func change(_ census: Census, _ pool: PoolConfiguration) -> Change {
    var change = Change()
    let space = max(0, pool.workers - census.total)
    let spare = census.idle + census.starting
    switch pool.mode {
    case .fixed:
      change.start = space
    case .dynamic:
      let short = max(pool.minSpare - spare, census.idle == 0 ? census.waiting - census.starting : 0)
      if short > 0 {
        change.start = min(short, rate, space)
        change.isAtLimit = space == 0
        rate = min(rate * 2, Self.mostAtOnce)
      } else {
        rate = 1
        // One at a time: a lull may be short.
        if census.idle > pool.maxSpare { change.retire = 1 }
      }
    case .ondemand:
      if census.idle == 0, census.waiting > census.starting {
        change.start = min(census.waiting - census.starting, Self.mostAtOnce, space)
        change.isAtLimit = space == 0
      } else {
        change.retire = census.idleTooLong
      }
    }
    if census.total > pool.workers { change = Change(retire: census.total - pool.workers) }
    return change
  }

  /// How many a pool begins with.
  static func initial(_ pool: PoolConfiguration) -> Int {
    switch pool.mode {
    case .fixed: pool.workers
    case .dynamic: min(max(pool.start, pool.minSpare), pool.workers)
    case .ondemand: 0
    }
  }
}

/// How long to wait before another worker is started, after some have died at once.
struct Backoff {
  /// The first pause and the longest, in nanoseconds.
  static let shortest: UInt64 = 100_000_000
  static let longest: UInt64 = 30_000_000_000
  /// Without a failure for this long, all is forgotten.
  static let healthy: UInt64 = 60_000_000_000

  private var failures = 0
  private var lastFailure: UInt64 = 0
  private(set) var until: UInt64 = 0

  /// Counts a failure. `jitter` from 0 to 1 shortens the pause by up to a half, so that pools do not go in step.
  mutating func failed(now: UInt64, jitter: Double = .random(in: 0...1)) {
    failures = recentFailures(now)
    lastFailure = now
    failures += 1
    let pause = min(Self.longest, Self.shortest << UInt64(min(failures - 1, 20)))
    until = now + pause - UInt64(Double(pause) * 0.5 * jitter)
  }

  /// How often it has failed since it was last healthy.
  func recentFailures(_ now: UInt64) -> Int { now - lastFailure > Self.healthy ? 0 : failures }

  func isWaiting(_ now: UInt64) -> Bool { now < until }
}
