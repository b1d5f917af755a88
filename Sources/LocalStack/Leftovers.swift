// What an `up` that was killed has left behind: processes that are still ending, and files that name processes.
// The next start calls it.

import Glibc
import Orders
import Platform

/// The kernel has told the services to end when the `up` before was killed (prctl(2), PR_SET_PDEATHSIG). A PostgreSQL has a
/// checkpoint to write and responders have requests under way, and until they have ended their files, sockets and ports are
/// theirs.
struct Leftovers {
  struct Process {
    let id: pid_t
    let parent: pid_t
    let name: String
  }

  private let state: String
  private let postgres: String
  private let sockets: [(name: String, argument: String)]

  init(of folders: Folders) {
    let state = resolved(folders.state) ?? folders.state
    postgres = resolved(folders.postgres) ?? folders.postgres
    sockets = [Mode.sync, .async].flatMap { mode in
      [folders.run, "\(state)/run"].map { (mode.rawValue, "unix:\($0)/\(mode.rawValue).sock") }
    }
    self.state = state
  }

  /// The processes that are still there, without those that another of them has started.
  func processes() -> [Process] {
    var found: [Process] = []
    forEachProcess { id in
      if let name = name(of: id), let parent = Self.parent(of: id) {
        found.append(Process(id: id, parent: parent, name: name))
      }
    }
    let ids = Set(found.map(\.id))
    return found.filter { !ids.contains($0.parent) }.sorted { $0.id < $1.id }
  }

  /// What a process is to the stack; nil: nothing. Every process of a PostgreSQL works in its data folder, every one of nginx
  /// has the error log as its standard error, and every one of a responder the command line of its master.
  private func name(of process: pid_t) -> String? {
    let place = "/proc/\(process)"
    if let folder = Self.target(of: "\(place)/cwd"), folder == postgres { return "postgres" }
    if let file = Self.target(of: "\(place)/fd/2"), file == "\(state)/log/nginx-error.log" { return "nginx" }
    guard let line = readText("\(place)/cmdline"), line.contains(".sock") else { return nil }
    let arguments = line.parts(by: "\0")
    return sockets.first { socket in arguments.contains { $0 == socket.argument } }?.name
  }

  /// Whether PostgreSQL has been told to stop, or has got as far as to say nothing any more.
  var postgresIsStopping: Bool {
    guard let content = PostmasterFile(folder: postgres).read() else { return true }
    return content.state == "stopping"
  }

  /// Removes the files by which PostgreSQL takes any process with a former one's id for a server on the same folder: after a
  /// crash of the machine ids are given anew, and no start would ever succeed. Only for whoever knows that no PostgreSQL works
  /// in the folder. True if there was such a file.
  func removeStaleLocks() -> Bool {
    var wasStale = false
    for path in ["\(postgres)/postmaster.pid", "\(state)/db/.s.PGSQL.5432.lock"] {
      guard let process = PostmasterFile(path: path).read()?.process,
        let folder = Self.target(of: "/proc/\(process)/cwd"), folder != postgres,
        readText("/proc/\(process)/comm") != "postgres\n"
      else { continue }
      wasStale = unlink(path) == 0 || wasStale
    }
    return wasStale
  }

  private func forEachProcess(_ body: (pid_t) -> Void) {
    guard let folder = opendir("/proc") else { return }
    defer { closedir(folder) }
    while let entry = readdir(folder) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if let process = pid_t(name), process != getpid() { body(process) }
    }
  }

  /// The parent of a process that has not ended: the second field behind the name, which is in parentheses (proc(5)).
  private static func parent(of process: pid_t) -> pid_t? {
    guard let text = readText("/proc/\(process)/stat"), let end = text.utf8.lastIndex(of: UInt8(ascii: ")")) else {
      return nil
    }
    let fields = text[end...].parts(by: " ")
    guard fields.count > 2, fields[1] != "Z" else { return nil }
    return pid_t(fields[2])
  }

  private static func target(of link: String) -> String? {
    var path = [CChar](repeating: 0, count: Int(PATH_MAX))
    let length = readlink(link, &path, path.count)
    return length > 0 ? String(decoding: path[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
  }
}
