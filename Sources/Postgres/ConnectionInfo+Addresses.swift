// Host names to addresses. libpq asks the resolver in the middle of connecting and waits for it, which an event loop must
// not do: so they are looked up before, by somebody who may wait, and libpq gets both.

import CPostgres
import Glibc

extension ConnectionInfo {
  /// One place to connect to.
  private struct Place {
    let host: Substring
    let port: Substring
  }

  /// Whether connecting would ask a resolver.
  package var needsResolver: Bool { places.contains { Self.needsResolver($0.host) } }

  /// The same with an address for each name (`hostaddr`), all that it has, in the resolver's order. Waits for the resolver.
  /// A name that has none is left out, unless no place is left then.
  package func resolved() throws(PostgresError) -> ConnectionInfo {
    var (hosts, addresses, ports): ([Substring], [String], [Substring]) = ([], [], [])
    var failures: [String] = []
    for place in places {
      guard Self.needsResolver(place.host) else {
        hosts.append(place.host)
        addresses.append("")
        ports.append(place.port)
        continue
      }
      let found = Self.addresses(of: String(place.host))
      if found.isEmpty { failures.append("no address for the host name \"\(place.host)\"") }
      for address in found {
        hosts.append(place.host)
        addresses.append(address)
        ports.append(place.port)
      }
    }
    guard !hosts.isEmpty else { throw .unavailable(failures.joined(separator: ", ")) }
    var info = self
    info.keywords["host"] = hosts.joined(separator: ",")
    info.keywords["hostaddr"] = addresses.joined(separator: ",")
    info.keywords["port"] = ports.joined(separator: ",")
    return info
  }

  /// Where libpq would connect to; nothing where addresses are given.
  private var places: [Place] {
    // What libpq takes where nothing is said: its environment, and the service file.
    let defaults = PQconndefaults().map(Self.keywords(owning:)) ?? [:]
    func value(_ keyword: String) -> String { keywords[keyword] ?? defaults[keyword] ?? "" }
    guard value("hostaddr").isEmpty else { return [] }
    let hosts = value("host").split(separator: ",", omittingEmptySubsequences: false)
    let ports = value("port").split(separator: ",", omittingEmptySubsequences: false)
    return hosts.indices.map {
      Place(host: hosts[$0], port: ports.count == 1 ? ports[0] : $0 < ports.count ? ports[$0] : "")
    }
  }

  /// A path is a Unix socket's, and an address is its own.
  private static func needsResolver(_ host: Substring) -> Bool {
    guard let first = host.first, first != "/", first != "@" else { return false }
    var room = in6_addr()
    return inet_pton(AF_INET, String(host), &room) != 1 && inet_pton(AF_INET6, String(host), &room) != 1
  }

  private static func addresses(of host: String) -> [String] {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var found: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(host, nil, &hints, &found) == 0 else { return [] }
    defer { freeaddrinfo(found) }
    var addresses: [String] = []
    var next = found
    while let entry = next?.pointee {
      var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
      if getnameinfo(entry.ai_addr, entry.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST) == 0 {
        addresses.append(String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self))
      }
      next = entry.ai_next
    }
    return addresses
  }
}
