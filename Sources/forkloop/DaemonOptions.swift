// What both responders take as daemons: users, limits, logs.

import ArgumentParser
import Glibc
import Platform
import ProcessPool

/// Which responder's settings are meant.
protocol DoorName {
  /// What the names of its environment variables begin with.
  static var prefix: String { get }
}

enum SyncDoor: DoorName { static let prefix = "FORKLOOP_SYNC_" }
enum AsyncDoor: DoorName { static let prefix = "FORKLOOP_ASYNC_" }

/// What concerns the processes and not the requests.
struct DaemonOptions<Door: DoorName>: ParsableArguments {
  @Option(
    help: "The user that workers run as and sockets belong to, for a master started by root. [\(Door.prefix)USER]")
  var user: String?

  @Option(help: "The group, if it is not the user's own. [\(Door.prefix)GROUP]")
  var group: String?

  @Option(help: "Addresses that may connect over TCP, with commas between them. [\(Door.prefix)ALLOW] (default: all)")
  var allow: String?

  @Option(help: "The file to log to; USR1 opens it anew. [\(Door.prefix)LOG] (default: standard error)")
  var log: String?

  @Option(help: "Open files that a process may have. [\(Door.prefix)RLIMIT_FILES]")
  var rlimitFiles: Int?

  @Option(help: "Bytes that a core file may have. [\(Door.prefix)RLIMIT_CORE]")
  var rlimitCore: Int?

  func configuration(_ reader: SettingsReader) throws(SettingsError) -> DaemonConfiguration {
    var daemon = DaemonConfiguration()
    if let name = user ?? reader.settings["\(Door.prefix)USER"] {
      guard var account = Account(named: name) else { throw SettingsError("there is no user '\(name)' (--user)") }
      if let name = group ?? reader.settings["\(Door.prefix)GROUP"] {
        guard let other = account.with(groupNamed: name) else {
          throw SettingsError("there is no group '\(name)' (--group)")
        }
        account = other
      }
      guard geteuid() == 0 else { throw SettingsError("--user needs a master that is started by root") }
      daemon.account = account
    }
    let list = reader.text(allow, "\(Door.prefix)ALLOW", default: "")
    do throws(PeerList.Malformed) {
      let peers = try PeerList(list)
      daemon.peers = peers.isEmpty ? nil : peers
    } catch {
      throw SettingsError("\(allow == nil ? "\(Door.prefix)ALLOW" : "--allow"): \(error)")
    }
    daemon.logFile = log ?? reader.settings["\(Door.prefix)LOG"]
    let files = try reader.integer(
      rlimitFiles, "--rlimit-files", "\(Door.prefix)RLIMIT_FILES", in: -1...1 << 20, default: -1)
    let core = try reader.integer(
      rlimitCore, "--rlimit-core", "\(Door.prefix)RLIMIT_CORE", in: -1...1 << 40, default: -1)
    daemon.files = files < 0 ? nil : files
    daemon.core = core < 0 ? nil : core
    return daemon
  }
}
