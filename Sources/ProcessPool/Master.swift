// The master of a pool of processes: waits, obeys signals, answers for the pool. It has one thread and serves no request of the
// API. What its workers do is not its business.
// `Master+Start` says what it begins with, `Master+Workers` how it looks after workers, `Master+Reload` how it becomes another
// program, `Master+Drain` how it ends.

import CGI
import CLinux
import Glibc
import Logging
import Platform

/// Runs the pool until it is told to stop.
///
/// TERM and INT drain after a delay, QUIT drains at once; HUP and USR2 reload; TTIN and TTOU allow a worker more or less; WINCH lets
/// all workers go until HUP or TTIN.
package struct Master: ~Copyable {
  struct Child {
    let slot: Int?
    let generation: Int
    let started: UInt64
    /// Told to end.
    var isLeaving = false
    /// Told to take what stands in the listen queue, and then to end.
    var isDraining = false
    /// Its request takes too long: it is killed at this time if it is still there.
    var killAt = UInt64.max
    /// Whether it was killed for a loop that stood still.
    var hasStoodStill = false
    /// The last turn of its loop that was seen, and for how long it has been the last, in nanoseconds.
    var progress: UInt64 = 0
    var stillFor: UInt64 = 0
  }

  /// The exit code of a worker whose request took too long.
  package static let timedOut: Int32 = 75
  /// What a worker gets when its master dies: it has a second to finish.
  package static let parentDeathSignal = SIGUSR2
  /// A worker that died younger than this has failed at once.
  static let quickDeath: UInt64 = 1_000_000_000
  /// Tells an idle worker to look into the listen queue. Whoever does not expect it is not harmed by it (signal(7)).
  package static let nudge = SIGURG
  /// How often the pool is looked at, in milliseconds: often enough to know how long somebody has waited, or that a drain is over.
  var interval: Int32 {
    if isDraining { return 20 }
    let patience = configuration.limits.queueWait / 1_000_000
    return patience == 0 ? 100 : Int32(min(100, max(5, patience / 8)))
  }

  let log: Logger
  let configuration: MasterConfiguration
  let duties: Duties
  var pool: PoolConfiguration
  let invocation: Invocation
  static let signals = SignalSet([
    SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD, SIGTTIN, SIGTTOU, SIGWINCH,
  ])
  let listener: ListeningSocket
  /// Where workers of before listen, if that is elsewhere, and the first generation that listens here.
  var formerListeners: [FormerListener] = []
  var movedAt = 0
  var status: StatusServer?
  var kept: KeptConnections?
  let scoreboard: Scoreboard
  var generation: Int
  /// Rung by a worker that is ready.
  let news: Descriptor
  let signalDescriptor: Descriptor

  var children: [pid_t: Child] = [:]
  var plan = PoolPlan()
  var backoff = Backoff()
  var hasBegun = false
  var isPaused = false
  var wasAtLimit = false
  /// Whether the service manager has been told that we are ready, and when it wants the next sign of life.
  var hasSaidReady = false
  var watchdogDue: UInt64 = 0
  /// The program being checked before a reload, and until when that may take.
  var check: pid_t?
  var checkDeadline = UInt64.max
  /// Whether a reload was asked for that has not been looked into yet.
  var wantsReload = false
  /// When the drain begins; nil while nobody has told us to stop.
  var drainAt: UInt64?
  /// Until when requests may take to end; nil while we are not draining.
  var drainDeadline: UInt64?
  /// Whether a worker has found nobody in the listen queue since nobody is let in any more.
  var queueIsEmpty = false
  /// Whether one has ended in a drain with requests that it had not answered.
  var hasBrokenOff = false
  /// When the pool was last looked at.
  var lastLook: UInt64 = 0

  var isStopping: Bool { drainAt != nil }
  var isDraining: Bool { drainDeadline != nil }

  /// Listens. On the calling thread, which should be the main one and alone: signals are blocked here.
  package init(
    _ configuration: MasterConfiguration, _ invocation: Invocation, _ duties: Duties, log: Logger
  ) throws(ListeningSocket.Failure) {
    // First of all: what comes from now on is kept until somebody asks for it.
    Self.signals.becomeMask()
    let inheritance = Inheritance.take()
    try Self.tryOrGoOn(inheritance, log) { () throws(ListeningSocket.Failure) in try configuration.daemon.apply() }
    let listener = try Self.listen(
      configuration.listen, configuration.backlog, inheritance?.listener, inheritance?.address, "--listen", log)
    let status = try Self.statusServer(configuration.status, inheritance, duties.roots, log)
    let scoreboard = try Self.make { () throws(SystemError) in try Self.scoreboard(inheritance) }
    LogOutput.countLost(in: scoreboard.lostLines)
    let news = try Self.make { () throws(SystemError) in
      Descriptor(owning: try syscall("eventfd") { eventfd(0, clinux_EFD) })
    }
    let kept = try Self.make { () throws(SystemError) in try Self.keptConnections(configuration, inheritance) }
    let signalDescriptor = try Self.make { () throws(SystemError) in try Self.signals.descriptor() }
    if let account = configuration.daemon.account {
      try Self.tryOrGoOn(inheritance, log) { () throws(ListeningSocket.Failure) in
        try Self.make { () throws(SystemError) in
          try listener.give(to: account.user, account.group)
          try status?.give(to: account.user, account.group)
        }
      }
    }
    self.configuration = configuration
    self.invocation = invocation
    self.duties = duties
    self.log = log
    self.listener = listener
    self.status = status
    self.kept = kept
    self.scoreboard = scoreboard
    self.news = news
    self.signalDescriptor = signalDescriptor
    pool = configuration.pool
    generation = (inheritance?.generation ?? 0) + 1
    if let inheritance {
      adopt(inheritance)
    } else if let remark = configuration.daemon.remarkForRoot {
      log.warning("\(remark)")
    }
  }

  /// Serves until it is told to stop; the exit code: 0 when every request that had been accepted was answered, 1 when the
  /// drain took too long.
  package mutating func run() -> Int32 {
    log.info("listening on \(listener.address), \(pool.mode.rawValue), \(pool.workers) workers at most")
    for remark in configuration.remarks { log.warning("\(remark)") }
    while true {
      beginDrainIfDue()
      if let drainDeadline {
        if let code = drain(until: drainDeadline) { return code }
      } else {
        look()
      }
      enforceTimeLimits()
      LineLog.tellLeftOut()
      feedWatchdog()
      wait()
      while let signal = SignalSet.take(from: signalDescriptor.number) { obey(signal) }
      reap()
    }
  }

  mutating func feedWatchdog() {
    guard let interval = ServiceManager.watchdogInterval else { return }
    let now = MonotonicClock.now
    guard now >= watchdogDue else { return }
    watchdogDue = now + interval
    ServiceManager.notify("WATCHDOG=1")
  }

  /// Until a signal, a status request, a worker that is ready, or the time for another look.
  mutating func wait() {
    var interests = [
      pollfd(fd: signalDescriptor.number, events: Int16(POLLIN), revents: 0),
      pollfd(fd: news.number, events: Int16(POLLIN), revents: 0),
      pollfd(fd: awaitsFirstConnection ? listener.number : -1, events: Int16(POLLIN), revents: 0),
    ]
    let own = interests.count
    if let more = kept?.interests { interests += more }
    let keptCount = interests.count
    if let more = status?.interests { interests += more }
    guard poll(&interests, nfds_t(interests.count), interval) > 0 else {
      // The time of those who are silent ends, too.
      if status?.hasClients == true { serveStatus() }
      return
    }
    if interests[1].revents != 0 {
      var count: eventfd_t = 0
      eventfd_read(news.number, &count)
    }
    if interests[own..<keptCount].contains(where: { $0.revents != 0 }) { kept?.serve() }
    if interests[keptCount...].contains(where: { $0.revents != 0 }) { serveStatus() }
  }

  mutating func serveStatus(accepting: Bool = true) {
    let state = PoolState(
      scoreboard: scoreboard, pool: pool, generation: generation, listener: listener.number,
      parked: kept?.parked.count ?? 0)
    guard let page = duties.page else { return }
    status?.serve(accepting: accepting) { request, headerIsTooLarge in page(state, request, headerIsTooLarge) }
  }

  /// Answers those who have come to ask for the status; not for long, should one of them never ask.
  mutating func finishStatus() {
    let deadline = MonotonicClock.now + 200_000_000
    while status?.hasClients == true, MonotonicClock.now < deadline {
      var interests = Array(status?.interests.dropFirst() ?? [])
      poll(&interests, nfds_t(interests.count), 10)
      serveStatus(accepting: false)
    }
  }

  /// Whether somebody has to be started as soon as a connection comes: nobody else waits for it.
  var awaitsFirstConnection: Bool {
    guard pool.mode == .ondemand, !isPaused, !isDraining, !backoff.isWaiting(MonotonicClock.now) else { return false }
    let census = census(waiting: 0)
    return census.idle == 0 && census.starting == 0 && census.total < pool.workers
  }

  // MARK: Signals

  /// Does what a signal asks for. Nothing that comes before or after it overrules a signal to stop: whatever is under way is
  /// dropped when that comes, and while draining nothing but the log is looked after. Until the drain begins the pool is looked
  /// after as ever, but does not become another; a second signal to stop begins the drain.
  mutating func obey(_ signal: Int32) {
    switch signal {
    case SIGUSR1: reopenLog()
    case _ where isDraining: break
    case SIGTERM, SIGINT: stop(after: isStopping ? .zero : configuration.drainDelay)
    case SIGQUIT: stop(after: .zero)
    case _ where isStopping && [SIGHUP, SIGUSR2, SIGWINCH].contains(signal): break
    case SIGHUP, SIGUSR2: wantsReload = true
    case SIGTTIN:
      isPaused = false
      pool.workers = min(pool.workers + 1, 1024)
      log.info("up to \(pool.workers) workers from now on")
    case SIGTTOU:
      pool.workers = max(1, pool.workers - 1)
      log.info("up to \(pool.workers) workers from now on")
    case SIGWINCH:
      isPaused = true
      log.info("all workers are let go until HUP or TTIN")
    default: break
    }
  }

  /// Begins the log anew, and has the workers do so. Where their user can't open it (the folder may be closed to them) they are
  /// replaced by others, which get it from us.
  mutating func reopenLog() {
    guard let path = configuration.daemon.logFile else { return }
    let account = configuration.daemon.account
    do throws(SystemError) { try LogOutput.open(path, owner: account) } catch {
      return log.error("the log \(path) can't be reopened: \(error)")
    }
    if account.map({ LogOutput.canBeOpened(path, by: $0) }) ?? true {
      for process in children.keys { kill(process, SIGUSR1) }
    } else if !isDraining {
      generation += 1
    }
  }
}

