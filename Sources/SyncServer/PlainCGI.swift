// One request as plain CGI (RFC 3875): the slowest of the process models, a process and a database connection a request.

import Application
import CGI
import Glibc
import Logging
import Platform
import Postgres
import ProcessPool

/// Answers the request that the environment and standard input hold, on standard output.
package enum PlainCGI {
  /// What it takes to answer.
  package struct Service {
    let database: ConnectionInfo
    let options: Connection.Options
    let log: Logger

    package init(database: ConnectionInfo, options: Connection.Options, log: Logger) {
      self.database = database
      self.options = options
      self.log = log
    }
  }

  /// Whether this process was started as a CGI script: the environment says so (§4.1.4), and standard input is no socket
  /// that somebody listens on, as a FastCGI application's would be. Arguments say nothing: they may be the words of a query,
  /// which a client has written (§4.4).
  package static var isAsked: Bool {
    guard getenv("GATEWAY_INTERFACE") != nil else { return false }
    var isListening: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    return getsockopt(STDIN_FILENO, SOL_SOCKET, SO_ACCEPTCONN, &isListening, &length) != 0 || isListening == 0
  }

  /// Answers by the one of `applications` that the path belongs to. The exit code: 0, whatever the answer says, unless it could not be
  /// written. Where `service` throws, because a setting is wrong, the log says why, and the client learns that it is not its fault.
  package static func run(_ applications: [any Application], _ service: () throws -> Service) -> Int32 {
    guard var application = applications.first else { return 1 }
    var request = Request()
    let names = [
      "REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH",
      "HTTP_X_REQUEST_ID", "HTTP_TRACEPARENT", "HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH",
      "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_CONTENT_ENCODING", "UNIQUE_ID", "REQUEST_ID",
      "HTTP_IDEMPOTENCY_KEY",
    ]
    for name in names {
      guard let value = getenv(name) else { continue }
      request.append(
        name.utf8.span,
        Span(
          _unsafeElements: UnsafeBufferPointer(
            start: UnsafeRawPointer(value).assumingMemoryBound(to: UInt8.self), count: strlen(value))))
    }
    request.finish(roots: applications.flatMap(\.roots))
    for other in applications where request.path.begins(withSegment: other.prefix) { application = other }
    let unread = takeBody(&request, atMost: application.longestBody)
    var log = Logger(label: "cgi") { LineLog(label: $0) }
    let response: Response
    do {
      let service = try service()
      log = service.log
      response = answer(request, application, service)
    } catch {
      let began = MonotonicClock.now
      var refusal = application.refuse(.misconfigured("\(error)"))
      application.seal(
        &refusal, for: request, Response.Timing(database: 0, application: MonotonicClock.now - began))
      response = refusal
    }
    log.report(response, to: request)
    var bytes: [UInt8] = []
    response.writeHead(to: &bytes, requestID: request.requestID)
    if !response.omitsBody { bytes += response.body }
    let isWritten = writeAll(bytes)
    discard(unread)
    return isWritten ? 0 : 1
  }

  private static func answer(
    _ request: borrowing Request, _ application: any Application, _ service: Service
  ) -> Response {
    var database = BlockingDatabase(service.database, service.options, log: service.log)
    let began = MonotonicClock.now
    var waited: UInt64 = 0
    var step = application.begin(request)
    while true {
      switch step {
      case .respond(var response):
        let spent = MonotonicClock.now - began
        application.seal(&response, for: request, Response.Timing(database: waited, application: spent - waited))
        return response
      case .query(let query):
        let asked = MonotonicClock.now
        let results = database.execute(query, since: began)
        waited += MonotonicClock.now - asked
        step = query.then(results)
      case .wait(let duration, let then):
        MonotonicClock.sleep(duration)
        step = then()
      }
    }
  }

  /// Milliseconds without a byte of the body after which no more of it is waited for; as many for all of one that nobody wants.
  private static let patience: Int32 = 30_000

  /// Reads as much as CONTENT_LENGTH says (§4.2): standard input may stay open behind it. How much it has left unread: of a body that
  /// is too long everything, and of one without a length that somebody is sending all that comes.
  private static func takeBody(_ request: inout Request, atMost longest: Int) -> Int {
    guard let length = request.contentLength else {
      request.lacksLength = true
      return getenv("HTTP_TRANSFER_ENCODING").map { $0.pointee != 0 } ?? false ? .max : 0
    }
    guard length <= longest else {
      request.bodyIsTooLarge = true
      return length
    }
    request.body = [UInt8](unsafeUninitializedCapacity: length) { buffer, count in
      while count < length {
        let more = take(
          UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[count..<length]), for: patience)
        if more <= 0 { break }
        count += more
      }
    }
    return 0
  }

  /// Reads what nobody wants. A web server that can't get rid of a body takes the script for one that has failed, and its answer
  /// is lost (mod_cgid, fcgiwrap). One that looks at the answer first has it already.
  private static func discard(_ length: Int) {
    if length == 0 { return }
    // That is all of it.
    close(STDOUT_FILENO)
    let began = MonotonicClock.now
    withUnsafeTemporaryAllocation(byteCount: 64 << 10, alignment: 1) { buffer in
      var left = length
      while left > 0 {
        let spent = Int32(clamping: (MonotonicClock.now - began) / 1_000_000)
        let count = take(UnsafeMutableRawBufferPointer(rebasing: buffer.prefix(left)), for: max(0, patience - spent))
        if count <= 0 { return }
        left -= count
      }
    }
  }

  /// What standard input has within some milliseconds; 0 or less at its end, and if nothing has come.
  private static func take(_ space: UnsafeMutableRawBufferPointer, for milliseconds: Int32) -> Int {
    var interest = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
    while true {
      let ready = poll(&interest, 1, milliseconds)
      let count = ready > 0 ? read(STDIN_FILENO, space.baseAddress, space.count) : Int(ready)
      if count >= 0 || errno != EINTR { return count }
    }
  }

  private static func writeAll(_ bytes: [UInt8]) -> Bool {
    var written = 0
    while written < bytes.count {
      let count = bytes.withUnsafeBytes {
        write(STDOUT_FILENO, $0.baseAddress.map { $0 + written }, $0.count - written)
      }
      if count < 0, errno == EINTR { continue }
      if count <= 0 { return false }
      written += count
    }
    return true
  }
}
