// The prefork responder: a pool of processes with blocking database access.

import Application
import CGI
import Logging
import Platform
import ProcessPool

/// Runs the pool on the calling thread, which should be the main one and alone, until it is told to stop.
package enum PreforkServer {
  /// The exit code: 0 when every request that had been accepted was answered, 1 when the drain took too long.
  package static func run(
    _ configuration: SyncConfiguration, _ invocation: Invocation, log: Logger
  ) throws(ListeningSocket.Failure) -> Int32 {
    // The master's own, which answers where no worker does.
    let application = configuration.application { false }
    let duties = Duties(
      emergencyAnswer: (emergencyAnswer(application, writing: false), emergencyAnswer(application, writing: true)),
      roots: application.roots, page: page(application),
      worker: { Worker(configuration, $0, log: log).run() })
    var master = try Master(configuration.master, invocation, duties, log: log)
    return master.run()
  }

  /// The master's answers.
  private static func page(_ application: any Application) -> Duties.Page {
    { state, request, headerIsTooLarge in
      let began = MonotonicClock.now
      var response: Response
      if headerIsTooLarge {
        response = application.refuse(.headerTooLarge)
      } else if let page = MonitoringPage(path: request.path, below: application.prefix) {
        response = page.answer(request, by: application) {
          page == .status ? StatusPage(state).json() : StatusPage(state).metrics()
        }
      } else {
        response = application.refuse(.nothingHere)
      }
      let spent = MonotonicClock.now - began
      application.seal(&response, for: request, Response.Timing(database: 0, application: spent))
      return response
    }
  }

  /// What is said of a request that took too long.
  private static func emergencyAnswer(_ application: any Application, writing: Bool) -> EmergencyAnswer {
    var head: [UInt8] = []
    var response = application.refuse(.timedOut(writing: writing))
    response.timing = Response.Timing(database: 0, application: 0)
    let none: [UInt8] = []
    response.writeHead(to: &head, requestID: none.span)
    return EmergencyAnswer(head: head, body: response.body)
  }
}
