// Which part of a list is asked for, by keyset: rows after an id, so that a late page costs what the first costs.

import CGI
import JSON

/// `?limit=&after=`.
struct Page: Equatable, Sendable {
  static let limits = 1...1000
  static let defaultLimit = 100

  var limit = Page.defaultLimit
  var after: Int64 = 0

  /// The page that a query string asks for, or all that is wrong with it.
  static func parse(_ query: Span<UInt8>) -> Result<Page, Problem> {
    if query.isEmpty { return .success(Page()) }
    var page = Page()
    var faults: [Fault] = []
    let pairs: [QueryString.Pair]
    switch decoded(query) {
    case .success(let decoded): pairs = decoded
    case .failure(let problem): return .failure(problem)
    }
    var seen: Set<String> = []
    for pair in pairs {
      guard seen.insert(pair.name).inserted else {
        faults.append(Fault(parameter: pair.name, .repeated, "\(pair.name) may be given once."))
        continue
      }
      switch pair.name {
      case "limit":
        if let limit = integer(pair.value), limits.contains(Int(clamping: limit)) {
          page.limit = Int(limit)
        } else {
          let range = "\(limits.lowerBound) to \(limits.upperBound)"
          faults.append(Fault(parameter: "limit", .outOfRange, "limit must be an integer from \(range)."))
        }
      case "after":
        if let after = integer(pair.value) {
          page.after = after
        } else {
          faults.append(
            Fault(parameter: "after", .outOfRange, "after must be an id: an integer from 0 to \(Int64.max)."))
        }
      default:
        faults.append(.unknownParameter(pair.name))
      }
    }
    return faults.isEmpty ? .success(page) : .failure(.unprocessable(faults))
  }

  /// What is wrong with a query string where none is taken; nil if there is none.
  static func refuseAll(_ query: Span<UInt8>) -> Problem? {
    if query.isEmpty { return nil }
    switch decoded(query) {
    case .failure(let problem): return problem
    case .success(let pairs):
      return pairs.isEmpty ? nil : .unprocessable(pairs.map { .unknownParameter($0.name) })
    }
  }

  private static func decoded(_ query: Span<UInt8>) -> Result<[QueryString.Pair], Problem> {
    do throws(QueryString.Undecodable) {
      return .success(try QueryString.pairs(query))
    } catch {
      return .failure(.badRequest(detail: "The query string can't be decoded: it must be percent-encoded UTF-8."))
    }
  }

  /// Digits only: no sign, no space.
  private static func integer(_ text: String) -> Int64? {
    guard !text.isEmpty, text.utf8.allSatisfy({ $0 &- 0x30 < 10 }) else { return nil }
    return Int64(text)
  }
}
