// The state folder of a stack: where its data, sockets and logs live, and who may get at them.

import Glibc
import Platform

/// Something that keeps a stack from running; the text says what to do.
package struct LocalStackError: Error, CustomStringConvertible {
  package let description: String
  package init(_ description: String) { self.description = description }
}

/// Whom the stack's processes run as. Started by root it needs unprivileged users, since PostgreSQL refuses root and
/// responders have no need of it; otherwise all run as whoever started it.
package struct Accounts: Sendable {
  package let postgres: Account?
  /// nginx's workers and both responders.
  package let web: Account?

  package init() throws(LocalStackError) {
    guard geteuid() == 0 else {
      (postgres, web) = (nil, nil)
      return
    }
    guard let postgres = Account(named: "postgres") else {
      throw LocalStackError("there is no user 'postgres': install PostgreSQL (apt-get install postgresql)")
    }
    guard let web = Account(named: "www-data") ?? Account(named: "nobody") else {
      throw LocalStackError("there is neither a user 'www-data' nor 'nobody' to run the responders as")
    }
    self.postgres = postgres
    self.web = web
  }
}

/// `var/` and what is in it.
package struct Folders: Sendable {
  package let state: String
  package var postgres: String { "\(state)/postgres" }
  package var run: String { "\(state)/run" }
  /// PostgreSQL's socket, in a folder where it alone can make files: whoever comes here is not led to somebody else.
  package var database: String { "\(state)/db" }
  package var log: String { "\(state)/log" }
  /// nginx's configuration and pid: root's, where nginx runs as root, since whoever can write there is root.
  package var nginx: String { "\(state)/nginx" }
  package var nginxTemporary: String { "\(nginx)/temporary" }

  /// The longest path in it that is a Unix socket.
  private static let longestSocket = "/run/.s.PGSQL.5432.lock".utf8.count

  /// `state` may be relative to the working folder; it need not exist.
  package init(state: String) throws(LocalStackError) {
    var path = state
    if path.utf8.first != UInt8(ascii: "/") {
      guard let working = getcwd(nil, 0) else { throw LocalStackError("the working folder can't be found") }
      defer { free(working) }
      path = "\(String(cString: working))/\(path)"
    }
    while path.utf8.count > 1, path.utf8.last == UInt8(ascii: "/") { path.unicodeScalars.removeLast() }
    self.state = path
    guard path.utf8.count + Self.longestSocket <= ListenAddress.longestPath else {
      throw LocalStackError(
        "the state folder's path is too long for the sockets in it (\(path.utf8.count) bytes): choose another with --state"
      )
    }
  }

  /// Makes what is missing, with the right owners, and sees to it that they can get there. The cluster's folder is not among
  /// it: that comes when it is complete.
  package func make(for accounts: Accounts) throws(LocalStackError) {
    try makeParents()
    try make(state, mode: 0o755, owner: nil, group: nil)
    try make(log, mode: 0o755, owner: nil, group: nil)
    // Into these two come PostgreSQL's user and the responders', or whoever started us, and nobody else: who gets to the
    // private cluster's socket is believed to be the application.
    let (postgres, web) = (accounts.postgres?.user ?? geteuid(), accounts.web?.group ?? getegid())
    try make(database, mode: accounts.web == nil ? 0o700 : 0o750, owner: postgres, group: web)
    // Sticky: the responders' user can't replace what is not its own.
    try make(run, mode: accounts.web == nil ? 0o700 : 0o1770, owner: postgres, group: web)
    try make(nginx, mode: 0o755, owner: nil, group: nil)
    try make(nginxTemporary, mode: 0o700, owner: accounts.web?.user, group: accounts.web?.group)
    for (account, folder) in [(accounts.postgres, database), (accounts.web, run)] {
      if let account, !Self.isReachable(folder, for: account) {
        throw LocalStackError(
          "the user '\(account.name)' can't get to \(state): a folder above it is closed to others; "
            + "open it (chmod a+x) or choose another with --state")
      }
    }
  }

  /// The database's socket has been in `run/`, where settings may still look for it. For whoever knows that nobody listens there.
  func linkSocket() throws(LocalStackError) {
    let path = "\(run)/.s.PGSQL.5432"
    unlink("\(path).lock")
    unlink(path)
    guard symlink("../db/.s.PGSQL.5432", path) == 0 else {
      throw LocalStackError("can't make the link \(path): \(String(cString: strerror(errno)))")
    }
  }

  /// What is missing above the state folder.
  private func makeParents() throws(LocalStackError) {
    var path = ""
    for part in state.parts(by: "/").dropLast() {
      path += "/\(part)"
      if access(path, F_OK) != 0 { try make(path, mode: 0o755, owner: nil, group: nil) }
    }
  }

  private func make(_ path: String, mode: mode_t, owner: uid_t?, group: gid_t?) throws(LocalStackError) {
    let isNew = mkdir(path, mode) == 0
    if !isNew, errno != EEXIST {
      throw LocalStackError("can't make the folder \(path): \(String(cString: strerror(errno)))")
    }
    // What others have to get through is open to them, whatever the mask says that we were started with.
    if isNew, geteuid() == 0 { chmod(path, mode) }
    if owner != nil || group != nil {
      guard chown(path, owner ?? uid_t.max, group ?? gid_t.max) == 0, chmod(path, mode) == 0 else {
        throw LocalStackError("can't give the folder \(path) away: \(String(cString: strerror(errno)))")
      }
    }
  }

  private static func isReachable(_ path: String, for account: Account) -> Bool {
    guard
      let child = try? ChildProcess.fork(
        parentDeathSignal: SIGKILL,
        {
          account.assume() && access(path, X_OK) == 0 ? 0 : 1
        })
    else { return false }
    return ChildProcess.wait(for: child).exitCode == 0
  }
}

/// A path without links and detours; nil if nothing is there.
package func resolved(_ path: String) -> String? {
  guard let real = realpath(path, nil) else { return nil }
  defer { free(real) }
  return String(cString: real)
}

/// Finds programs: `PATH`, and where Debian keeps those that `PATH` lacks.
package func findProgram(_ name: String, alsoIn folders: [String] = []) -> String? {
  let path = getenv("PATH").map { String(cString: $0) } ?? ""
  let candidates = folders + path.parts(by: ":").map(String.init) + ["/usr/sbin", "/usr/local/sbin", "/sbin"]
  return candidates.map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
}

/// A text file's content; nil if it can't be read.
package func readText(_ path: String) -> String? {
  guard let file = fopen(path, "re") else { return nil }
  defer { fclose(file) }
  var bytes: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 16 << 10)
  while true {
    let count = fread(&chunk, 1, chunk.count, file)
    if count == 0 { return String(decoding: bytes, as: UTF8.self) }
    bytes += chunk[..<count]
  }
}

/// Replaces a text file's content.
package func writeText(_ text: String, to path: String) throws(LocalStackError) {
  guard let file = fopen(path, "we") else {
    throw LocalStackError("can't write \(path): \(String(cString: strerror(errno)))")
  }
  let count = text.utf8.count
  let written = fwrite(text, 1, count, file)
  guard fclose(file) == 0, written == count else { throw LocalStackError("can't write \(path): the disk may be full") }
}
