// One request and its answer through libfcgi.

import Application
import CFastCGI
import CGI
import CLinux
import FastCGI
import Glibc

/// A request that came over a connection, and the way back. Owns an `FCGX_Request`; nothing of libfcgi leaves this file.
///
/// The connection is accepted outside libfcgi and handed to it as one that is being kept, which makes FCGX_Accept_r read
/// from it; and it is closed outside, at once. libfcgi's own way of closing (shutdown, then wait for the peer) is for data
/// that has not been read, and here everything has been. The variables are read outside, too, and the whole request where it
/// has not come as one or is not one of the usual: see `ParamsPreview`.
struct Exchange: ~Copyable {
  private let handle: UnsafeMutablePointer<FCGX_Request>
  private var head: [UInt8] = []
  /// What the connection holds while its header is looked at, and the variables in it.
  private var peeked = [UInt8](repeating: 0, count: 8 << 10)
  private var preview = ParamsPreview()
  private var timeout: timeval?
  private let patience: Patience
  /// Whether the connection, which is still there, has brought no request yet.
  private var isQuiet = false
  private(set) var request = Request()
  /// Whether the web server wants to use the connection again (FCGI_KEEP_CONN, FastCGI 1.0 §5.1).
  private(set) var isWantedAgain = false
  /// Whether the header was longer than anybody wants to read: then there is none.
  private(set) var hasTooLongHeader = false

  /// With what paths begin, and the longest body that is read (`Application`).
  private let roots: [String]
  private let limits: RequestLimits

  /// `patience.first` is how long the peer may be silent later on, too.
  init(_ patience: Patience, for application: any Application) {
    self.patience = patience
    roots = application.roots
    limits = RequestLimits(body: application.longestBody)
    FCGX_Init()
    // It catches PIPE (os_unix.c, OS_InstallSignalHandlers), and would take what that interrupts for broken.
    signal(SIGPIPE, SIG_IGN)
    handle = .allocate(capacity: 1)
    // No listening socket: libfcgi must never accept by itself.
    FCGX_InitRequest(handle, -1, 0)
    timeout = patience.first.map { timeval(tv_sec: $0, tv_usec: 0) }
    head.reserveCapacity(512)
  }

  deinit {
    closeConnection()
    handle.deallocate()
  }

  /// Reads a request from `connection`, which is owned from here on. False if there is none to answer; `takeQuiet` says whether
  /// there may be one later.
  mutating func receive(on connection: Int32) -> Bool {
    if var timeout {
      let size = socklen_t(MemoryLayout<timeval>.size)
      setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &timeout, size)
      setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &timeout, size)
    }
    request.reset()
    hasTooLongHeader = false
    handle.pointee.ipcFd = connection
    guard holdsWholeRequest(connection) ? accept() : assemble(from: connection) else {
      if !isQuiet { closeConnection() }
      return false
    }
    isWantedAgain = handle.pointee.keepConnection != 0
    handle.pointee.keepConnection = 1
    return true
  }

  /// The connection, which is the caller's then, if nothing has come over it but questions that have been answered.
  mutating func takeQuiet() -> Int32? {
    guard isQuiet else { return nil }
    isQuiet = false
    defer { handle.pointee.ipcFd = -1 }
    return handle.pointee.ipcFd
  }

  /// Looks at the request, where it has come as a whole, before libfcgi reads it: it makes C strings of the variables, which end at
  /// a zero, so that `/contact/1%00` would be another path.
  private mutating func holdsWholeRequest(_ connection: Int32) -> Bool {
    while true {
      let count = recv(connection, &peeked, peeked.count, Int32(MSG_PEEK))
      if count < 0, errno == EINTR { continue }
      return count > 0 && Self.isWhole(&preview, peeked, count)
    }
  }

  private static func isWhole(_ preview: inout ParamsPreview, _ bytes: [UInt8], _ count: Int) -> Bool {
    preview.look(at: bytes.span.extracting(first: count)) == .complete
  }

  /// Lets libfcgi read the request.
  private mutating func accept() -> Bool {
    clinux_set_emergency_answer_request(preview.requestID ?? RecordHeader.nullRequestID)
    handle.pointee.keepConnection = 1
    guard FCGX_Accept_r(handle) == 0 else { return false }
    take(preview.params)
    takeBody()
    // A peer that went away before STDIN had ended has not asked for anything.
    return FCGX_GetError(handle.pointee.in) == 0
  }

  /// Reads a request that comes in pieces, or behind something else, and lets libfcgi know of it only that there is one.
  private mutating func assemble(from connection: Int32) -> Bool {
    var assembler = RequestAssembler(limits: limits)
    let reading = assembler.read(from: connection, patience, header: { take($0) })
    guard case .request(let assembled) = reading else {
      if case .quiet = reading { isQuiet = true }
      return false
    }
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { return false }
    var records = RecordWriter()
    let flags = assembled.keepsConnection ? keepConnectionFlag : 0
    records.record(.beginRequest, requestID: assembled.id, [0, UInt8(Role.responder), flags, 0, 0, 0, 0, 0])
    records.record(.params, requestID: assembled.id, [])
    records.record(.stdin, requestID: assembled.id, [])
    write(ends[1], records.bytes, records.bytes.count)
    close(ends[1])
    handle.pointee.ipcFd = ends[0]
    handle.pointee.keepConnection = 1
    let isThere = FCGX_Accept_r(handle) == 0
    // What is not accepted has been closed.
    if isThere { close(ends[0]) }
    // It reads and writes where this says at the moment.
    handle.pointee.ipcFd = connection
    hasTooLongHeader = hasTooLongHeader || assembled.paramsAreTooLarge
    request.body = assembled.body
    request.bodyIsTooLarge = assembled.bodyIsTooLarge
    return isThere
  }

  private mutating func take(_ params: [UInt8]) {
    var walk = NameValuePairs()
    var count = 0
    // Whoever has put them together knows that they are whole.
    while let pair = try? walk.next(params.span) {
      request.append(params.span.extracting(pair.name), params.span.extracting(pair.value))
      if !params.span.extracting(pair.name).isFieldName { count += 1 }
    }
    hasTooLongHeader = count > limits.pairs
    request.finish(roots: roots)
    let omitsBody: Int32 = request.method == .head ? 1 : 0
    request.requestID.withUnsafeBufferPointer { clinux_set_emergency_answer_id($0.baseAddress, $0.count, omitsBody) }
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

  /// Lets a client go that has gone.
  mutating func drop() { closeConnection() }

  /// The request's body is not needed any more.
  mutating func forgetBody() { request.body = [] }

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
      if start + count > limits.body {
        request.bodyIsTooLarge = true
        request.body = []
      }
      if count < piece { return }
    }
  }
}
