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
  private let file: [String: String]

  package init(environment: [String: String], file: [String: String] = [:]) {
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
      let text = String(cString: pair)
      if let equals = text.firstIndex(of: "=") {
        environment[String(text[..<equals])] = String(text[text.index(after: equals)...])
      }
      entry += 1
    }
    // Whoever started us may have read it for us, and we may not be allowed to.
    let file = environment[noFile] == nil ? try contents(of: ".env").map(parse) : nil
    return Settings(environment: environment, file: file ?? [:])
  }

  package subscript(_ name: String) -> String? {
    if let value = environment[name], !value.isEmpty { return value }
    return file[name].flatMap { $0.isEmpty ? nil : $0 }
  }

  /// Everything, for children: the environment, and what `.env` adds to it.
  package var all: [String: String] { environment.merging(fromFileOnly) { _, file in file } }

  /// What only `.env` says, for handing on to libpq and to children: names that the environment does not have.
  package var fromFileOnly: [String: String] {
    file.filter { (environment[$0.key] ?? "").isEmpty && !$0.value.isEmpty }
  }

  /// `NAME=value` lines as docker compose reads them: `#` comments, an optional `export`, values bare or in quotes.
  package static func parse(_ text: String) throws(SettingsError) -> [String: String] {
    var values: [String: String] = [:]
    for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      var line = line.trimmed
      if line.isEmpty || line.hasPrefix("#") { continue }
      if line.hasPrefix("export ") { line = line.dropFirst(7).trimmed }
      guard let equals = line.firstIndex(of: "="), equals > line.startIndex else {
        throw SettingsError(".env, line \(number + 1): not of the form NAME=value")
      }
      let name = line[..<equals].trimmed
      var value = line[line.index(after: equals)...].trimmed
      if let quote = value.first, quote == "\"" || quote == "'" {
        guard let end = value.dropFirst().firstIndex(of: quote) else {
          throw SettingsError(".env, line \(number + 1): the quote before \(name)'s value is not closed")
        }
        value = value[value.index(after: value.startIndex)..<end]
      } else if let comment = value.range(ofSpaceThenHash: ()) {
        value = value[..<comment].trimmed
      }
      values[String(name)] = String(value)
    }
    return values
  }

  /// A small text file, or nil if there is none.
  private static func contents(of path: String) throws(SettingsError) -> String? {
    let number = clinux_open_read(path)
    if number < 0 {
      if errno == ENOENT { return nil }
      throw SettingsError("\(path) can't be read: \(String(cString: strerror(errno)))")
    }
    let descriptor = Descriptor(owning: number)
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while bytes.count < 1 << 20 {
      let count = chunk.withUnsafeMutableBytes { read(descriptor.number, $0.baseAddress, $0.count) }
      if count <= 0 { break }
      bytes += chunk[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}

extension Substring {
  fileprivate var trimmed: Substring {
    var text = self
    while let first = text.first, first.isWhitespace { text.removeFirst() }
    while let last = text.last, last.isWhitespace { text.removeLast() }
    return text
  }

  /// Where ` #` begins a comment behind a bare value.
  fileprivate func range(ofSpaceThenHash: Void) -> Index? {
    var before: Character = "x"
    for index in indices {
      if self[index] == "#", before.isWhitespace { return index }
      before = self[index]
    }
    return nil
  }
}
