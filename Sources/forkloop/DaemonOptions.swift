// What both responders take as daemons: users, limits, logs.

import ArgumentParser
import Glibc
import Platform
import ProcessPool

/// Which responder's settings are meant.
protocol ResponderName {
  /// What the names of its environment variables begin with.
  static var prefix: String { get }
}

enum SyncName: ResponderName { static let prefix = "FORKLOOP_SYNC_" }
enum AsyncName: ResponderName { static let prefix = "FORKLOOP_ASYNC_" }

/// What concerns the processes and not the requests.
struct DaemonOptions<Name: ResponderName>: ParsableArguments {
  @Option(
    help: "The user that workers run as and sockets belong to, for a master started by root. [\(Name.prefix)USER]")
  var user: String?

  @Option(help: "The group, if it is not the user's own. [\(Name.prefix)GROUP]")
  var group: String?

  @Option(help: "Addresses that may connect over TCP, with commas between them. [\(Name.prefix)ALLOW] (default: all)")
  var allow: String?

  @Option(help: "The file to log to; USR1 opens it anew. [\(Name.prefix)LOG] (default: standard error)")
  var log: String?

  @Option(help: "Open files that a process may have. [\(Name.prefix)RLIMIT_FILES]")
  var rlimitFiles: Int?

  @Option(help: "Bytes that a core file may have. [\(Name.prefix)RLIMIT_CORE]")
  var rlimitCore: Int?

  func configuration(_ reader: SettingsReader) throws(SettingsError) -> DaemonConfiguration {
    var daemon = DaemonConfiguration()
    if let name = user ?? reader.settings["\(Name.prefix)USER"] {
      let flag = reader.source(user, "--user", "\(Name.prefix)USER")
      guard var account = Account(named: name) else { throw SettingsError("there is no user '\(name)' (\(flag))") }
      if let name = group ?? reader.settings["\(Name.prefix)GROUP"] {
        guard let other = account.with(groupNamed: name) else {
          throw SettingsError("there is no group '\(name)' (\(reader.source(group, "--group", "\(Name.prefix)GROUP")))")
        }
        account = other
      }
      guard geteuid() == 0 else { throw SettingsError("\(flag) needs a master that is started by root") }
      daemon.account = account
    } else if group ?? reader.settings["\(Name.prefix)GROUP"] != nil {
      let flag = reader.source(group, "--group", "\(Name.prefix)GROUP")
      throw SettingsError("\(flag) needs --user or \(Name.prefix)USER: it is the group of that user's processes")
    }
    let list = reader.text(allow, "\(Name.prefix)ALLOW", default: "")
    do throws(PeerList.Malformed) {
      let peers = try PeerList(list)
      daemon.peers = peers.isEmpty ? nil : peers
    } catch {
      throw SettingsError("\(allow == nil ? "\(Name.prefix)ALLOW" : "--allow"): \(error)")
    }
    daemon.logFile = log ?? reader.settings["\(Name.prefix)LOG"]
    let files = try reader.integer(
      rlimitFiles, "--rlimit-files", "\(Name.prefix)RLIMIT_FILES", in: -1...1 << 20, default: -1)
    let core = try reader.integer(
      rlimitCore, "--rlimit-core", "\(Name.prefix)RLIMIT_CORE", in: -1...1 << 40, default: -1)
    daemon.files = files < 0 ? nil : files
    daemon.core = core < 0 ? nil : core
    return daemon
  }
}
