// The routing table: a closed enum, so that the compiler knows when a route is forgotten.

import CGI
import HTTPTypes

/// What the API is about; the raw value is its place in paths.
package enum Resource: String, Sendable, CaseIterable {
  case contact, product, tag, order
}

/// Where a path leads.
package enum Route: Equatable, Sendable {
  /// `/{mode}/contact`
  case collection(Resource)
  /// `/{mode}/contact/1`
  case item(Resource, Int64)
  /// `/{mode}/health`
  case health
  /// `/{mode}/live`
  case live

  /// The route of a decoded path; nil if there is none. An id is a positive 64-bit integer without leading zeros.
  package init?(path: Span<UInt8>, mode: Mode) {
    var rest = path
    guard rest.take("/"), rest.take(mode == .sync ? "sync/" : "async/") else { return nil }
    if rest.equals("health") {
      self = .health
      return
    }
    if rest.equals("live") {
      self = .live
      return
    }
    let resource: Resource
    if rest.take("contact") {
      resource = .contact
    } else if rest.take("product") {
      resource = .product
    } else if rest.take("tag") {
      resource = .tag
    } else if rest.take("order") {
      resource = .order
    } else {
      return nil
    }
    if rest.isEmpty {
      self = .collection(resource)
    } else if rest.take("/"), let id = Route.id(rest) {
      self = .item(resource, id)
    } else {
      return nil
    }
  }

  /// Whether a path leads somewhere but for the slash at its end.
  static func leadsSomewhere(withoutSlash path: Span<UInt8>, mode: Mode) -> Bool {
    guard path.count > 1, path[path.count - 1] == UInt8(ascii: "/") else { return false }
    var bare = path.extracting(droppingLast: 1)
    if Route(path: bare, mode: mode) != nil { return true }
    // Both have their own place in front of us.
    return bare.take(mode == .sync ? "/sync/" : "/async/") && (bare.equals("status") || bare.equals("metrics"))
  }

  private static func id(_ text: Span<UInt8>) -> Int64? {
    guard text.count > 0, text.count <= 19, text[0] != UInt8(ascii: "0") else { return nil }
    return text.decimal
  }

  /// What can be done there.
  var methods: Methods {
    switch self {
    case .collection: Methods(list: [.get, .head, .post, .options])
    case .item: Methods(list: [.get, .head, .patch, .delete, .options])
    case .health, .live: Methods(list: [.get, .head, .options])
    }
  }
}

/// The methods of a route.
struct Methods {
  let list: [HTTPRequest.Method]

  /// `Allow` (RFC 9110 §10.2.1).
  var allow: HTTPField { HTTPField(name: .allow, value: list.map(\.rawValue).joined(separator: ", ")) }
}

extension Span<UInt8> {
  /// Steps over `prefix`; false, and nothing changed, if it does not stand here.
  fileprivate mutating func take(_ prefix: StaticString) -> Bool {
    guard extracting(first: prefix.utf8CodeUnitCount).equals(prefix) else { return false }
    self = extracting(droppingFirst: prefix.utf8CodeUnitCount)
    return true
  }
}
