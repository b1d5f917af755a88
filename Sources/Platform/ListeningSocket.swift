// A socket that both servers accept from: bound here, so that its mode, its stale predecessor and its end are the same.

import CLinux
import Glibc

/// A bound, non-blocking listening socket. A Unix path is removed again when the owner stops listening.
package struct ListeningSocket: ~Copyable {
  /// As many as net.core.somaxconn lets wait to be accepted (listen(2)).
  package static let longestQueue = Int32.max

  package enum Failure: Error, CustomStringConvertible {
    case inUse(String)
    case notASocket(String)
    case unknownHost(String)
    /// A file for the log.
    case log(String, SystemError)
    case system(String?, SystemError)

    init(_ address: ListenAddress, _ error: SystemError) {
      switch (error.code, address) {
      case (EADDRINUSE, _): self = .inUse(address.description)
      case (ENOTSOCK, .unix(let path)): self = .notASocket(path)
      case (EDESTADDRREQ, .tcp(let host, _)): self = .unknownHost(host)
      default: self = .system(address.description, error)
      }
    }

    package var description: String {
      switch self {
      case .inUse(let address): "another process already listens on \(address)"
      case .notASocket(let path): "\(path) exists and is not a socket; remove it or choose another path"
      case .unknownHost(let host): "there is no address for the host '\(host)'"
      case .log(let path, let error): "can't write the log \(path): \(error)"
      case .system(let address?, let error): "can't listen on \(address): \(error)"
      case .system(nil, let error): "\(error)"
      }
    }
  }

  private let descriptor: Descriptor
  package let address: ListenAddress
  private let boundFile: FileIdentity?

  package var number: Int32 { descriptor.number }
  private var boundPath: String? { address.path }

  /// Whether we have bound it, or the program before us has: then its queue is ours to close.
  private var isOurs: Bool { !address.isInherited }

  /// Binds and listens. A Unix socket gets mode 0660; a path left behind by a dead server is taken over, one that
  /// somebody answers on is not. The queue of a socket that was handed to us stays as long as whoever made it has said.
  package init(_ address: ListenAddress, backlog: Int32 = longestQueue) throws(Failure) {
    do throws(SystemError) {
      descriptor = try Self.listening(address, backlog)
    } catch {
      throw Failure(address, error)
    }
    self.address = address
    boundFile = address.path.flatMap { FileIdentity(path: $0) }
  }

  /// One that the program before us has bound to `address` and handed on. `backlog`: from now on; nil: nobody is let in any more.
  package init(adopting number: Int32, boundTo address: ListenAddress, backlog: Int32? = nil) throws(Failure) {
    descriptor = Descriptor(owning: number)
    do throws(SystemError) {
      try descriptor.setCloseOnExec(true)
      if let backlog, !address.isInherited { try syscall("listen") { listen(number, backlog) } }
    } catch {
      throw Failure(address, error)
    }
    self.address = address
    boundFile = address.path.flatMap { FileIdentity(path: $0) }
  }

  /// Tries what `init` does: the socket, or nil for one that was handed to us.
  package static func attempt(_ address: ListenAddress) throws(Failure) -> ListeningSocket? {
    if case .inherited(let number) = address {
      do throws(SystemError) {
        guard try isListening(number) else { throw SystemError("getsockopt", code: EINVAL) }
      } catch {
        throw .system(address.description, error)
      }
      return nil
    }
    return try ListeningSocket(address)
  }

  /// Gives the Unix path to a user and a group.
  package func give(to user: uid_t?, _ group: gid_t?) throws(SystemError) {
    guard let boundPath else { return }
    try syscall("chown") { chown(boundPath, user ?? uid_t.max, group ?? gid_t.max) }
  }

  /// Lets nobody new in, while what waits in the queue can still be accepted: the path goes away (if it still is ours) and
  /// a Unix socket refuses connections from now on. A TCP socket hears of no new ones, until `endQueue`: whoever tries
  /// meanwhile tries again in a second (RFC 9293 §3.8.1). False if others may come all the same: over a socket that was
  /// handed to us, whose queue is not ours to close.
  package func refuseNewConnections() -> Bool {
    if boundPath != nil {
      removePath()
      shutdown(descriptor.number, Int32(SHUT_RD))
      return true
    }
    return isOurs && clinux_drop_connection_requests(descriptor.number) == 0
  }

  /// Call when the queue of a TCP socket that hears of no new connections is empty: from now on they are refused. Before, that
  /// would have reset those in the queue.
  package func endQueue() {
    guard isOurs, boundPath == nil else { return }
    shutdown(descriptor.number, Int32(SHUT_RD))
  }

  /// Removes the Unix path if the file there still is the one that was bound.
  package func removePath() {
    guard let boundPath, let boundFile, FileIdentity(path: boundPath) == boundFile else { return }
    unlink(boundPath)
  }

  /// How many connections wait to be accepted, and how many may; nil where the kernel does not tell.
  package static func queue(of listener: Int32) -> (waiting: Int, most: Int)? {
    var (waiting, most): (UInt32, UInt32) = (0, 0)
    return clinux_listen_queue(listener, &waiting, &most) == 0 ? (Int(waiting), Int(most)) : nil
  }

  /// How many connections wait to be accepted: at least one where the kernel tells no more than that somebody does (without
  /// sock_diag(7): gVisor, a filter of system calls).
  package static func waiting(in listener: Int32) -> Int {
    if let queue = queue(of: listener) { return queue.waiting }
    var interest = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
    return poll(&interest, 1, 0) > 0 && interest.revents == Int16(POLLIN) ? 1 : 0
  }

  /// Whether it is a Unix socket.
  package static func isLocal(_ listener: Int32) -> Bool {
    var address = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let result = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(listener, $0, &length) }
    }
    return result == 0 && Int32(address.ss_family) == AF_UNIX
  }

  private static func listening(_ address: ListenAddress, _ backlog: Int32) throws(SystemError) -> Descriptor {
    let descriptor = try bound(address)
    try descriptor.setCloseOnExec(true)
    try descriptor.setNonblocking(true)
    // Once more, this would set the length of the queue.
    if address.isInherited, try isListening(descriptor.number) { return descriptor }
    try syscall("listen") { listen(descriptor.number, backlog) }
    return descriptor
  }

  private static func isListening(_ number: Int32) throws(SystemError) -> Bool {
    var isListening: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    try syscall("getsockopt") { getsockopt(number, SOL_SOCKET, SO_ACCEPTCONN, &isListening, &length) }
    return isListening == 1
  }

  private static func bound(_ address: ListenAddress) throws(SystemError) -> Descriptor {
    switch address {
    case .unix(let path): try bindUnix(path)
    case .tcp(let host, let port): try bindTCP(host: host, port: port)
    case .inherited(let number): Descriptor(owning: number)
    }
  }

  private static func bindUnix(_ path: String) throws(SystemError) -> Descriptor {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { space in
      space.copyBytes(from: path.utf8.prefix(ListenAddress.longestPath))
    }
    func withAddress(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
      withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
      }
    }
    var status = stat()
    if lstat(path, &status) == 0 {
      guard status.st_mode & S_IFMT == S_IFSOCK else { throw SystemError("bind", code: ENOTSOCK) }
      let probe = Descriptor(owning: try syscall("socket") { clinux_stream_socket(AF_UNIX, 1) })
      // ECONNREFUSED alone says that nobody listens. EAGAIN: somebody does, and has a full queue. EACCES: we may not ask.
      let code = withAddress({ connect(probe.number, $0, $1) }) == 0 ? 0 : errno
      switch code {
      case ECONNREFUSED: unlink(path)
      case 0, EAGAIN, EPROTOTYPE: throw SystemError("bind", code: EADDRINUSE)
      default: throw SystemError("connect", code: code)
      }
    }
    let descriptor = Descriptor(owning: try syscall("socket") { clinux_stream_socket(AF_UNIX, 1) })
    let mask = umask(0o117)
    defer { umask(mask) }
    try syscall("bind") { withAddress { bind(descriptor.number, $0, $1) } }
    return descriptor
  }

  private static func bindTCP(host: String, port: UInt16) throws(SystemError) -> Descriptor {
    guard let address = SocketAddress(host: host, port: port) else {
      throw SystemError("getaddrinfo", code: EDESTADDRREQ)
    }
    let descriptor = Descriptor(owning: try syscall("socket") { clinux_stream_socket(address.family, 1) })
    var on: Int32 = 1
    setsockopt(descriptor.number, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
    // What is accepted inherits it: an answer is not to wait until the one before has been acknowledged.
    setsockopt(descriptor.number, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    try syscall("bind") { address.withPointer { bind(descriptor.number, $0, $1) } }
    return descriptor
  }
}
