// strace(1), attached to some processes for a while.

import Glibc
import LocalStack
import Platform

/// Writes what processes ask of the kernel into files, one for each, until it is told to stop.
final class Strace {
  private let process: pid_t
  private let folder: String
  private var hasEnded = false

  static func find() throws(LocalStackError) -> String {
    guard let path = findProgram("strace") else {
      throw LocalStackError("strace is not installed: apt-get install strace")
    }
    return path
  }

  /// Attaches to all of them and waits until it has. `folder` is there, and empty.
  init(_ program: String, _ processes: [pid_t], folder: String, _ interruption: Interruption) throws {
    self.folder = folder
    // A file for each (-ff): no line is cut in two by another process. Of contents as little as possible (-s): they may be
    // anything; of a list the first.
    var arguments = [program, "-ff", "-ttt", "-T", "-yy", "-s", "1", "-e", "signal=none", "-o", "\(folder)/calls"]
    for process in processes { arguments += ["-p", "\(process)"] }
    let log = "\(folder)/strace.log"
    do throws(SystemError) {
      process = try ChildProcess.start(arguments, environment: ["PATH": "/usr/local/bin:/usr/bin:/bin"], log: log)
    } catch {
      throw LocalStackError("can't start strace: \(error)")
    }
    do {
      try interruption.wait(30, "strace does not attach; see \(log)") {
        let said = readText(log) ?? ""
        // It goes on with those that it may trace.
        if let refusal = said.lines.first(where: { $0.contains("ptrace(") || $0.contains("not permitted") }) {
          throw LocalStackError(
            "\(refusal): trace as root; in a container, one started with --cap-add SYS_PTRACE; else see ptrace(2), ptrace_scope"
          )
        }
        if Self.ended(process) {
          hasEnded = true
          throw LocalStackError("strace ended\(said.lines.last { !$0.isEmpty }.map { ": \($0)" } ?? "")")
        }
        let attached = said.lines.filter { $0.hasSuffix(" attached") || $0.contains(" attached with ") }
        return attached.count >= processes.count
      }
    } catch {
      stop()
      throw error
    }
  }

  deinit { stop() }

  /// Waits until nothing has been traced for a moment.
  func settle(_ interruption: Interruption) throws {
    var last = -1
    var since = MonotonicClock.now
    try interruption.wait(30, "the processes do not come to rest") {
      let size = files().reduce(0) { $0 + Self.size($1.path) }
      if size != last { (last, since) = (size, MonotonicClock.now) }
      return MonotonicClock.now - since > 100_000_000
    }
  }

  /// Lets go of the processes. What it has written is complete then.
  func stop() {
    guard !hasEnded else { return }
    hasEnded = true
    kill(process, SIGINT)
    let deadline = MonotonicClock.now + 10_000_000_000
    while !Self.ended(process) {
      if MonotonicClock.now > deadline { kill(process, SIGKILL) }
      usleep(2_000)
    }
  }

  /// What was traced, by process; calls of a process's threads are its own.
  func calls(of processes: [pid_t]) -> [pid_t: [TracedCall]] {
    var found: [pid_t: [TracedCall]] = [:]
    for (thread, path) in files() {
      let calls = (readText(path) ?? "").lines.compactMap { TracedCall($0) }
      guard let process = processes.first(where: { access("/proc/\($0)/task/\(thread)", F_OK) == 0 }) else { continue }
      found[process, default: []] += calls
    }
    return found.mapValues { calls in
      calls.enumerated().sorted { ($0.element.began, $0.offset) < ($1.element.began, $1.offset) }.map(\.element)
    }
  }

  /// The files, with the thread that each is about.
  private func files() -> [(thread: pid_t, path: String)] {
    namesInFolder(folder).compactMap { name in
      guard let (kind, number) = name.halves(by: "."), kind == "calls", let thread = pid_t(number) else { return nil }
      return (thread, "\(folder)/\(name)")
    }
  }

  private static func size(_ path: String) -> Int {
    var status = stat()
    return lstat(path, &status) == 0 ? Int(status.st_size) : 0
  }

  private static func ended(_ process: pid_t) -> Bool {
    var status: Int32 = 0
    return waitpid(process, &status, WNOHANG) != 0
  }
}
