// How the master becomes another program, or itself with other settings, without letting go of what it holds.

import CLinux
import Glibc
import Platform

/// What this process was started with.
package struct Invocation: Sendable {
  /// The program's path: what it was started by, so that a symbolic link may point to another one by the time of a reload.
  let program: String
  let arguments: [String]
  let environment: [String: String]

  /// `environment` without what the settings file has added to it: the file is read anew.
  package init(environment: [String: String]) {
    program = Self.path(of: CommandLine.arguments[0])
    arguments = CommandLine.arguments
    self.environment = environment
  }

  /// What a master leaves to the program that it becomes is in this variable.
  package static let inheritance = Inheritance.variable

  /// Whether this process is a master that has become this program: its signals wait until it can take them.
  package static var isContinued: Bool {
    getenv(Inheritance.variable).flatMap { Inheritance(String(cString: $0)) } != nil
  }

  /// Where `name`, by which this process was started, was found: looked up now, since `PATH` and the working folder are those of
  /// the start. The program's own file where the name leads elsewhere.
  private static func path(of name: String) -> String {
    let own = "/proc/self/exe"
    var (this, that) = (stat(), stat())
    let folders =
      name.contains("/")
      ? [""] : (getenv("PATH").map { String(cString: $0) } ?? "").parts(by: ":").map { "\($0)/" }
    for folder in folders {
      let path = folder + name
      guard stat(own, &this) == 0, stat(path, &that) == 0, this.st_ino == that.st_ino, this.st_dev == that.st_dev else {
        continue
      }
      guard !path.hasPrefix("/"), let working = getcwd(nil, 0) else { return path }
      defer { free(working) }
      return "\(String(cString: working))/\(path)"
    }
    var path = [CChar](repeating: 0, count: Int(PATH_MAX))
    let length = readlink(own, &path, path.count - 1)
    return length > 0 ? String(decoding: path[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self) : name
  }

  /// Starts the program as it is now to check its settings as they are now, and to try what its start will need beyond the
  /// addresses that we have.
  func check(listen: ListenAddress, status: ListenAddress?) throws(SystemError) -> pid_t {
    var environment = environment
    environment[Inheritance.variable] = nil
    environment[Rehearsal.variable] = "\(listen)\n\(status?.description ?? "")"
    return try ChildProcess.start(
      [program] + arguments.dropFirst() + ["--check"], environment: environment, quiet: true)
  }

  /// Becomes the program. Returns only if that fails: errno.
  func execute(_ inheritance: Inheritance) -> Int32 {
    var environment = environment
    environment[Inheritance.variable] = inheritance.text
    for number in inheritance.descriptors { clinux_set_close_on_exec(number, 0) }
    var argumentPointers = arguments.map { strdup($0) } + [nil]
    var environmentPointers = ChildProcess.environmentPointers(environment)
    clinux_exec(program, &argumentPointers, &environmentPointers)
    let code = errno
    for number in inheritance.descriptors { clinux_set_close_on_exec(number, 1) }
    for pointer in argumentPointers + environmentPointers { free(pointer) }
    return code
  }
}

/// What a master leaves to the program that it becomes.
struct Inheritance: Equatable {
  static let variable = "FORKLOOP_INHERITANCE"

  var listener: Int32
  var address: String
  /// −1: there is none.
  var status: Int32
  var statusAddress: String
  var scoreboard: Int32
  var generation: Int
  /// The kept connections' own descriptors, and what stands in it.
  var kept: [Int32] = []
  var parked: [Int32] = []
  /// Workers that go on serving until new ones are ready.
  var workers: [pid_t]
  /// Where workers of generations before `movedAt` listen.
  var movedAt = 0
  var formers: [Former] = []

  struct Former: Equatable {
    var number: Int32
    var address: String
  }

  var descriptors: [Int32] {
    ([listener, status, scoreboard] + kept + parked + formers.map(\.number)).filter { $0 >= 0 }
  }

  /// One line: no field has a line break in it.
  var text: String {
    let fixed = [
      String(getpid()), String(listener), address, String(status), statusAddress, String(scoreboard),
      String(generation), kept.map(String.init).joined(separator: ","), Self.list(parked),
    ]
    // Behind the workers, where another version passes them over.
    let rest = ["moved \(movedAt)"] + formers.map { "former \($0.number) \($0.address)" }
    return (fixed + workers.map(String.init) + rest).joined(separator: "\n")
  }

  init(
    listener: Int32, address: String, status: Int32, statusAddress: String, scoreboard: Int32, generation: Int,
    workers: [pid_t]
  ) {
    self.listener = listener
    self.address = address
    self.status = status
    self.statusAddress = statusAddress
    self.scoreboard = scoreboard
    self.generation = generation
    self.workers = workers
  }

  /// As `4,7-12`: tens of thousands of neighbours must fit into one variable (execve(2), MAX_ARG_STRLEN).
  private static func list(_ numbers: [Int32]) -> String {
    var ranges: [ClosedRange<Int32>] = []
    for number in numbers.sorted() {
      if let last = ranges.last, last.upperBound + 1 == number {
        ranges[ranges.count - 1] = last.lowerBound...number
      } else {
        ranges.append(number...number)
      }
    }
    return ranges.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
      .joined(separator: ",")
  }

  private static func numbers(_ list: String) -> [Int32] {
    list.parts(by: ",").flatMap { part -> [Int32] in
      let ends = part.parts(by: "-").compactMap { Int32($0) }
      guard let first = ends.first, let last = ends.last, first <= last else { return [] }
      return Array(first...last)
    }
  }

  init?(_ text: String) {
    let fields = text.parts(by: "\n", keepsEmpty: true).map(String.init)
    // A variable that has strayed into another process means nothing there.
    guard fields.count >= 9, fields[0] == String(getpid()), let listener = Int32(fields[1]),
      let status = Int32(fields[3]), let scoreboard = Int32(fields[5]), let generation = Int(fields[6])
    else { return nil }
    self.init(
      listener: listener, address: fields[2], status: status, statusAddress: fields[4], scoreboard: scoreboard,
      generation: generation, workers: fields[9...].compactMap { pid_t($0) })
    kept = Self.numbers(fields[7])
    parked = Self.numbers(fields[8])
    for field in fields[9...] {
      let words = field.parts(by: " ", most: 3)
      if words.count == 2, words[0] == "moved" { movedAt = Int(words[1]) ?? 0 }
      if words.count == 3, words[0] == "former", let number = Int32(words[1]) {
        formers.append(Former(number: number, address: String(words[2])))
      }
    }
  }

  /// What was left to this process, if anything was.
  static func take() -> Inheritance? {
    guard let text = getenv(variable) else { return nil }
    defer { unsetenv(variable) }
    return Inheritance(String(cString: text))
  }
}