/// The answer of a worker that is stuck.
package struct EmergencyAnswer {
  /// Head and body, without the values that only its request has.
  package var bytes: [UInt8] = []
  /// Where those belong: the request's id, the milliseconds of the database and those of everything else. Then where the body begins.
  package var places: [Int] = [0, 0, 0, 0]

  package init() {}

  /// Of a head in which the id is empty and both times are 0.
  package init(head: [UInt8], body: [UInt8]) {
    var rest = head[...]
    places = []
    for (before, value) in [("X-Request-Id: ", ""), ("db;dur=", "0.000"), ("app;dur=", "0.000")] {
      guard let found = rest.firstRange(of: Array("\(before)\(value)".utf8)) else { continue }
      bytes += rest[..<(found.upperBound - value.utf8.count)]
      places.append(bytes.count)
      rest = rest[found.upperBound...]
    }
    bytes += rest
    while places.count < 4 { places.append(bytes.count) }
    bytes += body
  }
}

/// What a master needs to know of what its workers do.
package struct Duties {
  /// A worker's life, in a process of its own; the exit code.
  package var worker: (WorkerContext) -> Int32
  /// What a worker that is stuck says to its client at the end of its time, in FastCGI: of what only reads, and of what may have
  /// been done all the same.
  package var emergencyAnswer: (ofReads: EmergencyAnswer, ofWrites: EmergencyAnswer)
  /// What the paths begin with that the master is asked for (`Request.finish`).
  package var roots: [String]
  /// The master's own answer to a request; whether its header is more than anybody wants to read. Nil where it gives none.
  package var page: Page?

  package typealias Page = (PoolState, borrowing Request, _ headerIsTooLarge: Bool) -> Response

  package init(
    emergencyAnswer: (ofReads: EmergencyAnswer, ofWrites: EmergencyAnswer) = (EmergencyAnswer(), EmergencyAnswer()),
    roots: [String] = [],
    page: Page? = nil, worker: @escaping (WorkerContext) -> Int32
  ) {
    self.worker = worker
    self.emergencyAnswer = emergencyAnswer
    self.roots = roots
    self.page = page
  }
}

/// What a worker is given to work with.
package struct WorkerContext {
  package let listener: Int32
  package let kept: KeptConnections.Ends?
  package let scoreboard: Scoreboard
  package let slot: Int
  package let master: pid_t
  /// An eventfd that is rung when the worker is ready.
  package let news: Int32
}

/// The pool at one moment.
package struct PoolState {
  package let scoreboard: Scoreboard
  package let pool: PoolConfiguration
  package let generation: Int
  package let listener: Int32
  /// Idle connections that the web server keeps.
  package let parked: Int
}

/// Where nobody is let in any more since the master listens elsewhere.
final class FormerListener {
  let socket: ListeningSocket
  init(_ socket: consuming ListeningSocket) { self.socket = socket }
}
