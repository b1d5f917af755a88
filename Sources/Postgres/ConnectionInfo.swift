// Where the database is, in libpq's keywords.

import CPostgres

/// What to connect with: keywords as in "Database Connection Control Functions" of the libpq chapter. What is not said
/// here libpq takes from its own `PG*` environment.
package struct ConnectionInfo: Equatable, Sendable {
  package var keywords: [String: String]

  package init(_ keywords: [String: String] = [:]) { self.keywords = keywords }

  package struct Malformed: Error, CustomStringConvertible { package let description: String }

  /// From `DATABASE_URL`, or from `DB_HOST`, `DB_PORT`, `DB_NAME`, `DB_USER` and `DB_PASSWORD`, looked up by `setting`.
  package init(settings setting: (String) -> String?) throws(Malformed) {
    keywords = [:]
    if let url = setting("DATABASE_URL") {
      guard url.hasPrefix("postgresql://") || url.hasPrefix("postgres://") else {
        throw Malformed(description: "DATABASE_URL does not begin with postgresql://")
      }
      for name in ["DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD"] where setting(name) != nil {
        throw Malformed(description: "DATABASE_URL and \(name) are both set; keep one of them")
      }
      guard let parsed = Self.parse(url) else { throw Malformed(description: "DATABASE_URL can't be understood") }
      keywords = parsed
      return
    }
    let names = [
      "DB_HOST": "host", "DB_PORT": "port", "DB_NAME": "dbname", "DB_USER": "user", "DB_PASSWORD": "password",
    ]
    for (name, keyword) in names { keywords[keyword] = setting(name) }
    if let port = keywords["port"], !port.split(separator: ",").allSatisfy({ UInt16($0).map { $0 > 0 } ?? false }) {
      throw Malformed(description: "DB_PORT is '\(port)', which is no port between 1 and 65535")
    }
  }

  /// A URL's or a connection string's keywords; nil if it is none.
  private static func parse(_ url: String) -> [String: String]? {
    PQconninfoParse(url, nil).map(keywords(owning:))
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
    refused.keywords["sslmode"] = "none of them"
    guard let handle = refused.withArrays({ PQconnectStartParams($0, $1, 1) }) else { return [:] }
    defer { PQfinish(handle) }
    return PQconninfo(handle).map(Self.keywords(owning:)) ?? [:]
  }

  /// The same for programs that read libpq's environment: `PGHOST` and so on.
  package func environment() -> [String: String] {
    let names = [
      "host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER", "password": "PGPASSWORD",
    ]
    return keywords.reduce(into: [:]) { result, pair in
      if let name = names[pair.key] { result[name] = pair.value }
    }
  }

  /// Calls `body` with libpq's two parallel arrays, each closed by NULL.
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
