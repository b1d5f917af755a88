// How a prefork worker waits, and lets signals in only there. `Worker` calls it when it has nothing to do.

import CLinux
import Glibc
import Platform

/// Where a worker waits: for a connection, for news from the database, or for a signal.
struct WorkerWait: ~Copyable {
  enum Event { case connection, parked, database, interrupted, nothing }

  private let epoll: Descriptor
  private let listener: Int32
  private let kept: Int32
  private var watchedGeneration = 0

  /// `kept` is where parked connections come from; −1: nowhere.
  init(listener: Int32, kept: Int32) throws(SystemError) {
    let epoll = Descriptor(owning: try syscall("epoll_create1") { epoll_create1(clinux_EPOLL_CLOEXEC) })
    // EXCLUSIVE: of all workers that wait here, a connection wakes one (epoll_ctl(2)).
    var event = epoll_event(events: clinux_EPOLLIN | clinux_EPOLLEXCLUSIVE, data: epoll_data_t(fd: listener))
    try syscall("epoll_ctl") { epoll_ctl(epoll.number, EPOLL_CTL_ADD, listener, &event) }
    if kept >= 0 {
      event.data.fd = kept
      try syscall("epoll_ctl") { epoll_ctl(epoll.number, EPOLL_CTL_ADD, kept, &event) }
    }
    self.epoll = epoll
    self.listener = listener
    self.kept = kept
  }

  /// Watches the database's socket too: a server that is stopped says that it ends there, and a connection that broke while
  /// nobody used it should not cost the next request. A closed descriptor has left the set by itself.
  mutating func watch(database socket: Int32, generation: Int) {
    guard generation != watchedGeneration, socket >= 0 else { return }
    watchedGeneration = generation
    var event = epoll_event(events: clinux_EPOLLIN | clinux_EPOLLRDHUP, data: epoll_data_t(fd: socket))
    epoll_ctl(epoll.number, EPOLL_CTL_ADD, socket, &event)
  }

  /// Stands no longer where connections are announced.
  mutating func close() {
    for number in [listener, kept] where number >= 0 { epoll_ctl(epoll.number, EPOLL_CTL_DEL, number, nil) }
  }

  /// Waits at most so many milliseconds; −1: for whatever comes. Signals are let in here.
  func wait(atMost limit: Int32) -> Event {
    var event = epoll_event()
    var open = sigset_t()
    sigemptyset(&open)
    let count = epoll_pwait(epoll.number, &event, 1, limit, &open)
    guard count > 0 else { return count == 0 ? .nothing : .interrupted }
    switch event.data.fd {
    case listener: return .connection
    case kept: return .parked
    default: return .database
    }
  }

  /// Waits so many milliseconds, or for a signal, whoever stands in the queue.
  func rest(_ milliseconds: Int32) -> Event {
    var time = timespec(tv_sec: Int(milliseconds) / 1_000, tv_nsec: Int(milliseconds) % 1_000 * 1_000_000)
    var open = sigset_t()
    sigemptyset(&open)
    return pselect(0, nil, nil, nil, &time, &open) == 0 ? .nothing : .interrupted
  }
}
