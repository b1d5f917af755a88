// One prefork worker: one request at a time, with libfcgi and a blocking database connection of its own.

import Application
import CGI
import CLinux
import Glibc
import Logging
import Platform
import Postgres
import ProcessPool

/// Runs in a child of `Master`, until it is told to stop or its master has gone.
///
/// TERM: answer what stands in the queue, then end. QUIT: end after the request under way. ALRM: the request under way
/// has taken too long; tell its client and end.
struct Worker: ~Copyable {
  let configuration: SyncConfiguration
  let context: WorkerContext
  let log: Logger
  private let application: any Application
  private var database: BlockingDatabase
  private var exchange: Exchange
  var slot: WorkerSlot
  /// The id of a request of which nothing has been read.
  private let ownID: [UInt8]
  /// Requests after which it ends; 0: never.
  let mostRequests: UInt64

  static let signalInterval: UInt64 = 10_000_000
  var nextSignalCheck: UInt64 = 0
  /// For how many milliseconds nobody is accepted when there are no descriptors for them.
  static let pause: Int32 = 100
  /// Whether the last connection that was to be accepted could not be for want of descriptors.
  var isExhausted = false
  /// Whether the request has waited for so long that its client may have gone; whether it has; and whether there was time for that
  /// in the queue.
  private var isTooLate = false
  private var hasGone = false
  /// Whether the worker has waited for the connection, and not the connection for it.
  private var hasBlocked = true
  private var mayHaveWaited: Bool { slot.mayHaveWaited(longerThan: Self.patience) }
  private static let patience: UInt64 = 10_000_000
  private let peersAreLocal: Bool
  /// Whether nobody is let in any more: who closed the listener tells us to end in a moment.
  private var isClosed = false
  /// After how many requests memory is looked at: reading /proc costs a few microseconds.
  static let memoryInterval: UInt64 = 16

  init(_ configuration: SyncConfiguration, _ context: WorkerContext, log: Logger) {
    self.configuration = configuration
    self.context = context
    self.log = log
    application = configuration.application { context.scoreboard.isStopping }
    slot = WorkerSlot(context.scoreboard, context.slot)
    database = BlockingDatabase(
      configuration.database, configuration.options, requestTime: configuration.master.limits.requestTime, log: log)
    ownID = Array(Request.newID())
    peersAreLocal = ListeningSocket.isLocal(context.listener)
    let limits = configuration.master.limits
    // Where requests have a time limit, it is the peer's too.
    exchange = Exchange(
      Patience(first: limits.requestTime > 0 ? nil : configuration.peerTimeout, canWaitElsewhere: context.kept != nil),
      for: application)
    mostRequests = limits.requests == 0 ? 0 : UInt64(limits.requests + Int.random(in: 0...limits.requestsJitter))
  }

  /// Accepts and answers. Signals are blocked while a request is served (libfcgi takes an interrupted write for a broken
  /// one) and come in only where the worker waits; but for those that end the process.
  consuming func run() -> Int32 {
    // A library's lines reach the log whole, as ours do.
    clinux_write_whole_lines()
    do throws(SystemError) {
      var waiting = try WorkerWait(listener: context.listener, kept: context.kept?.exit ?? -1)
      serve(&waiting)
      LineLog.tellLeftOut()
      return slot.isGivenUp ? Master.timedOut : 0
    } catch {
      log.error("\(error)")
      return 1
    }
  }

