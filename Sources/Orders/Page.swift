// Which part of a list is asked for, by keyset: rows after an id, so that a late page costs what the first costs.

import CGI
import JSON
import Postgres
import Text

/// `?limit=&after=`, and of orders `contact_id=&product_id=&tag=`.
struct Page: Equatable, Sendable {
  static let limits = 1...1000
  static let defaultLimit = 100

  var limit = Page.defaultLimit
  var after: Int64 = 0
  var contactID: Int64?
  var productID: Int64?
  var tag: UTF8Text?

  /// What a list can be asked for; the last three only a list of orders.
  private enum Parameter: Int {
    case limit, after, contactID, productID, tag
  }

  private static let names: [UTF8Text] = ["limit", "after", "contact_id", "product_id", "tag"]

  /// The parameters that a list takes.
  static func parameters(of resource: Resource) -> ArraySlice<UTF8Text> {
    resource == .order ? names[...] : names[..<Parameter.contactID.rawValue]
  }

  /// The page that a query string asks for, or all that is wrong with it.
  static func parse(_ query: Span<UInt8>, of resource: Resource) -> Result<Page, Problem> {
    if query.isEmpty { return .success(Page()) }
    var page = Page()
    var faults = Faults()
    let pairs: [QueryString.Pair]
    switch decoded(query) {
    case .success(let decoded): pairs = decoded
    case .failure(let problem): return .failure(problem)
    }
    let known = parameters(of: resource)
    // A bit for each.
    var seen = 0
    for pair in pairs {
      guard let index = known.firstIndex(of: pair.name), let parameter = Parameter(rawValue: index) else {
        faults.report(.unknownParameter(pair.name))
        continue
      }
      guard seen & 1 << index == 0 else {
        faults.report(Fault(parameter: pair.name, .repeated, "\(pair.name) may be given once."))
        continue
      }
      seen |= 1 << index
      if let fault = page.take(parameter, pair) { faults.report(fault) }
    }
    return faults.isEmpty ? .success(page) : .failure(.unprocessable(faults))
  }

  /// Takes a parameter; what is wrong with it.
  private mutating func take(_ parameter: Parameter, _ pair: QueryString.Pair) -> Fault? {
    func wrong(_ code: Fault.Code, _ what: String) -> Fault {
      Fault(parameter: pair.name, code, "\(pair.name) must be \(what).")
    }
    // As the ids in paths, without leading zeros.
    let number = pair.value.withBytes { $0.count > 1 && $0[0] == UInt8(ascii: "0") ? nil : $0.decimal }
    switch parameter {
    case .limit:
      guard let number, Self.limits.contains(Int(number)) else {
        return wrong(.outOfRange, "an integer from \(Self.limits.lowerBound) to \(Self.limits.upperBound)")
      }
      limit = Int(number)
    case .after:
      guard let number else { return wrong(.outOfRange, "an id: an integer from 0 to \(Int64.max)") }
      after = number
    case .contactID, .productID:
      guard let number, number > 0 else { return wrong(.outOfRange, "an id: an integer from 1 to \(Int64.max)") }
      if parameter == .contactID { contactID = number } else { productID = number }
    case .tag:
      let count = pair.value.codePointCount
      guard count > 0, count <= Validation.longestName, !pair.value.contains(0) else {
        return wrong(.malformed, "a tag's name, of 1 to \(Validation.longestName) characters, without U+0000")
      }
      tag = pair.value
    }
    return nil
  }

  var filters: Order.Filters {
    var filters: Order.Filters = []
    if contactID != nil { filters.insert(.contact) }
    if productID != nil { filters.insert(.product) }
    if tag != nil { filters.insert(.tag) }
    return filters
  }

  /// The values of a list's statement.
  var values: Parameters {
    var parameters = Parameters()
    parameters.append(after)
    parameters.append(Int64(limit + 1))
    if let contactID { parameters.append(contactID) }
    if let productID { parameters.append(productID) }
    if let tag { parameters.append(tag) }
    return parameters
  }

  /// The query string of the page after the row `last`.
  func next(after last: Int64) -> String {
    var query = "limit=\(limit)&after=\(last)"
    if let contactID { query += "&contact_id=\(contactID)" }
    if let productID { query += "&product_id=\(productID)" }
    if let tag { query += "&tag=\(QueryString.encoded(tag))" }
    return query
  }

  /// What is wrong with a query string where none is taken; nil if there is none.
  static func refuseAll(_ query: Span<UInt8>) -> Problem? {
    if query.isEmpty { return nil }
    switch decoded(query) {
    case .failure(let problem): return problem
    case .success(let pairs):
      var faults = Faults()
      for pair in pairs { faults.report(.unknownParameter(pair.name)) }
      return faults.isEmpty ? nil : .unprocessable(faults)
    }
  }

  /// What is wrong with a query string whatever it is for; nil if nothing is.
  static func undecodable(_ query: Span<UInt8>) -> Problem? {
    if case .failure(let problem) = decoded(query) { problem } else { nil }
  }

  private static func decoded(_ query: Span<UInt8>) -> Result<[QueryString.Pair], Problem> {
    do throws(QueryString.Undecodable) {
      return .success(try QueryString.pairs(query))
    } catch {
      return .failure(.badRequest(detail: "The query string can't be decoded: it must be percent-encoded UTF-8."))
    }
  }
}
