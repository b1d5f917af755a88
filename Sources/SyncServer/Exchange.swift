// One request and its answer through libfcgi.

import CFastCGI
import CGI
import CLinux
import FastCGI
import Glibc
import Shop

/// A request that came over a connection, and the way back. Owns an `FCGX_Request`; nothing of libfcgi leaves this file.
///
/// The connection is accepted outside libfcgi and handed to it as one that is being kept, which makes FCGX_Accept_r read
/// from it; and it is closed outside, at once. libfcgi's own way of closing (shutdown, then wait for the peer) is for data
/// that has not been read, and here everything has been.
struct Exchange: ~Copyable {
  private let handle: UnsafeMutablePointer<FCGX_Request>
  private var head: [UInt8] = []
  private var timeout: timeval?
  private(set) var request = Request()
  /// Whether the web server wants to use the connection again (FCGI_KEEP_CONN, FastCGI 1.0 §5.1).
  private(set) var isWantedAgain = false
  /// Whether the request's variables were longer or more than the event loop takes too. None was taken then.
  private(set) var headerIsTooLarge = false

  /// `peerTimeout` in seconds: how long the peer may be silent; nil: somebody else looks after that.
  init(peerTimeout: Int?) {
    FCGX_Init()
    // It catches PIPE (os_unix.c, OS_InstallSignalHandlers), and would take what that interrupts for broken.
    signal(SIGPIPE, SIG_IGN)
    handle = .allocate(capacity: 1)
    // No listening socket: libfcgi must never accept by itself.
    FCGX_InitRequest(handle, -1, 0)
    timeout = peerTimeout.map { timeval(tv_sec: $0, tv_usec: 0) }
    head.reserveCapacity(512)
  }

  deinit {
    closeConnection()
    handle.deallocate()
  }

  /// Reads a request from `connection`, which is owned from here on. False if there is none to answer.
  mutating func receive(on connection: Int32) -> Bool {
    if var timeout {
      let size = socklen_t(MemoryLayout<timeval>.size)
      setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &timeout, size)
      setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &timeout, size)
    }
    handle.pointee.ipcFd = connection
    handle.pointee.keepConnection = 1
    guard FCGX_Accept_r(handle) == 0 else {
      closeConnection()
      return false
    }
    isWantedAgain = handle.pointee.keepConnection != 0
    handle.pointee.keepConnection = 1
    request.reset()
    takeVariables()
    takeBody()
    // A peer that went away before STDIN had ended has not asked for anything.
    guard FCGX_GetError(handle.pointee.in) == 0 else {
      closeConnection()
      return false
    }
    return true
  }

  /// Writes the answer. The connection, which is the caller's then, if it was whole and should be kept; otherwise it is
  /// closed.
  mutating func send(_ response: Response, keeping: Bool = false) -> Int32? {
    head.removeAll(keepingCapacity: true)
    response.writeHead(to: &head, requestID: request.requestID)
    put(head)
    if !response.omitsBody { put(response.body) }
    // The rest of STDOUT and END_REQUEST in one write; it closes a connection that failed.
    FCGX_Finish_r(handle)
    guard keeping, handle.pointee.ipcFd >= 0 else {
      closeConnection()
      return nil
    }
    defer { handle.pointee.ipcFd = -1 }
    return handle.pointee.ipcFd
  }

  private func put(_ bytes: [UInt8]) {
    bytes.withUnsafeBytes { bytes in
      var rest = bytes[...]
      while !rest.isEmpty {
        // libfcgi counts in 32 bits.
        let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(1 << 30))
        let text = piece.baseAddress?.assumingMemoryBound(to: CChar.self)
        guard FCGX_PutStr(text, Int32(piece.count), handle.pointee.out) == piece.count else { return }
        rest = rest.dropFirst(piece.count)
      }
    }
  }

  private func closeConnection() {
    guard handle.pointee.ipcFd >= 0 else { return }
    FCGX_Free(handle, 0)
    close(handle.pointee.ipcFd)
    handle.pointee.ipcFd = -1
  }

  private mutating func takeVariables() {
    headerIsTooLarge = !isWithinLimits
    guard !headerIsTooLarge, var entry = handle.pointee.envp else { return request.finish() }
    while let pair = entry.pointee {
      let (name, value) = Self.split(pair)
      request.append(Span(_unsafeElements: name), Span(_unsafeElements: value))
      entry += 1
    }
    request.finish()
  }

  /// The event loop's limits: libfcgi has none.
  private var isWithinLimits: Bool {
    guard var entry = handle.pointee.envp else { return true }
    var left = RequestLimits()
    while let pair = entry.pointee {
      let (name, value) = Self.split(pair)
      // With the lengths in front of them (FastCGI 1.0 §3.4).
      left.params -= name.count + value.count + (name.count < 0x80 ? 1 : 4) + (value.count < 0x80 ? 1 : 4)
      if strncmp(pair, "HTTP_", 5) != 0 { left.pairs -= 1 }
      if left.params < 0 || left.pairs < 0 { return false }
      entry += 1
    }
    return true
  }

  /// The name and the value of a variable as libfcgi keeps it, with `=` between them.
  private static func split(
    _ pair: UnsafePointer<CChar>
  ) -> (name: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>) {
    let bytes = UnsafeRawPointer(pair).assumingMemoryBound(to: UInt8.self)
    let all = UnsafeBufferPointer(start: bytes, count: strlen(pair))
    guard let equals = memchr(pair, Int32(UInt8(ascii: "=")), all.count) else {
      return (all, UnsafeBufferPointer(rebasing: all[all.count...]))
    }
    let count = UnsafeRawPointer(equals) - UnsafeRawPointer(pair)
    return (UnsafeBufferPointer(rebasing: all[..<count]), UnsafeBufferPointer(rebasing: all[(count + 1)...]))
  }

  /// Reads STDIN to its end, whatever the method: what is left unread would reset the connection when it is closed.
  private mutating func takeBody() {
    let piece = 16 << 10
    while true {
      let start = request.body.count
      let count = withUnsafeTemporaryAllocation(byteCount: piece, alignment: 1) { buffer -> Int in
        let count = Int(
          FCGX_GetStr(buffer.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(piece), handle.pointee.in))
        if count > 0, !request.bodyIsTooLarge {
          request.body.append(contentsOf: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
        }
        return count
      }
      if start + count > Shop.longestBody {
        request.bodyIsTooLarge = true
        request.body = []
      }
      if count < piece { return }
    }
  }
}