  private mutating func serve(_ waiting: inout WorkerWait) {
    signal(SIGINT, SIG_IGN)  // A terminal sends it to everybody; the master decides.
    clinux_flag_on(SIGTERM)
    clinux_flag_on(SIGQUIT)
    clinux_note_on(SIGUSR1)
    // It may come when a request has begun: libfcgi would take the interrupted read for the peer's end.
    SignalSet([Master.nudge]).block()
    clinux_interrupt_on(Master.nudge)
    SignalSet([SIGINT, SIGCHLD, SIGALRM, Master.parentDeathSignal]).unblock()
    database.connectIfNeeded()
    slot.isReady()
    eventfd_write(context.news, 1)
    while true {
      slot.hasDatabase(database.isConnected)
      waiting.watch(database: database.socket, generation: database.generation)
      let pause = pauseForOthers()
      // Somebody in the queue need not be announced first. Where connections are parked, whoever comes first is.
      hasBlocked = false
      var hasServed = pause == 0 && context.kept == nil && somebodyMayWait && serveNext()
      if !hasServed {
        let waitBegan = MonotonicClock.now
        let event = pause > 0 ? waiting.rest(pause) : waiting.wait(atMost: waitLimit())
        hasBlocked = MonotonicClock.now - waitBegan > WorkerSlot.immediately
        isExhausted = false
        switch event {
        // Others may have found a database connection meanwhile.
        case .connection: hasServed = pauseForOthers() == 0 && serveNext()
        case .parked: hasServed = serveParked()
        case .database: database.takeInWhatCameUnasked()
        case .interrupted:
          if clinux_take_note() != 0 { reopenLog() }
          // We may have been told to look into the queue, of which nothing else tells us.
          hasServed = pause == 0 && clinux_flagged() == 0 && (serveNext() || serveParked())
        case .nothing: break
        }
      }
      // Whoever stands in the queue is for the one that comes in its place.
      if slot.isGivenUp || hasHadEnough() { return }
      if isToldToEnd(hasServed: hasServed) { return leave(&waiting) }
    }
  }

  /// Whether the queue may hold somebody, since the request before was there as soon as the one before that had been answered:
  /// then it costs a system call less to accept first, and otherwise to wait first.
  private var somebodyMayWait: Bool { slot.timeBefore < WorkerSlot.immediately }

  /// For how many milliseconds nobody is accepted, because there are no descriptors, nobody is let in any more, or there is no
  /// database connection: others have one, and can answer what could only be refused here, and that very quickly.
  private mutating func pauseForOthers() -> Int32 {
    if isExhausted || isClosed { return Self.pause }
    guard !database.isConnected, context.scoreboard.hasDatabase(otherThan: context.slot) else { return 0 }
    database.connectIfNeeded()
    return database.isConnected ? 0 : database.pauseLeft
  }

  /// For how long to wait, in milliseconds; −1: for whatever comes.
  private func waitLimit() -> Int32 {
    guard RepeatedLines.areLeftOut else { return -1 }
    LineLog.tellLeftOut()
    return 1_000
  }

  /// Accepts one connection and answers its request; false if nobody was waiting, or can be accepted now.
  mutating func serveNext() -> Bool {
    let connection: Int32
    switch Acceptance.next(of: context.listener, nonblocking: false) {
    case .connection(let number): connection = number
    case .failed: return true
    case .nobody: return false
    case .closed:
      isClosed = true
      return false
    case .exhausted(let code):
      log.warning("can't accept: \(String(cString: strerror(code)))")
      isExhausted = true
      return false
    }
    if let peers = configuration.master.daemon.peers, !peers.admits(connection) {
      close(connection)
      log.warning("a peer that is not allowed to was sent away")
      return true
    }
    return serve(connection, isNew: true)
  }

  /// Takes a connection that was parked and answers its request; false if there is none.
  mutating func serveParked() -> Bool {
    guard let kept = context.kept else { return false }
    let connection = clinux_receive_descriptor(kept.exit)
    return connection >= 0 && serve(connection, isNew: false)
  }

