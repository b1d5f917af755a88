// Where a server listens, as users write it.

/// `unix:PATH`, `HOST:PORT` (an IPv6 host in brackets) or `fd:N` (a listening socket that was inherited).
package enum ListenAddress: Equatable, Sendable, CustomStringConvertible {
  case unix(path: String)
  case tcp(host: String, port: UInt16)
  case inherited(Int32)

  /// The longest path that a Unix socket can have: `sun_path` less its closing zero (unix(7)).
  package static let longestPath = 107

  package struct Malformed: Error, CustomStringConvertible {
    package let description: String
  }

  package init(_ text: String) throws(Malformed) {
    // It goes into lines, in the log and in what a reload leaves.
    guard text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) else {
      throw Malformed(description: "an address has no control characters")
    }
    if text.hasPrefix("unix:") {
      let path = String(text.dropFirst(5))
      guard !path.isEmpty else { throw Malformed(description: "unix: needs a path") }
      guard path.utf8.count <= Self.longestPath else {
        throw Malformed(
          description: "a socket's path has at most \(Self.longestPath) bytes, this one \(path.utf8.count)")
      }
      self = .unix(path: path)
    } else if text.hasPrefix("fd:") {
      guard let number = Int32(text.dropFirst(3)), number >= 0 else {
        throw Malformed(description: "fd: needs a descriptor's number, as in fd:0")
      }
      self = .inherited(number)
    } else if let colon = text.utf8.lastIndex(of: UInt8(ascii: ":")),
      let port = UInt16(text[text.utf8.index(after: colon)...]), port > 0
    {
      var host = text[..<colon]
      if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
      guard !host.isEmpty else { throw Malformed(description: "the host before :\(port) is missing") }
      self = .tcp(host: String(host), port: port)
    } else {
      throw Malformed(description: "'\(text)' is none of unix:PATH, HOST:PORT and fd:N")
    }
  }

  /// A Unix socket's path.
  package var path: String? { if case .unix(let path) = self { path } else { nil } }

  /// Whether it is a socket that was handed to us.
  var isInherited: Bool { if case .inherited = self { true } else { false } }

  package var description: String {
    switch self {
    case .unix(let path): "unix:\(path)"
    case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    case .inherited(let number): "fd:\(number)"
    }
  }
}
