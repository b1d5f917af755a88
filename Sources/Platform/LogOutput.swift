// Where a daemon's log goes: standard error, or a file; and that nobody ever waits for it.

import CLinux
import Glibc
import Synchronization

/// Standard error, written to without waiting. A pipe whose reader has stopped, a terminal that is held, a service manager's
/// socket that is full: each would else stop the process that has something to say, and with it everybody it serves. What can't
/// be written is counted, and told when it can.
package enum LogOutput {
  /// The most bytes of a line: a pipe takes so many whole or not at all (PIPE_BUF, pipe(7)).
  package static let longestLine = 4096

  private enum Kind: Int {
    /// What does not make its writer wait: a file, or what was made so.
    case plain
    case socket
    /// A pipe or a terminal that could not be opened anew: it is asked whether it has space.
    case asked
  }

  private static let kind = Atomic(Kind.plain.rawValue)
  private static let lostCount = Atomic(0)
  /// Whether the last line was written in part only: the disk was full, or the file at its limit.
  private static let isTorn = Atomic(false)

  /// Where processes of one log count together, so that what one has lost is told even if it has ended, or become another program.
  ///
  /// Unsafe: set once, before there is another thread, to memory that is never unmapped.
  nonisolated(unsafe) private static var shared: UnsafeMutablePointer<Atomic<Int>>?

  /// Counts in memory that is shared from now on.
  package static func countLost(in counter: UnsafeMutablePointer<Atomic<Int>>) { shared = counter }

  /// Counts lines that could not be written.
  package static func countLost(_ count: Int = 1) {
    if let shared {
      shared.pointee.wrappingAdd(count, ordering: .relaxed)
    } else {
      lostCount.wrappingAdd(count, ordering: .relaxed)
    }
  }

  /// How many could not be written since this was last asked.
  package static func takeLost() -> Int {
    // Most of the time there are none, and nobody else's memory is to be written to.
    if let shared {
      shared.pointee.load(ordering: .relaxed) == 0 ? 0 : shared.pointee.exchange(0, ordering: .relaxed)
    } else {
      lostCount.exchange(0, ordering: .relaxed)
    }
  }

  /// Appends standard output and error to the file `path` from now on. Again after the file was moved away, and a new one is begun.
  /// It is given to `owner`, so that whoever runs as that can begin it anew, too.
  package static func open(_ path: String, owner: Account? = nil) throws(SystemError) {
    let descriptor = Descriptor(owning: try syscall("open") { clinux_open_append(path, 0o640) })
    if let owner { _ = fchown(descriptor.number, owner.user, owner.group) }
    for number in [STDOUT_FILENO, STDERR_FILENO] { try syscall("dup2") { dup2(descriptor.number, number) } }
    kind.store(Kind.plain.rawValue, ordering: .relaxed)
  }

  /// Whether `account` can open the file `path`. Tried by a process of its own.
  package static func canBeOpened(_ path: String, by account: Account) -> Bool {
    let process = try? ChildProcess.fork(parentDeathSignal: SIGKILL) {
      guard account.assume() else { return 1 }
      return clinux_open_append(path, 0o640) >= 0 ? 0 : 1
    }
    guard let process else { return false }
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0, errno == EINTR {}
    return status == 0
  }

  /// Whether the file `path` could be opened, or made: it is not.
  package static func check(_ path: String) throws(SystemError) {
    if access(path, F_OK) == 0 {
      _ = Descriptor(owning: try syscall("open") { clinux_open_append(path, 0o640) })
      return
    }
    guard errno == ENOENT, !path.isEmpty else { throw SystemError("open", code: errno) }
    let folder = path.utf8.lastIndex(of: UInt8(ascii: "/")).map { "\(path[...$0])" } ?? "./"
    var target = [CChar](repeating: 0, count: Int(PATH_MAX))
    let length = readlink(path, &target, target.count)
    guard length < 0 else {
      // A link to a file that is to be made. One that leads in a circle is none (ELOOP).
      let name = String(decoding: target[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
      return try check(name.hasPrefix("/") ? name : folder + name)
    }
    try syscall("open") { access(folder, W_OK | X_OK) }
  }

  /// Sees to it that nobody waits who writes to standard output or error. O_NONBLOCK belongs to an open file that others may share,
  /// a shell and its terminal for one: so it is set on one that is opened anew (/proc/self/fd, proc(5)).
  package static func neverWait() {
    for number in [STDOUT_FILENO, STDERR_FILENO] {
      var status = stat()
      guard fstat(number, &status) == 0 else { continue }
      var found = Kind.plain
      switch status.st_mode & S_IFMT {
      case S_IFSOCK: found = .socket
      case S_IFIFO, S_IFCHR:
        let again = clinux_open_again(number)
        if again >= 0 {
          dup2(again, number)
          close(again)
        } else {
          found = .asked
        }
      default: break
      }
      if number == STDERR_FILENO { kind.store(found.rawValue, ordering: .relaxed) }
    }
  }

  /// Writes a whole line. False if it could not be written now. A line that was cut off is ended first.
  package static func write(_ line: [UInt8]) -> Bool {
    (isTorn.load(ordering: .relaxed) ? [UInt8(ascii: "\n")] + line : line).withUnsafeBytes { bytes in
      while true {
        let count: Int
        switch Kind(rawValue: kind.load(ordering: .relaxed)) {
        case .socket:
          count = send(STDERR_FILENO, bytes.baseAddress, bytes.count, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
        case .asked where !hasRoom: return false
        default: count = Glibc.write(STDERR_FILENO, bytes.baseAddress, bytes.count)
        }
        if count >= 0 {
          isTorn.store(count < bytes.count, ordering: .relaxed)
          return count == bytes.count
        }
        if errno != EINTR { return false }
      }
    }
  }

  private static var hasRoom: Bool {
    var interest = pollfd(fd: STDERR_FILENO, events: Int16(POLLOUT), revents: 0)
    return poll(&interest, 1, 0) > 0 && interest.revents & Int16(POLLOUT) != 0
  }
}