  private mutating func serve(_ connection: Int32, isNew: Bool) -> Bool {
    slot.accepted(afterBlocking: hasBlocked)
    hasGone = false
    let patience = configuration.master.limits.queueWait
    let hasWaitedTooLong =
      isNew && patience > 0 && context.scoreboard.acceptedOneThatWaited(longerThan: patience, now: MonotonicClock.now)
    ownID.withUnsafeBufferPointer { clinux_begin_emergency_answer(connection, slot.began, $0.baseAddress, $0.count) }
    guard exchange.receive(on: connection) else {
      clinux_end_emergency_answer()
      if let quiet = exchange.takeQuiet() { park(quiet) }
      slot.cameToNothing()
      return true
    }
    if exchange.request.method != .get, exchange.request.method != .head { clinux_choose_emergency_answer(1) }
    slot.shows(
      method: exchange.request.method.rawValue, path: exchange.request.path, requestID: exchange.request.requestID)
    database.client = ClientWatch(connection, isLocal: peersAreLocal, mayHalfClose: configuration.mayHalfClose)
    isTooLate = hasWaitedTooLong && !application.isLivenessCheck(exchange.request)
    var response = respond(to: exchange.request)
    clinux_end_emergency_answer()
    database.client = nil
    if hasGone {
      exchange.drop()
      _ = slot.writes()
      slot.answered()
      slot.countGone()
      return true
    }
    let isLarge = response.body.count > Memory.large || exchange.request.body.count > Memory.large
    application.seal(&response, for: exchange.request, slot.writes())
    log.report(response, to: exchange.request)
    if let kept = exchange.send(response, keeping: configuration.master.keepsConnections && exchange.isWantedAgain) {
      park(kept)
    }
    slot.answered()
    if configuration.master.limits.slow > 0, slot.phases.total > configuration.master.limits.slow {
      tellOfSlowRequest()
    }
    if isLarge {
      response.body = []
      exchange.forgetBody()
      Memory.trim()
    }
    return true
  }

  /// Gives a connection to the master. While draining nobody waits with it: either a request has arrived, and will be
  /// served, or the web server learns that it has to send it elsewhere.
  private func park(_ connection: Int32) {
    var isWorthIt = true
    if SignalSet.isPending(SIGTERM) {
      shutdown(connection, Int32(SHUT_RD))
      var byte: UInt8 = 0
      isWorthIt = recv(connection, &byte, 1, Int32(MSG_PEEK | MSG_DONTWAIT)) > 0
    }
    if isWorthIt, let kept = context.kept { _ = clinux_send_descriptor(kept.entrance, connection) }
    close(connection)
  }

  /// The same lines as AsyncServer/ClientConnection.swift has with `await`.
  private mutating func respond(to request: borrowing Request) -> Response {
    var step = begin(request)
    while true {
      switch consume step {
      case .respond(let response): return response
      case .query(let query): step = query.then(execute(query))
      case .wait(let duration, let then): step = sleep(duration, then)
      }
    }
  }

  private mutating func begin(_ request: borrowing Request) -> Step {
    if exchange.hasTooLongHeader { return .respond(application.refuse(.headerTooLarge)) }
    if isTooLate {
      slot.countShed()
      return .respond(application.refuse(.busy))
    }
    return application.begin(request)
  }

  private mutating func execute(_ query: Query) -> QueryResults {
    slot.asksDatabase()
    clinux_set_emergency_answer_database(slot.databaseBegan, 0)
    let results: QueryResults
    if mayHaveWaited, let client = database.client, client.hasGone {
      results = QueryResults(.failure(.cancelled))
    } else {
      results = database.execute(query, since: slot.began)
    }
    if case .failure(.cancelled) = results.first { hasGone = true }
    slot.hasDatabasesAnswer()
    clinux_set_emergency_answer_database(slot.databaseBegan, slot.databaseEnded)
    return results
  }

  /// Should it take too long, the master gives the request up as it does any other.
  private mutating func sleep(_ duration: Duration, _ then: () -> Step) -> Step {
    hasGone = database.client?.leaves(within: duration) ?? false
    return hasGone ? .nobodys : then()
  }

  private func tellOfSlowRequest() {
    slot.countSlow()
    func milliseconds(_ nanoseconds: UInt64) -> UInt64 { nanoseconds / 1_000_000 }
    let phases = slot.phases
    log.warning(
      """
      slow: \(exchange.request.method.rawValue) \(exchange.request.path.text) took \(milliseconds(phases.total)) ms: \
      reading \(milliseconds(phases.reading)), database \(milliseconds(phases.database)), \
      writing \(milliseconds(phases.writing))
      """, metadata: exchange.request.logMetadata)
  }
}
