// What a pool of processes is told, whatever they do.

import Glibc
import Platform

package struct MasterConfiguration: Sendable {
  package var listen: ListenAddress
  /// Where the master answers for its pool; nil: nowhere.
  package var status: ListenAddress?
  /// Connections that may wait to be accepted (listen(2)).
  package var backlog = ListeningSocket.longestQueue
  package var pool: PoolConfiguration
  package var limits = WorkerLimits()
  /// How long connections are accepted after TERM, before the drain.
  package var drainDelay = Duration.zero
  /// How long requests may take to end in a drain.
  package var drainTimeout = Duration.seconds(30)
  /// Whether connections that the web server keeps are parked with the master.
  package var keepsConnections = false
  package var daemon = DaemonConfiguration()
  /// What is not as it should be, and is to be told when the master starts, a line each.
  package var remarks: [String] = []

  package init(listen: ListenAddress, status: ListenAddress? = nil, pool: PoolConfiguration) {
    self.listen = listen
    self.status = status
    self.pool = pool
  }
}

/// What concerns the processes and not the requests.
package struct DaemonConfiguration: Sendable {
  /// Whom the workers run as, and the sockets belong to; nil: whoever started the master.
  package var account: Account?
  /// Who may connect over TCP.
  package var peers: PeerList?
  /// Where the log goes; nil: standard error.
  package var logFile: String?
  /// Limits of the processes (setrlimit(2)); nil: as they are.
  package var files: Int?
  package var core: Int?

  /// How many descriptors a process needs beside those of its database connections.
  package static let fewestFiles = 31

  package init() {}

  /// What somebody should know who starts us as root and has not thought of whom the workers run as.
  var remarkForRoot: String? {
    geteuid() == 0 && account == nil
      ? "the workers run as root, which they have no need of: with --user they run as somebody else" : nil
  }

  /// Applies what the master, too, is subject to.
  func apply() throws(ListeningSocket.Failure) {
    umask(0o027)
    if let logFile {
      do throws(SystemError) {
        try LogOutput.open(logFile, owner: account)
      } catch {
        throw .log(logFile, error)
      }
    } else {
      LogOutput.neverWait()
    }
    do throws(SystemError) { try applyLimits() } catch { throw .system(nil, error) }
    // A connection is one.
    Descriptor.raiseLimit()
  }

  /// Sets the limits of this process (setrlimit(2)).
  func applyLimits() throws(SystemError) {
    let limits: [(__rlimit_resource, Int?, StaticString)] = [
      (RLIMIT_NOFILE, files, "--rlimit-files: setrlimit"), (RLIMIT_CORE, core, "--rlimit-core: setrlimit"),
    ]
    for (resource, value, name) in limits {
      guard let value else { continue }
      var limit = rlimit(rlim_cur: rlim_t(value), rlim_max: rlim_t(value))
      try syscall(name) { setrlimit(__rlimit_resource_t(resource.rawValue), &limit) }
    }
  }
}

/// How many workers there are, as in PHP-FPM.
package struct PoolConfiguration: Equatable, Sendable {
  package enum Mode: String, Sendable, CaseIterable {
    /// Always `workers`.
    case fixed = "static"
    /// Between `minSpare` and `maxSpare` idle ones, `workers` at most.
    case dynamic
    /// None until somebody comes; idle ones leave after `idleTimeout`.
    case ondemand
  }

  package var mode: Mode
  /// The most that there may be.
  package var workers: Int
  /// How many a dynamic pool begins with.
  package var start: Int
  package var minSpare: Int
  package var maxSpare: Int
  package var idleTimeout: Duration

  package init(
    mode: Mode = .fixed, workers: Int, start: Int = 2, minSpare: Int = 1, maxSpare: Int = 4,
    idleTimeout: Duration = .seconds(10)
  ) {
    self.mode = mode
    self.workers = workers
    self.start = start
    self.minSpare = minSpare
    self.maxSpare = maxSpare
    self.idleTimeout = idleTimeout
  }
}

/// How much a worker may do and take. 0 is no limit.
package struct WorkerLimits: Equatable, Sendable {
  /// Requests after which a worker gives its place to a new one, and how many more at most, drawn for each worker so that
  /// they do not all go at once.
  package var requests = 0
  package var requestsJitter = 0
  /// Resident memory after a request, in bytes, above which a worker gives its place to a new one.
  package var memory = 0
  /// Nanoseconds for a request; then the client gets a 504 and the worker is killed.
  package var requestTime: UInt64 = 0
  /// Nanoseconds above which a request is logged.
  package var slow: UInt64 = 0
  /// Nanoseconds in the listen queue after which a request is answered 503 at once.
  package var queueWait: UInt64 = 0
  /// Nanoseconds without a new turn of its loop after which a worker is replaced: it hangs, or has been stopped.
  package var turn: UInt64 = 0

  package init() {}

  /// The statement timeout to use, in milliseconds: at most nine tenths of what a request may take.
  package func statementTimeout(_ wanted: Int) -> Int {
    requestTime == 0 ? wanted : min(wanted, max(1, Int(requestTime / 1_000_000) * 9 / 10))
  }
}
