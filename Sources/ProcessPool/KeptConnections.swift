// Where connections wait that the web server keeps: with the master, so that no worker waits with them.

import CLinux
import Glibc
import Platform

/// The master's side: takes in what workers park, and hands on what has something to say to whoever is free.
///
/// Two packet sockets, whose ends all workers share: into one they put connections, from the other they take them.
package struct KeptConnections: ~Copyable {
  /// What workers know of it.
  package struct Ends: Sendable, Equatable {
    /// Where a worker parks a connection; sending waits.
    package let entrance: Int32
    /// Where workers take connections from; receiving does not wait.
    package let exit: Int32
  }

  private let entrance: Int32
  private let exit: Int32
  let workerEnds: Ends
  private let epoll: Descriptor
  private(set) var parked: Set<Int32> = []
  /// Whether the exit is full: then nobody looks at the parked ones until it is not.
  private var isFull = false
  /// Whether anything was handed on since somebody last asked.
  private var hasHandedOn = false

  init() throws(SystemError) {
    let (entrance, exit) = (try Self.pair(), try Self.pair())
    try self.init(entrance: entrance.0, exit: exit.0, Ends(entrance: entrance.1, exit: exit.1), parked: [])
  }

  /// One that the program before us has left.
  init(descriptors: [Int32], parked: [Int32]) throws(SystemError) {
    guard descriptors.count == 4 else { throw SystemError("socketpair", code: EBADF) }
    try self.init(
      entrance: descriptors[0], exit: descriptors[1], Ends(entrance: descriptors[2], exit: descriptors[3]),
      parked: parked)
  }

  private init(entrance: Int32, exit: Int32, _ ends: Ends, parked: [Int32]) throws(SystemError) {
    self.entrance = entrance
    self.exit = exit
    workerEnds = ends
    epoll = Descriptor(owning: try syscall("epoll_create1") { epoll_create1(clinux_EPOLL_CLOEXEC) })
    for number in [entrance, exit, ends.entrance, ends.exit] + parked { clinux_set_close_on_exec(number, 1) }
    for number in [entrance, exit, ends.exit] { clinux_set_nonblocking(number, 1) }
    for number in parked { park(number) }
  }

  private static func pair() throws(SystemError) -> (Int32, Int32) {
    var ends: [Int32] = [-1, -1]
    try syscall("socketpair") { clinux_packet_pair(&ends) }
    return (ends[0], ends[1])
  }

  /// What the next program needs to go on with it, and what a forked worker has to close but for its own ends.
  var descriptors: [Int32] { [entrance, exit, workerEnds.entrance, workerEnds.exit] }

  /// What to poll.
  var interests: [pollfd] {
    [
      pollfd(fd: entrance, events: Int16(POLLIN), revents: 0),
      pollfd(fd: isFull ? exit : epoll.number, events: Int16(isFull ? POLLOUT : POLLIN), revents: 0),
    ]
  }

  private mutating func park(_ number: Int32) {
    var event = epoll_event(events: clinux_EPOLLIN | clinux_EPOLLRDHUP, data: epoll_data_t(fd: number))
    if epoll_ctl(epoll.number, EPOLL_CTL_ADD, number, &event) == 0 {
      parked.insert(number)
    } else {
      close(number)
    }
  }

  private mutating func unpark(_ number: Int32) {
    // Closing is not enough: whoever has a copy keeps it in the set.
    epoll_ctl(epoll.number, EPOLL_CTL_DEL, number, nil)
    parked.remove(number)
    close(number)
  }

  /// Does what can be done at once.
  mutating func serve() {
    while true {
      let number = clinux_receive_descriptor(entrance)
      if number < 0 { break }
      park(number)
    }
    isFull = false
    var events = [epoll_event](repeating: epoll_event(), count: 256)
    while !isFull {
      let count = epoll_wait(epoll.number, &events, Int32(events.count), 0)
      if count <= 0 { return }
      for event in events[..<Int(count)] where !isFull { handOn(event.data.fd) }
    }
  }

  /// Hands a connection on if a request stands in it, and closes it if the peer has gone; otherwise it stays.
  private mutating func handOn(_ number: Int32) {
    var byte: UInt8 = 0
    let count = recv(number, &byte, 1, Int32(MSG_PEEK | MSG_DONTWAIT))
    if count < 0, errno == EAGAIN { return }
    if count > 0, clinux_send_descriptor(exit, number) != 0, errno == EAGAIN {
      isFull = true
      return
    }
    if count > 0 { hasHandedOn = true }
    unpark(number)
  }

  /// Whether a connection that was handed on has not been taken yet.
  var isWaitedFor: Bool {
    var interest = pollfd(fd: workerEnds.exit, events: Int16(POLLIN), revents: 0)
    return poll(&interest, 1, 0) > 0
  }

  mutating func takeHasHandedOn() -> Bool {
    defer { hasHandedOn = false }
    return hasHandedOn
  }

  /// For a drain: hands on what has something to say, and closes the rest. The receiving side is shut first, so that a
  /// request has either arrived and is served, or is refused as a whole.
  mutating func clear() {
    serve()
    for number in parked { shutdown(number, Int32(SHUT_RD)) }
    for number in parked where !isFull { handOn(number) }
  }
}
