// A thin face over epoll(7).

import CLinux
import Glibc
import Platform

/// What a descriptor is ready for, or is watched for.
package struct Readiness: OptionSet, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }

  package static let readable = Readiness(rawValue: clinux_EPOLLIN)
  package static let writable = Readiness(rawValue: clinux_EPOLLOUT)
  /// The peer has closed at least its writing side.
  package static let hungUp = Readiness(rawValue: clinux_EPOLLRDHUP | clinux_EPOLLHUP | clinux_EPOLLERR)
  /// The peer has closed both sides, or there was an error. Reported whether watched for or not.
  package static let closed = Readiness(rawValue: clinux_EPOLLHUP | clinux_EPOLLERR)
  /// Report changes only (edge-triggered), not states.
  static let edge = Readiness(rawValue: clinux_EPOLLET)
}

/// An epoll instance. Each watch carries a number of the caller's, which comes back with its events.
struct Epoll: ~Copyable {
  private let descriptor: Descriptor
  private let events: UnsafeMutableBufferPointer<epoll_event>

  init(eventsPerTurn: Int = 256) throws(SystemError) {
    descriptor = Descriptor(owning: try syscall("epoll_create1") { epoll_create1(clinux_EPOLL_CLOEXEC) })
    events = .allocate(capacity: eventsPerTurn)
  }

  deinit { events.deallocate() }

  func add(_ number: Int32, _ readiness: Readiness, token: UInt64) throws(SystemError) {
    try control(EPOLL_CTL_ADD, number, readiness, token)
  }

  func change(_ number: Int32, _ readiness: Readiness, token: UInt64) throws(SystemError) {
    try control(EPOLL_CTL_MOD, number, readiness, token)
  }

  func remove(_ number: Int32) {
    var event = epoll_event()
    epoll_ctl(descriptor.number, EPOLL_CTL_DEL, number, &event)
  }

  private func control(_ operation: Int32, _ number: Int32, _ readiness: Readiness, _ token: UInt64) throws(SystemError)
  {
    var event = epoll_event(events: readiness.rawValue, data: epoll_data_t(u64: token))
    try syscall("epoll_ctl") { epoll_ctl(descriptor.number, operation, number, &event) }
  }

  /// Waits at most `timeout` nanoseconds (−1: for ever) and hands each event to `body`.
  func wait(timeout: Int64, _ body: (UInt64, Readiness) -> Void) {
    let count = clinux_epoll_wait(descriptor.number, events.baseAddress, Int32(events.count), timeout)
    // An interrupted wait is a wait without events.
    guard count > 0 else { return }
    for event in events[..<Int(count)] { body(event.data.u64, Readiness(rawValue: event.events)) }
  }
}
