// Settings below the command line: the environment, then a `.env` file.

import CLinux
import Glibc

/// A setting that can't be used; its text names the setting.
package struct SettingsError: Error, CustomStringConvertible {
  package let description: String
  package init(_ description: String) { self.description = description }
}

/// Looks names up in the environment, else in `.env`. An empty value counts as not set, so that `DB_HOST=` in a file
/// copied from an example means its default.
package struct Settings: Sendable {
  /// The environment alone, as it was.
  package let environment: [String: String]
  private let file: EnvFile

  package init(environment: [String: String], file: EnvFile = EnvFile()) {
    self.environment = environment
    self.file = file
  }

  /// If this variable is set, there is no `.env`.
  package static let noFile = "FORKLOOP_NO_ENV_FILE"

  /// This process's environment and the `.env` of the folder it was started in, if there is one.
  package static func current() throws(SettingsError) -> Settings {
    var environment: [String: String] = [:]
    var entry = environ
    while let pair = entry.pointee {
      let bytes = UnsafeRawBufferPointer(start: pair, count: strlen(pair))
      if let equals = bytes.firstIndex(of: UInt8(ascii: "=")) {
        let name = String(decoding: bytes[..<equals], as: UTF8.self)
        let value = bytes[(equals + 1)...]
        if isOurs(name), String(validating: value, as: UTF8.self) == nil {
          throw SettingsError("\(name) is no UTF-8 text")
        }
        environment[name] = String(decoding: value, as: UTF8.self)
      }
      entry += 1
    }
    // Whoever started us may have read it for us, and we may not be allowed to.
    let bytes = environment[noFile] == nil ? try contents(of: ".env") : nil
    return Settings(environment: environment, file: try EnvFile(bytes ?? []))
  }

  /// What all our own settings begin with.
  package static let prefix = "FORKLOOP_"

  private static func isOurs(_ name: String) -> Bool {
    name.hasPrefix(prefix) || name.hasPrefix("DB_") || name == "DATABASE_URL"
  }

  package subscript(_ name: String) -> String? {
    if let value = environment[name], !value.isEmpty { return value }
    return file.values[name].flatMap { $0.isEmpty ? nil : $0 }
  }

  /// Everything, for children: the environment, and what `.env` adds to it.
  package var all: [String: String] { environment.merging(fromFileOnly) { _, file in file } }

  /// What only `.env` says, for handing on to libpq and to children: names that the environment does not have.
  package var fromFileOnly: [String: String] {
    file.values.filter { (environment[$0.key] ?? "").isEmpty && !$0.value.isEmpty }
  }

  /// What all of them begin with that say which database: the rest of these is somebody's mistake too.
  private static let prefixes = [prefix, "DB_", "DATABASE_"]

  /// A line for each name with one of our prefixes that is set and not among those that mean something: a setting that is misspelt would
  /// else be lost.
  package func remarks(known: Set<String>) -> [String] {
    let names = Set(environment.filter { !$0.value.isEmpty }.keys).union(fromFileOnly.keys)
    return names.filter { name in Self.prefixes.contains { name.hasPrefix($0) } && !known.contains(name) }.sorted().map
    { name in
      let place = fromFileOnly[name] == nil ? "" : file.lines[name].map { " (.env, line \($0))" } ?? ""
      let nearest = known.min { (Self.distance(name, $0), $0) < (Self.distance(name, $1), $1) }
      return "there is no setting \(name)\(place)" + (nearest.map { ", the nearest is \($0)" } ?? "")
    }
  }

  /// How many letters have to be put in, taken out or changed (Levenshtein).
  private static func distance(_ one: String, _ other: String) -> Int {
    var row = Array(0...other.utf8.count)
    for (line, byte) in one.utf8.enumerated() {
      var diagonal = row[0]
      row[0] = line + 1
      for (column, letter) in other.utf8.enumerated() {
        let changed = diagonal + (byte == letter ? 0 : 1)
        diagonal = row[column + 1]
        row[column + 1] = min(changed, row[column] + 1, diagonal + 1)
      }
    }
    return row[other.utf8.count]
  }

  /// More than anybody writes by hand.
  private static let longestFile = 1 << 20

  /// /dev/null (null(4)), to which a link says that there is nothing.
  private static func isNothing(_ status: stat) -> Bool {
    status.st_mode & S_IFMT == S_IFCHR && status.st_rdev == 1 << 8 | 3
  }

  /// A small file, or nil if there is none.
  private static func contents(of path: String) throws(SettingsError) -> [UInt8]? {
    let number = clinux_open_without_waiting(path)
    if number < 0 {
      if errno == ENOENT { return nil }
      throw SettingsError("\(path) can't be read: \(String(cString: strerror(errno)))")
    }
    let descriptor = Descriptor(owning: number)
    var status = stat()
    guard fstat(number, &status) == 0, [S_IFREG, S_IFDIR].contains(status.st_mode & S_IFMT) || isNothing(status) else {
      throw SettingsError("\(path) can't be read: it is no file")
    }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = chunk.withUnsafeMutableBytes { read(descriptor.number, $0.baseAddress, $0.count) }
      if count == 0 { return bytes }
      if count > 0 {
        bytes += chunk[..<count]
      } else if errno != EINTR {
        throw SettingsError("\(path) can't be read: \(String(cString: strerror(errno)))")
      }
      if bytes.count > longestFile { throw SettingsError("\(path) is longer than \(longestFile) bytes") }
    }
  }
}
