// The state folder of a stack: where its data, sockets and logs live, and who may get at them.

import CLinux
import Glibc
import Platform

/// Something that keeps a stack from running; the text says what to do.
package struct LocalStackError: Error, CustomStringConvertible {
  package let description: String
  /// Whether a setting is to be another, and nothing has been made yet.
  package let isWrongSetting: Bool
  package init(_ description: String, isWrongSetting: Bool = false) {
    self.description = description
    self.isWrongSetting = isWrongSetting
  }
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
        "the state folder's path is too long for the sockets in it (\(path.utf8.count) bytes): choose another with --state",
        isWrongSetting: true)
    }
    try Self.refuseUnusable(path)
  }

  /// Of a path that stands in nginx's configuration, in a list of PostgreSQL's and in one of libpq's: refuses what none of them
  /// can be told in any other way. `$` is a variable in most of nginx's directives, whose `include` is a pattern; libpq divides at
  /// commas, also within quotes. All else is quoted where it has to be.
  package static func refuseUnusable(_ path: String) throws(LocalStackError) {
    for character in path.unicodeScalars {
      let isControl = character.value < 0x20 || character.value == 0x7F
      guard isControl || "\"\\$*?[,\u{FFFD}".unicodeScalars.contains(character) else { continue }
      let name =
        switch character {
        case "\u{FFFD}": "what is no UTF-8 text"
        case _ where isControl: "a control character"
        default: "a \(character)"
        }
      throw LocalStackError(
        "there is \(name) in the path '\(path)', which nginx, PostgreSQL or libpq would take for something else: "
          + "use a folder of another name", isWrongSetting: true)
    }
  }

  /// Makes the state folder where there is none, and sees whether it is ours. Nothing in it is touched.
  package func makeState() throws(LocalStackError) {
    try makeParents()
    if mkdir(state, 0o755) == 0 {
      // What others have to get through is open to them, whatever the mask says that we were started with.
      if geteuid() == 0 { chmod(state, 0o755) }
    } else if errno != EEXIST {
      throw Self.failure("can't make the folder \(state)")
    }
    _ = try openState()
    let names = namesInFolder(state)
    guard let foreign = names.first, !names.contains("up.lock"), !names.contains("postgres") else { return }
    throw LocalStackError(
      "\(state) is no state folder of 'forkloop up', and not empty (there is '\(foreign)'): choose another with --state"
    )
  }

  /// Root writes here, starts programs with what stands here, and gives folders away: nobody else may put anything in their place.
  private func openState() throws(LocalStackError) -> Descriptor {
    let number = clinux_open_read(state)
    guard number >= 0 else { throw Self.failure("can't look into \(state)") }
    let folder = Descriptor(owning: number)
    var status = stat()
    guard fstat(folder.number, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
      throw LocalStackError("\(state) is no folder: choose another with --state")
    }
    guard geteuid() == 0 else { return folder }
    guard status.st_uid == 0 else {
      let owner = getpwuid(status.st_uid).map { String(cString: $0.pointee.pw_name) } ?? "\(status.st_uid)"
      throw LocalStackError(
        "\(state) belongs to the user '\(owner)', who could put anything in the place of root's files: "
          + "start as that user or choose another folder with --state")
    }
    guard status.st_mode & 0o022 == 0 else {
      throw LocalStackError(
        "others than root may write in \(state): close it (chmod go-w) or choose another folder with --state")
    }
    return folder
  }

  /// Makes what is missing, with the right owners, and sees to it that they can get there. The cluster's folder is not among
  /// it: that comes when it is complete. For whoever has the lock.
  package func make(for accounts: Accounts) throws(LocalStackError) {
    try makeState()
    let state = try openState()
    let web = accounts.web
    // Clients' values are in PostgreSQL's log.
    _ = try make("log", in: state, mode: web == nil ? 0o700 : 0o750, group: web?.group)
    // Into these two come PostgreSQL's user and the responders', or whoever started us, and nobody else: who gets to the
    // private cluster's socket is believed to be the application.
    let owner = accounts.postgres?.user
    _ = try make("db", in: state, mode: web == nil ? 0o700 : 0o750, owner: owner, group: web?.group)
    // Sticky: the responders' user can't replace what is not its own.
    _ = try make("run", in: state, mode: web == nil ? 0o700 : 0o1770, owner: owner, group: web?.group)
    let nginx = try make("nginx", in: state, mode: 0o755)
    _ = try make("temporary", in: nginx, mode: 0o700, owner: web?.user, group: web?.group)
    for (account, folder) in [(accounts.postgres, database), (accounts.web, run)] {
      if let account, !Self.isReachable(folder, for: account) {
        throw LocalStackError(
          "the user '\(account.name)' can't get to \(self.state): a folder above it is closed to others; "
            + "open it (chmod a+x) or choose another with --state")
      }
    }
  }

  /// A folder that nobody has led elsewhere, with its mode, its owner (else us) and its group (else ours).
  private func make(
    _ name: String, in parent: borrowing Descriptor, mode: mode_t, owner: uid_t? = nil, group: gid_t? = nil
  ) throws(LocalStackError) -> Descriptor {
    guard mkdirat(parent.number, name, mode) == 0 || errno == EEXIST else {
      throw Self.failure("can't make the folder \(name) in \(state)")
    }
    let number = clinux_open_folder_in(parent.number, name)
    guard number >= 0 else {
      guard errno == ENOTDIR || errno == ELOOP else { throw Self.failure("can't look into \(name) in \(state)") }
      throw LocalStackError("\(name) in \(state) is a link or a file, and no folder: remove it")
    }
    let folder = Descriptor(owning: number)
    guard fchown(number, owner ?? geteuid(), group ?? getegid()) == 0, fchmod(number, mode) == 0 else {
      throw Self.failure("can't give the folder \(name) in \(state) away")
    }
    return folder
  }

  /// Only one stack can use a state folder. The lock is the kernel's: it goes with the process. Nil: another has it.
  package func takeLock() throws(LocalStackError) -> Descriptor? {
    let state = try openState()
    let number = clinux_open_lock_in(state.number, "up.lock")
    guard number >= 0 else { throw Self.failure("can't write \(self.state)/up.lock") }
    let lock = Descriptor(owning: number)
    guard flock(number, LOCK_EX | LOCK_NB) == 0 else { return nil }
    return lock
  }

  private static func failure(_ what: String) -> LocalStackError {
    LocalStackError("\(what): \(String(cString: strerror(errno)))")
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
      if access(path, F_OK) == 0 { continue }
      guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw Self.failure("can't make the folder \(path)") }
      if geteuid() == 0 { chmod(path, 0o755) }
    }
  }

  static func isReachable(_ path: String, for account: Account) -> Bool {
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

/// A text as one word of a shell's.
package func shellQuoted(_ text: String) -> String {
  "'\(text.parts(by: "'", keepsEmpty: true).joined(separator: "'\\''"))'"
}

/// The same, without quotes where there is nothing to be quoted.
package func shellWord(_ text: String) -> String {
  let isPlain = text.utf8.allSatisfy { byte in
    UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte || UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte | 0x20
      || "/._-+:@%".utf8.contains(byte)
  }
  return isPlain ? text : shellQuoted(text)
}

/// What is in a folder; nothing where it can't be looked into.
package func namesInFolder(_ path: String) -> [String] {
  guard let folder = opendir(path) else { return [] }
  defer { closedir(folder) }
  var names: [String] = []
  while let entry = readdir(folder) {
    let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    if name != ".", name != ".." { names.append(name) }
  }
  return names
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
