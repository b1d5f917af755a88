// One prefork worker: one request at a time, with libfcgi and a blocking database connection of its own.

import CGI
import CLinux
import Glibc
import Logging
import Platform
import Shop

/// Runs in a child of `Master`, until it is told to stop or its master has gone.
struct Worker: ~Copyable {
  private let configuration: SyncConfiguration
  private let listener: Int32
  private let log: Logger
  private let shop = Shop(mode: .sync)
  private var database: BlockingDatabase
  private var exchange: Exchange

  init(_ configuration: SyncConfiguration, listener: Int32, log: Logger) {
    self.configuration = configuration
    self.listener = listener
    self.log = log
    database = BlockingDatabase(configuration.database, configuration.options, log: log)
    exchange = Exchange(peerTimeout: configuration.peerTimeout)
  }

  /// Accepts and answers. Signals are blocked while a request is served (libfcgi takes an interrupted write for a broken
  /// one) and come in only where the worker waits.
  consuming func run() -> Int32 {
    do throws(SystemError) {
      var waiting = try WaitingRoom(listener: listener)
      serve(&waiting)
      return 0
    } catch {
      log.error("\(error)")
      return 1
    }
  }

  private mutating func serve(_ waiting: inout WaitingRoom) {
    signal(SIGINT, SIG_IGN)  // A terminal sends it to everybody; the master decides.
    clinux_flag_on(SIGTERM)
    SignalSet([SIGINT, SIGCHLD]).unblock()
    database.connectIfNeeded()
    let master = getppid()
    while true {
      waiting.watch(database: database.socket, generation: database.generation)
      switch waiting.wait() {
      case .connection: _ = serveNext()
      case .database: database.takeInWhatCameUnasked()
      case .interrupted: break
      }
      // While there always is a connection, epoll_pwait returns without letting a signal in.
      if clinux_flagged() != 0 || SignalSet.isPending(SIGTERM) {
        let deadline = MonotonicClock.now + configuration.drainTimeout.nanoseconds
        // What stands in the queue has been accepted as far as its client can tell.
        while getppid() == master, MonotonicClock.now < deadline, serveNext() {}
        return
      }
    }
  }

  /// Accepts one connection and answers its request; false if nobody was waiting.
  private mutating func serveNext() -> Bool {
    let connection = clinux_accept(listener, 0)
    if connection < 0 { return errno != EAGAIN && errno != EINVAL }
    guard exchange.receive(on: connection) else { return true }
    exchange.send(answer(exchange.request))
    return true
  }

  private mutating func answer(_ request: borrowing Request) -> Response {
    let response: Response
    switch shop.begin(request) {
    case .respond(let ready): response = ready
    case .query(let operation): response = shop.finish(operation, database.execute(operation))
    }
    if let fault = response.fault {
      log.log(
        level: response.status.code == 500 ? .error : .warning, "\(response.status.code): \(fault)",
        metadata: ["request": "\(request.requestID.string)"])
    }
    return response
  }
}

/// Where a worker waits: for a connection, for news from the database, or for a signal.
private struct WaitingRoom: ~Copyable {
  enum Event { case connection, database, interrupted }

  private let epoll: Descriptor
  private let listener: Int32
  private var watchedGeneration = 0

  init(listener: Int32) throws(SystemError) {
    let epoll = Descriptor(owning: try syscall("epoll_create1") { epoll_create1(clinux_EPOLL_CLOEXEC) })
    // EXCLUSIVE: of all workers that wait here, a connection wakes one (epoll_ctl(2)).
    var event = epoll_event(events: clinux_EPOLLIN | clinux_EPOLLEXCLUSIVE, data: epoll_data_t(fd: listener))
    try syscall("epoll_ctl") { epoll_ctl(epoll.number, EPOLL_CTL_ADD, listener, &event) }
    self.epoll = epoll
    self.listener = listener
  }

  /// Watches the database's socket too: a server that is stopped says farewell there, and a connection that broke while
  /// nobody used it should not cost the next request. A closed descriptor has left the set by itself.
  mutating func watch(database socket: Int32, generation: Int) {
    guard generation != watchedGeneration, socket >= 0 else { return }
    watchedGeneration = generation
    var event = epoll_event(events: clinux_EPOLLIN | clinux_EPOLLRDHUP, data: epoll_data_t(fd: socket))
    epoll_ctl(epoll.number, EPOLL_CTL_ADD, socket, &event)
  }

  func wait() -> Event {
    var event = epoll_event()
    var open = sigset_t()
    sigemptyset(&open)
    guard epoll_pwait(epoll.number, &event, 1, -1, &open) > 0 else { return .interrupted }
    return event.data.fd == listener ? .connection : .database
  }
}
