// Where something is, whatever it is called: files and TCP addresses that have more than one name.

import Glibc

/// Device and inode: whether a path still names the same file.
struct FileIdentity: Equatable {
  let device: dev_t
  let inode: ino_t

  /// Nil if there is none. A link is followed if it is to be.
  init?(path: String, followingLinks: Bool = false) {
    var status = stat()
    guard (followingLinks ? stat(path, &status) : lstat(path, &status)) == 0 else { return nil }
    (device, inode) = (status.st_dev, status.st_ino)
  }
}

/// A file that need not exist: its folder, and its name in there.
struct FilePlace: Equatable {
  let folder: FileIdentity
  let name: ArraySlice<UInt8>

  /// Nil if there is no such folder.
  init?(path: String) {
    let bytes = Array(path.utf8)
    let slash = bytes.lastIndex(of: UInt8(ascii: "/"))
    let above = slash.map { String(decoding: bytes[...$0], as: UTF8.self) } ?? "."
    guard let folder = FileIdentity(path: above, followingLinks: true) else { return nil }
    self.folder = folder
    name = bytes[(slash.map { $0 + 1 } ?? 0)...]
  }
}

/// What a host's name and a port stand for at the moment: the first of the resolver's answers, which is the one that is bound.
struct SocketAddress: Equatable {
  private let bytes: [UInt8]
  let family: Int32

  init?(host: String, port: UInt16) {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
    var found: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(host, String(port), &hints, &found) == 0, let first = found?.pointee else { return nil }
    defer { freeaddrinfo(found) }
    bytes = Array(UnsafeRawBufferPointer(start: first.ai_addr, count: Int(first.ai_addrlen)))
    family = first.ai_family
  }

  func withPointer(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    bytes.withUnsafeBytes { bytes in
      bytes.baseAddress.map { body($0.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count)) } ?? -1
    }
  }
}

extension ListenAddress {
  /// Whether both are one, however they are written: a host's name or its address, ways to a file.
  package func isSame(as other: ListenAddress) -> Bool {
    switch (self, other) {
    case _ where self == other: true
    case (.tcp(let host, let port), .tcp(let otherHost, let otherPort)):
      port == otherPort
        && Self.isSame(SocketAddress(host: host, port: port), SocketAddress(host: otherHost, port: port))
    case (_, .unix(let path)): isFile(path)
    default: false
    }
  }

  /// Whether it is a Unix socket, and that at `path`.
  package func isFile(_ path: String) -> Bool {
    guard let own = self.path else { return false }
    return own == path || Self.isSame(FilePlace(path: own), FilePlace(path: path))
      || Self.isSame(FileIdentity(path: own), FileIdentity(path: path, followingLinks: true))
  }

  /// Of two that there are not nothing is known.
  private static func isSame<Place: Equatable>(_ one: Place?, _ other: Place?) -> Bool { one != nil && one == other }
}
