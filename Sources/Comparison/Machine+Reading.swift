// What machine this is.

import Glibc
import LocalStack
import Orders
import Platform

extension Machine {
  /// Reads it off the machine that this runs on.
  package static func current(_ tools: Tools, sources: String) -> Machine {
    var machine = Machine()
    let lines = (readText("/proc/cpuinfo") ?? "").lines
    machine.processor =
      lines.first { $0.hasPrefix("model name") }.flatMap { $0.parts(by: ":").last }
      .map { String($0.drop { $0 == " " }) } ?? "unknown"
    machine.processors = tools.processors.count
    machine.memory = Int(sysconf(Int32(_SC_PHYS_PAGES))) * Int(getpagesize())
    var name = utsname()
    uname(&name)
    func text<Tuple>(_ tuple: Tuple) -> String {
      withUnsafeBytes(of: tuple) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
    machine.system = "\(text(name.sysname)) \(text(name.release)) \(text(name.machine))"
    machine.versions["forkloop"] = Orders.version
    if let nginx = findProgram("nginx") {
      machine.versions["nginx"] = output(of: [nginx, "-v"]).parts(by: "/").last.map(String.init) ?? ""
    }
    if let postgres = findProgram("postgres", alsoIn: (13...30).reversed().map { "/usr/lib/postgresql/\($0)/bin" }) {
      machine.versions["PostgreSQL"] =
        output(of: [postgres, "--version"]).parts(by: " ").dropFirst(2).first.map(String.init) ?? ""
    }
    if let git = findProgram("git") {
      machine.commit = output(of: [
        git, "-C", sources, "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*",
      ])
    }
    let shared = tools.processors.servers.count
    let isGeneratorApart = tools.processors.areDivided && tools.taskset != nil
    let sharers =
      isGeneratorApart
      ? "The generator has processors of its own. nginx, the responder and PostgreSQL"
      : "The generator, nginx, the responder and PostgreSQL"
    machine.uncontrolled = [
      "\(sharers) share \(shared) processor\(shared == 1 ? "" : "s"): what one saves, another gets.",
      "Memory is the responder's PSS and what its PostgreSQL servers have of their own. This program's other processes share its code with the responder's, which makes that a little less.",
      isGeneratorApart
        ? "Nothing else is pinned to a processor, but where it says so."
        : "Nothing is pinned to a processor, but where it says so.",
      "Other programs on this machine, and other machines on its host, were not stopped; clock frequencies were left to themselves.",
      "Everything talks over loopback and Unix sockets: a network's delay and losses are not in these figures.",
    ]
    return machine
  }

  /// The first line that a command prints, on either stream.
  private static func output(of arguments: [String]) -> String {
    var ends: [Int32] = [0, 0]
    guard pipe(&ends) == 0 else { return "" }
    defer { close(ends[0]) }
    let child = try? ChildProcess.fork(parentDeathSignal: SIGKILL) {
      dup2(ends[1], STDOUT_FILENO)
      dup2(ends[1], STDERR_FILENO)
      return ChildProcess.execute(arguments, environment: (try? Settings.current().environment) ?? [:])
    }
    close(ends[1])
    guard let child else { return "" }
    var bytes = [UInt8](repeating: 0, count: 512)
    let count = max(0, read(ends[0], &bytes, bytes.count))
    var status: Int32 = 0
    waitpid(child, &status, 0)
    guard status == 0 else { return "" }
    return String(decoding: bytes[..<count], as: UTF8.self).lines.first.map(String.init) ?? ""
  }
}
