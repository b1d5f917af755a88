// The event-loop responder: a master that looks after its loops, one process each.

import Logging
import Platform
import ProcessPool

/// Runs the loops until it is told to stop; on the calling thread, which should be the main one and alone.
package enum EventLoopServer {
  /// The exit code: 0 when every request that had been accepted was answered, 1 when the drain took too long.
  package static func run(
    _ configuration: AsyncConfiguration, _ invocation: Invocation, log: Logger
  ) throws(ListeningSocket.Failure) -> Int32 {
    let duties = Duties { context in
      do throws(SystemError) {
        return try Server(configuration, context, log: log).run()
      } catch {
        log.error("\(error)")
        return 1
      }
    }
    var master = try Master(configuration.master, invocation, duties, log: log)
    return master.run()
  }
}
