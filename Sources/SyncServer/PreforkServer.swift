// The prefork responder: a pool of processes with blocking database access.

import CGI
import FastCGI
import Logging
import Orders
import Platform
import ProcessPool

/// Runs the pool on the calling thread, which should be the main one and alone, until it is told to stop.
package enum PreforkServer {
  /// The exit code: 0 when every request that had been accepted was answered, 1 when the drain took too long.
  package static func run(
    _ configuration: SyncConfiguration, _ invocation: Invocation, log: Logger
  ) throws(ListeningSocket.Failure) -> Int32 {
    let duties = Duties(
      emergencyAnswer: (emergencyAnswer(writing: false), emergencyAnswer(writing: true)), roots: Mode.prefixes,
      page: page,
      worker: { Worker(configuration, $0, log: log).run() })
    var master = try Master(configuration.master, invocation, duties, log: log)
    return master.run()
  }

  private static func page(_ state: PoolState, _ path: Span<UInt8>) -> Response? {
    if path.equals("/sync/status") {
      Response(.ok, contentType: .json, body: StatusPage(state).json())
    } else if path.equals("/sync/metrics") {
      Response(.ok, contentType: .openMetrics, body: StatusPage(state).metrics())
    } else {
      nil
    }
  }

  /// What is said of a request that took too long.
  private static func emergencyAnswer(writing: Bool) -> EmergencyAnswer {
    var writer = RecordWriter()
    var head: [UInt8] = []
    let response = Orders.timedOut(writing: writing)
    let space = [UInt8](repeating: UInt8(ascii: "?"), count: Span<UInt8>.longestWord)
    response.writeHead(to: &head, requestID: space.span)
    // nginx's requests all have this id.
    writer.answer(requestID: 1, head: head, body: response.body)
    return EmergencyAnswer(writer.bytes, id: writer.bytes.firstRange(of: space) ?? 0..<0)
  }
}
