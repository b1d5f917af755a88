// What belongs to a stack, and whether it answers.

import CLinux
import Glibc
import Platform

/// A process that belongs to the stack.
package struct Service: Sendable {
  package let name: String
  package let arguments: [String]
  package let environment: [String: String]
  package let account: Account?
  /// Where its output goes.
  package let log: String
  /// Tells it to finish what it has begun and stop.
  package let stopSignal: Int32
  /// Announces that it will be told to stop; nil: it can't.
  package let announcementSignal: Int32?
  /// How long that may take, in nanoseconds.
  package let stopLimit: UInt64
  /// Tells it to open its logs anew; nil: it can't.
  package let reopenSignal: Int32?
  /// Where it answers once it is ready.
  package let readiness: Readiness

  static let usualStopLimit: UInt64 = 40_000_000_000

  package enum Readiness: Sendable {
    case unix(String)
    case tcp(UInt16)
    /// A PostgreSQL, which listens before it takes anybody: its postmaster.pid says whether it is ready, as pg_ctl asks.
    case postmaster(PostmasterFile)

    /// Whether somebody accepts connections there; a PostgreSQL is to be `process`.
    package func isAnswered(by process: pid_t? = nil) -> Bool {
      switch self {
      case .unix(let path):
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) {
          $0.copyBytes(from: path.utf8.prefix(ListenAddress.longestPath))
        }
        return Self.connects(AF_UNIX, &address)
      case .tcp(let port):
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return Self.connects(AF_INET, &address)
      case .postmaster(let file):
        guard let content = file.read() else { return false }
        return content.process == process && content.state == "ready"
      }
    }

    private static func connects<Address>(_ family: Int32, _ address: inout Address) -> Bool {
      let number = clinux_stream_socket(family, 0)
      guard number >= 0 else { return false }
      let descriptor = Descriptor(owning: number)
      // Whose queue is full is there, but would keep us waiting.
      var limit = timeval(tv_sec: 1, tv_usec: 0)
      setsockopt(descriptor.number, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
      let outcome = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          connect(descriptor.number, $0, socklen_t(MemoryLayout<Address>.size))
        }
      }
      return outcome == 0 || errno == EAGAIN || errno == EINPROGRESS
    }
  }

  package init(
    _ name: String, _ arguments: [String], environment: [String: String], as account: Account?, log: String,
    stopSignal: Int32, announcementSignal: Int32? = nil, stopLimit: UInt64 = Self.usualStopLimit,
    reopenSignal: Int32? = nil, readiness: Readiness
  ) {
    self.name = name
    self.arguments = arguments
    self.environment = environment
    self.account = account
    self.log = log
    self.stopSignal = stopSignal
    self.announcementSignal = announcementSignal
    self.stopLimit = stopLimit
    self.reopenSignal = reopenSignal
    self.readiness = readiness
  }

  /// Makes its log where there is none, so that it can open it: the folder is not its user's.
  func makeLog() {
    let number = clinux_open_append(log, 0o644)
    guard number >= 0 else { return }
    let file = Descriptor(owning: number)
    if let account { fchown(file.number, account.user, account.group) }
  }

  /// The last line of its log, behind a colon.
  var lastLine: String { readText(log)?.lines.last { !$0.isEmpty }.map { ": \($0)" } ?? "" }
}
