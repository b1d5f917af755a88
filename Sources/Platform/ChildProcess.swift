// Starting another program, and a copy of this one.

import CLinux
import Glibc

/// A user to run as: ids, and the primary group.
package struct Account: Equatable, Sendable {
  package let name: String
  package let user: uid_t
  package private(set) var group: gid_t

  /// Looks a name up in the password database.
  package init?(named name: String) {
    guard let entry = getpwnam(name) else { return nil }
    self.name = name
    (user, group) = (entry.pointee.pw_uid, entry.pointee.pw_gid)
  }

  /// The same user with another primary group; nil if there is no such group.
  package func with(groupNamed name: String) -> Account? {
    guard let entry = getgrnam(name) else { return nil }
    var account = self
    account.group = entry.pointee.gr_gid
    return account
  }

  /// Makes this process the user's, for good. False if that is not allowed.
  package func assume() -> Bool { initgroups(name, group) == 0 && setgid(group) == 0 && setuid(user) == 0 }
}

package enum ChildProcess {
  /// What became of a child.
  package struct Ending: Equatable, Sendable, CustomStringConvertible {
    package let process: pid_t
    /// The exit code; nil if a signal ended it.
    package let exitCode: Int32?
    package let signal: Int32

    package var description: String { exitCode.map { "exited with \($0)" } ?? "was ended by signal \(signal)" }
  }

  /// The next child that has ended; nil if none has.
  package static func reap() -> Ending? {
    var status: Int32 = 0
    let process = waitpid(-1, &status, WNOHANG)
    return process > 0 ? ending(of: process, status) : nil
  }

  /// Waits until a child has ended.
  package static func wait(for process: pid_t) -> Ending {
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0 {
      // Somebody else has waited for it.
      if errno != EINTR { return Ending(process: process, exitCode: nil, signal: 0) }
    }
    return ending(of: process, status)
  }

  private static func ending(of process: pid_t, _ status: Int32) -> Ending {
    let code = clinux_exit_code(status)
    return Ending(process: process, exitCode: code >= 0 ? code : nil, signal: clinux_ending_signal(status))
  }

  /// Forks a process that has one thread; the child runs `body` and exits with what it returns.
  /// A fork with more threads is refused: only async-signal-safe calls are allowed after one (fork(2)).
  /// The child is told to end with `parentDeathSignal` when this process dies.
  package static func fork(parentDeathSignal: Int32, _ body: () -> Int32) throws(SystemError) -> pid_t {
    guard threadCount() == 1 else { throw SystemError("fork of a process with threads", code: EDEADLK) }
    let parent = getpid()
    let process = try syscall("fork") { Glibc.fork() }
    if process == 0 {
      _ = clinux_set_parent_death_signal(parentDeathSignal)
      // The parent may have died before the line above.
      if getppid() != parent { _exit(1) }
      _exit(body())
    }
    return process
  }

  /// Forks and executes `arguments[0]`, as `account` if there is one, with its output appended to `log` if there is one (then
  /// it reads nothing either), and only its errors shown if it is to be `quiet`; or its standard output goes to the descriptor
  /// `output`.
  /// The child has a session of its own (so that a terminal's Ctrl-C reaches only us, and that the scheduler weighs it against
  /// the others as a whole: sched(7), autogroups), and gets `parentDeathSignal` when this process dies. It exits with 127 when
  /// the program can't be started, and with 126 when that is not allowed.
  package static func start(
    _ arguments: [String], environment: [String: String], as account: Account? = nil, log: String? = nil,
    quiet: Bool = false, output: Int32? = nil, parentDeathSignal: Int32 = SIGTERM
  ) throws(SystemError) -> pid_t {
    try fork(parentDeathSignal: parentDeathSignal) {
      setsid()
      if let log {
        let output = clinux_open_append(log, 0o644)
        if output < 0 { return complain("can't open \(log)", 126) }
        dup2(output, STDOUT_FILENO)
        dup2(output, STDERR_FILENO)
        dup2(clinux_open_read("/dev/null"), STDIN_FILENO)
      }
      if let output { dup2(output, STDOUT_FILENO) }
      if quiet { dup2(clinux_open_append("/dev/null", 0), STDOUT_FILENO) }
      if let account {
        guard account.assume() else { return complain("can't become the user '\(account.name)'", 126) }
        // Changing the user clears it (prctl(2)).
        _ = clinux_set_parent_death_signal(parentDeathSignal)
      }
      return execute(arguments, environment: environment)
    }
  }

  /// Becomes another program, which gets nothing of ours: no signal ignored or blocked, no descriptor but the standard ones,
  /// not even those that whoever started us has left open. Returns only if that fails: the exit code.
  package static func execute(_ arguments: [String], environment: [String: String]) -> Int32 {
    InheritedSignals.dropForExec()
    clinux_close_on_exec_from(STDERR_FILENO + 1)
    var argumentPointers = arguments.map { strdup($0) } + [nil]
    var environmentPointers = environmentPointers(environment)
    clinux_exec(arguments[0], &argumentPointers, &environmentPointers)
    return complain("can't execute \(arguments[0])", 127)
  }

  /// For execve(2), to be freed. What is no UTF-8 in our own environment, and so was changed when it was read, goes on as it is.
  package static func environmentPointers(_ environment: [String: String]) -> [UnsafeMutablePointer<CChar>?] {
    environment.map { name, value in
      guard value.unicodeScalars.contains("\u{FFFD}"), let own = getenv(name), String(cString: own) == value else {
        return strdup("\(name)=\(value)")
      }
      var bytes = Array("\(name)=".utf8CString.dropLast())
      bytes += UnsafeBufferPointer(start: own, count: strlen(own))
      bytes.append(0)
      return strdup(bytes)
    } + [nil]
  }

  private static func complain(_ what: String, _ code: Int32) -> Int32 {
    var text = "forkloop: \(what): \(String(cString: strerror(errno)))\n"
    text.withUTF8 { _ = write(STDERR_FILENO, $0.baseAddress, $0.count) }
    return code
  }

  /// The threads of this process, from /proc.
  package static func threadCount() -> Int {
    guard let folder = opendir("/proc/self/task") else { return 1 }
    defer { closedir(folder) }
    var count = 0
    while let entry = readdir(folder) {
      if entry.pointee.d_name.0 != CChar(UInt8(ascii: ".")) { count += 1 }
    }
    return count
  }
}
