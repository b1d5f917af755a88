// Where an event loop connects to, place by place. libpq's own steps (PQconnectPoll) know no time limit and ask the resolver in the
// middle: so names are looked up before, by somebody who may wait, and whoever takes the steps looks at the clock and goes on
// with the rest of the list when a place has had its time. All else is left to libpq: what is a failure that ends the search, and
// who is the kind of server that is wanted.

import CPostgres
import Glibc

/// The places of a `ConnectionInfo`, and how long each may take.
package struct ConnectionPlan: Sendable {
  /// One host and one of its addresses.
  package struct Place: Equatable, Sendable {
    var host: String
    var address: String
    var port: String
  }

  /// With all that is said elsewhere, in libpq's environment and in the service file.
  private var info: ConnectionInfo
  /// Empty where libpq shall find out by itself.
  package private(set) var places: [Place] = []
  /// How long a place may take, in seconds; nil: as long as it likes.
  package let limit: Int?
  /// What kind of server each walk through the list looks for; nil: what is said anyway.
  package let walks: [String?]

  package init(_ given: ConnectionInfo, _ options: Connection.Options) throws(PostgresError) {
    info = options.applied(to: given)
    let effective = info.effective()
    limit = try Self.limit(effective["connect_timeout"])
    // libpq walks twice itself. It could not do so any more with a part of the list.
    walks = effective["target_session_attrs"] == "prefer-standby" ? ["standby", "any"] : [nil]
    places = Self.places(effective)
    if effective["load_balance_hosts"] == "random" {
      places.shuffle()
      info.keywords["load_balance_hosts"] = "disable"
    }
  }

  /// libpq 15, "connect_timeout": 0 and less are no limit, and 1 counts as 2.
  static func limit(_ text: String?) throws(PostgresError) -> Int? {
    guard let text else { return nil }
    let seconds = try integer(text, of: "connect_timeout")
    guard seconds > 0 else { return nil }
    return max(seconds, PQlibVersion() < 170_000 ? 2 : 1)
  }

  /// What libpq takes for a number (`parse_int_param`).
  static func integer(_ text: String, of option: String) throws(PostgresError) -> Int {
    // What isspace(3) takes for a space.
    func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }
    let digits = text.utf8.drop(while: isSpace).reversed().drop(while: isSpace).reversed()
    guard let number = Int32(String(decoding: Array(digits), as: UTF8.self)) else {
      throw .unavailable("invalid integer value \"\(text)\" for connection option \"\(option)\"")
    }
    return Int(number)
  }

  /// None where libpq has a complaint, or nothing to choose from.
  private static func places(_ effective: [String: String]) -> [Place] {
    func list(_ keyword: String) -> [String] {
      guard let value = effective[keyword], !value.isEmpty else { return [] }
      return value.utf8.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false).map {
        String(Substring($0))
      }
    }
    let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port"))
    let count = max(hosts.count, addresses.count)
    guard count > 0, [0, count].contains(hosts.count), [0, count].contains(addresses.count),
      ports.count <= 1 || ports.count == count
    else { return [] }
    return (0..<count).map { index in
      Place(
        host: hosts.isEmpty ? "" : hosts[index], address: addresses.isEmpty ? "" : addresses[index],
        port: ports.count > 1 ? ports[index] : ports.first ?? "")
    }
  }

  // MARK: Names

  /// Whether connecting would ask a resolver.
  package var needsResolver: Bool { places.contains { $0.needsResolver } }

  /// The same with all addresses of each name in the resolver's order. Waits for the resolver. A name that has none is left out,
  /// unless no place is left then.
  package func resolved() throws(PostgresError) -> ConnectionPlan {
    var plan = self
    var failures: [String] = []
    plan.places = places.flatMap { place in
      guard place.needsResolver else { return [place] }
      let found = Self.addresses(of: place.host)
      if found.isEmpty { failures.append("no address for the host name \"\(place.host)\"") }
      return found.map { Place(host: place.host, address: $0, port: place.port) }
    }
    guard !plan.places.isEmpty else { throw .unavailable(failures.joined(separator: ", ")) }
    return plan
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

  // MARK: Steps

  /// Begins a walk, or goes on with it, at `index` of the places. Poll with `connectStep()` as soon as the socket is writable.
  package func startConnecting(walk: Int = 0, from index: Int = 0) throws(PostgresError) -> Connection {
    var info = info
    if let kind = walks[walk] { info.keywords["target_session_attrs"] = kind }
    if !places.isEmpty {
      let rest = places[index...]
      info.keywords["host"] = rest.map(\.host).joined(separator: ",")
      info.keywords["hostaddr"] = rest.map(\.address).joined(separator: ",")
      info.keywords["port"] = rest.map(\.port).joined(separator: ",")
    }
    guard let handle = info.withArrays({ PQconnectStartParams($0, $1, 0) }) else { throw .unavailable("out of memory") }
    return Connection(owning: handle)
  }

  /// For logs.
  package func name(of index: Int) -> String {
    guard index < places.count else { return "the database" }
    let place = places[index]
    return "\(place.host)\(place.address.isEmpty ? "" : " (\(place.address))"), port \(place.port)"
  }

  /// At which of the places a connection is that was at `index` before.
  package func index(of connection: Connection, from index: Int) -> Int {
    guard index < places.count else { return index }
    return places[index...].firstIndex(where: connection.isAt) ?? index
  }
}

extension ConnectionPlan.Place {
  /// A path is a Unix socket's, and an address is its own.
  fileprivate var needsResolver: Bool {
    guard address.isEmpty, let first = host.utf8.first, first != UInt8(ascii: "/"), first != UInt8(ascii: "@") else {
      return false
    }
    var space = in6_addr()
    return inet_pton(AF_INET, host, &space) != 1 && inet_pton(AF_INET6, host, &space) != 1
  }
}

extension Connection {
  /// Whether libpq is at a place, as far as it tells: two of the same are one to it.
  fileprivate func isAt(_ place: ConnectionPlan.Place) -> Bool {
    func isEqual(_ text: UnsafeMutablePointer<CChar>?, _ wanted: String) -> Bool {
      wanted.isEmpty || text.map { strcmp($0, wanted) == 0 } ?? false
    }
    return isEqual(PQhost(handle), place.host) && isEqual(PQport(handle), place.port)
      && isEqual(PQhostaddr(handle), place.address)
  }
}
