// Where the database is, in libpq's keywords.

import CPostgres
import Glibc

/// What to connect with: keywords as in "Database Connection Control Functions" of the libpq chapter. What is not said
/// here libpq takes from its own `PG*` environment.
package struct ConnectionInfo: Equatable, Sendable {
  package var keywords: [String: String]

  package init(_ keywords: [String: String] = [:]) { self.keywords = keywords }

  package struct Malformed: Error, CustomStringConvertible { package let description: String }

  private static let names = [
    "DB_HOST": "host", "DB_PORT": "port", "DB_NAME": "dbname", "DB_USER": "user", "DB_PASSWORD": "password",
  ]

  /// From `DATABASE_URL` and from `DB_HOST`, `DB_PORT`, `DB_NAME`, `DB_USER` and `DB_PASSWORD`, looked up by `setting`. What the
  /// URL says nobody else may say: a password may stand beside it.
  package init(settings setting: (String) -> String?) throws(Malformed) {
    keywords = try setting("DATABASE_URL").map { url throws(Malformed) in try Self.parse(url) } ?? [:]
    let source = keywords["port"] == nil ? "DB_PORT" : "DATABASE_URL's port"
    for (name, keyword) in Self.names.sorted(by: { $0.key < $1.key }) {
      guard let value = setting(name) else { continue }
      guard keywords.updateValue(value, forKey: keyword) == nil else {
        throw Malformed(description: "DATABASE_URL and \(name) are both set; keep one of them")
      }
    }
    // Which would be shown in logs, with the password in it.
    let hosts = setting("DB_HOST")?.utf8.split(separator: UInt8(ascii: ",")).map { String(Substring($0)) } ?? []
    let names = hosts.filter { !$0.hasPrefix("/") && !$0.hasPrefix("@") }
    if names.contains(where: { $0.contains("=") || $0.contains("@") || $0.contains("://") }) {
      throw Malformed(description: "DB_HOST is no host's name; a URL belongs into DATABASE_URL")
    }
    let ports = keywords["port"]?.utf8.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false) ?? []
    // Empty ones are libpq's default.
    guard ports.allSatisfy({ $0.isEmpty || UInt16(Substring($0)).map { $0 > 0 } ?? false }) else {
      // A URL's is not shown: it is a part of the password where that has a / in it.
      let value = source == "DB_PORT" ? ", not '\(keywords["port"] ?? "")'" : ""
      let hint = source == "DB_PORT" ? "" : ". In a password, write %2F for / and %3A for :"
      throw Malformed(description: "\(source) must be a number from 1 to 65535\(value)\(hint)")
    }
  }

  /// A URL's keywords.
  private static func parse(_ url: String) throws(Malformed) -> [String: String] {
    guard url.hasPrefix("postgresql://") || url.hasPrefix("postgres://") else {
      throw Malformed(description: "DATABASE_URL does not begin with postgresql://")
    }
    var message: UnsafeMutablePointer<CChar>?
    guard let options = PQconninfoParse(url, &message) else {
      defer { PQfreemem(message) }
      throw Malformed(description: "DATABASE_URL can't be understood: \(reason(message, url))")
    }
    return keywords(owning: options)
  }

  /// libpq's reason, without what it quotes of the URL at its end: that may be the password, or the whole URL. A parameter's name
  /// is shown where it can be no part of a password that has a ? or a & in it.
  private static func reason(_ message: UnsafeMutablePointer<CChar>?, _ url: String) -> String {
    let text = Connection.oneLine(message)
    let bytes = Array(text.utf8)
    guard let quote = bytes.firstRange(of: Array(": \"".utf8))?.lowerBound else { return text }
    let query = url.utf8.drop { $0 != UInt8(ascii: "?") }
    let mayBeSecret = query.contains(UInt8(ascii: "@")) || String(Substring(query)).contains("password")
    let isName = text.hasPrefix("invalid URI query parameter") && !mayBeSecret
    return isName ? text : String(decoding: bytes[..<quote], as: UTF8.self)
  }

  /// The values in one of libpq's lists of options; takes ownership of it.
  static func keywords(owning options: UnsafeMutablePointer<PQconninfoOption>) -> [String: String] {
    defer { PQconninfoFree(options) }
    var keywords: [String: String] = [:]
    var option = options
    while let keyword = option.pointee.keyword {
      if let value = option.pointee.val { keywords[String(cString: keyword)] = String(cString: value) }
      option += 1
    }
    return keywords
  }

  /// What libpq makes of them, with its environment, the service file and its defaults. It tells so of a connection, even of one that it
  /// has refused before it went anywhere, for a word that it does not know. Empty if it does not understand the keywords.
  func effective() -> [String: String] {
    var refused = self
    refused.keywords["gssencmode"] = "none of them"
    guard let handle = refused.withArrays({ PQconnectStartParams($0, $1, 0) }) else { return [:] }
    defer { PQfinish(handle) }
    return PQconninfo(handle).map(Self.keywords(owning:)) ?? [:]
  }

  /// The database that somebody has named, perhaps in libpq's environment or its service file; nil if nobody has: libpq's default is the
  /// user's name.
  package var database: String? {
    var other = self
    // Nobody has named a database so.
    other.keywords["user"] = "\u{1}"
    let name = other.effective()["dbname"]
    return name == "\u{1}" ? nil : name
  }

  /// The keywords for programs that read libpq's environment, `PGHOST` and so on; and the keywords that have no variable there.
  package func environment() -> (variables: [String: String], others: [String]) {
    guard let options = PQconndefaults() else { return ([:], keywords.keys.sorted()) }
    defer { PQconninfoFree(options) }
    var variables: [String: String] = [:]
    var others = keywords
    var option = options
    while let keyword = option.pointee.keyword {
      if let name = option.pointee.envvar, let value = others.removeValue(forKey: String(cString: keyword)) {
        variables[String(cString: name)] = value
      }
      option += 1
    }
    return (variables, others.keys.sorted())
  }

  /// Options that are numbers. libpq reads most of them only where it connects over TCP, and then at each attempt.
  private static let numbers = [
    "connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
  ]

  /// What is to be said against the settings themselves, which no server can mend; nil if nothing.
  package func fault() -> String? {
    let meant = effective()
    for name in Self.numbers {
      guard let text = meant[name] else { continue }
      do throws(PostgresError) { _ = try ConnectionPlan.integer(text, of: name) } catch { return "\(error)" }
    }
    return Self.hostFault(meant) ?? libpqsFault(meant)
  }

  private static func list(_ text: String?) -> [String] {
    guard let text, !text.isEmpty else { return [] }
    return text.utf8.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false).map { String(Substring($0)) }
  }

  private static func isPath(_ host: String) -> Bool {
    host.utf8.first == UInt8(ascii: "/") || host.utf8.first == UInt8(ascii: "@")
  }

  /// No name and no address has a blank in it: nobody would ever be found.
  private static func hostFault(_ meant: [String: String]) -> String? {
    let hosts = list(meant["host"]).filter { !isPath($0) } + list(meant["hostaddr"])
    return hosts.first { $0.utf8.contains { $0 == 0x20 || $0 == 0x09 } }.map { "the host '\($0)' has a blank in it" }
  }

  /// libpq looks for the root certificate once the server has agreed to TLS, which a socket's never does.
  /// Of no interest to whoever does not connect.
  package func certificateFault() -> String? {
    let meant = effective()
    let hosts = Self.list(meant["host"])
    guard let mode = meant["sslmode"], mode == "verify-ca" || mode == "verify-full",
      meant["hostaddr"] != nil || hosts.contains(where: { !Self.isPath($0) }),
      let path = meant["sslrootcert"], !path.isEmpty, path != "system", access(path, R_OK) != 0
    else { return nil }
    return "the root certificate \(path) (sslrootcert) can't be read, and sslmode is \(mode)"
  }

  /// libpq finds out when it begins to connect: to as many hosts as are meant, of which none exists.
  private func libpqsFault(_ meant: [String: String]) -> String? {
    var nowhere = self
    for (name, none) in [("host", "/nowhere"), ("hostaddr", "255.255.255.255")] {
      let count = Self.list(meant[name]).count
      guard count > 0 else { continue }
      nowhere.keywords[name] = Array(repeating: none, count: count).joined(separator: ",")
    }
    if meant["host"] == nil, meant["hostaddr"] == nil { nowhere.keywords["host"] = "/nowhere" }
    guard let handle = nowhere.withArrays({ PQconnectStartParams($0, $1, 0) }) else { return nil }
    defer { PQfinish(handle) }
    guard PQstatus(handle) == CONNECTION_BAD else { return nil }
    let message = Connection.oneLine(PQerrorMessage(handle))
    return message.utf8.starts(with: "connection to server".utf8) ? nil : message
  }

  /// Whether a variable is one of libpq's, or of another part of PostgreSQL.
  package static func isOfLibpq(_ variable: String) -> Bool { variable.hasPrefix("PG") }

  /// Takes libpq's environment from this process: for whoever means one certain server. What it says would count wherever the
  /// keywords say nothing, and no keyword says that there shall be no `hostaddr`. A process with threads must not do it.
  package static func dropEnvironment() {
    var names: [String] = []
    var entry = environ
    while let pair = entry.pointee {
      let name = String(decoding: UnsafeRawBufferPointer(start: pair, count: strcspn(pair, "=")), as: UTF8.self)
      if isOfLibpq(name) { names.append(name) }
      entry += 1
    }
    for name in names { unsetenv(name) }
  }

  /// The variables that libpq reads for a connection.
  package static var variables: Set<String> {
    guard let options = PQconndefaults() else { return [] }
    defer { PQconninfoFree(options) }
    var names: Set<String> = []
    var option = options
    while option.pointee.keyword != nil {
      if let name = option.pointee.envvar { names.insert(String(cString: name)) }
      option += 1
    }
    return names
  }

  /// Calls `body` with libpq's two parallel arrays, each closed by NULL. The database's name is nothing but a name: libpq is not to
  /// look for a connection string in it (`expand_dbname`).
  func withArrays<Result>(
    _ body: (UnsafePointer<UnsafePointer<CChar>?>, UnsafePointer<UnsafePointer<CChar>?>) -> Result
  ) -> Result {
    var names: [ContiguousArray<CChar>] = []
    var values: [ContiguousArray<CChar>] = []
    for (name, value) in keywords {
      names.append(name.utf8CString)
      values.append(value.utf8CString)
    }
    func pointers(_ strings: [ContiguousArray<CChar>], _ body: ([UnsafePointer<CChar>?]) -> Result) -> Result {
      func go(_ index: Int, _ gathered: [UnsafePointer<CChar>?]) -> Result {
        if index == strings.count { return body(gathered + [nil]) }
        return strings[index].withUnsafeBufferPointer { go(index + 1, gathered + [$0.baseAddress]) }
      }
      return go(0, [])
    }
    return pointers(names) { names in pointers(values) { values in body(names, values) } }
  }
}
