// What a request to `/work` asks for, as its query says it: docs/workload.md has the table.

import Application
import CGI
import Postgres
import Text

struct Plan: Equatable, Sendable {
  var statements = 1
  var isTogether = false
  /// In microseconds, as `processor` and `wait`.
  var time: Int64 = 0
  var distribution = Distribution.fixed
  var by = Means.sleep
  var rows: Int64 = 0
  var bytes: Int64 = 0
  var processor: Int64 = 0
  var wait: Int64 = 0
  var share = Query.Sharing.nothing
  var key: Int64 = 0
  /// Whether what is asked for may not be done twice: its statements count as writes.
  var isWrite = false
  /// Bytes of a body that came along.
  var received = 0

  /// What the database does meanwhile.
  enum Means: Sendable { case sleep, work }

  static let mostStatements: Int64 = 256
  /// Of each statement, and of a wait, in microseconds.
  static let longest: Int64 = 10_000_000
  /// Of our own processor time, in microseconds: less than a loop may stand still.
  static let longestComputation: Int64 = 5_000_000
  /// Of all statements.
  static let longestInAll: Int64 = 60_000_000
  static let mostRows: Int64 = 10_000
  static let mostBytes: Int64 = 1 << 20
  static let highestKey: Int64 = 1_000_000_000

  enum Parameter: String, CaseIterable {
    case statements, together, time, distribution, by, rows, bytes, processor, wait, share, key
  }

  private static let names = Parameter.allCases.map { UTF8Text($0.rawValue) }

  /// What a query string asks for, or all that is wrong with it.
  static func parse(_ query: Span<UInt8>) -> Result<Plan, Problem> {
    var plan = Plan()
    if query.isEmpty { return .success(plan) }
    let pairs: [QueryString.Pair]
    do throws(QueryString.Undecodable) { pairs = try QueryString.pairs(query) } catch { return .failure(.undecodable) }
    var faults = Faults()
    // A bit for each.
    var seen = 0
    for pair in pairs {
      guard let index = names.firstIndex(of: pair.name) else {
        faults.reportUnknown(pair.name)
        continue
      }
      let parameter = Parameter.allCases[index]
      guard seen & 1 << index == 0 else {
        faults.report(parameter, .repeated, "may be given once")
        continue
      }
      seen |= 1 << index
      plan.take(parameter, pair.value, &faults)
    }
    if faults.isEmpty { plan.lookAtWhole(&faults) }
    return faults.isEmpty ? .success(plan) : .failure(.unprocessable(faults))
  }

  /// What is wrong with a query string where none is taken; nil if there is none.
  static func refuseAll(_ query: Span<UInt8>) -> Problem? {
    if query.isEmpty { return nil }
    var faults = Faults()
    do throws(QueryString.Undecodable) {
      for pair in try QueryString.pairs(query) { faults.reportUnknown(pair.name) }
    } catch {
      return .undecodable
    }
    return faults.isEmpty ? nil : .unprocessable(faults)
  }

  private mutating func take(_ parameter: Parameter, _ value: UTF8Text, _ faults: inout Faults) {
    func number(most: Int64) -> Int64 {
      if let number = value.withBytes({ $0.decimal }), number <= most { return number }
      faults.report(parameter, .outOfRange, "must be an integer from 0 to \(most)")
      return 0
    }
    func milliseconds() -> Int64 {
      if let number = value.withBytes({ Self.thousandths($0) }), number <= Self.longest { return number }
      faults.report(
        parameter, .outOfRange, "must be milliseconds from 0 to \(Self.longest / 1000), with three decimals at most")
      return 0
    }
    func word<Meaning>(_ words: KeyValuePairs<UTF8Text, Meaning>, else fallback: Meaning) -> Meaning {
      if let meaning = words.first(where: { $0.key == value })?.value { return meaning }
      let all = words.map { $0.key.string }.joined(separator: ", ")
      faults.report(parameter, .malformed, "must be one of \(all)")
      return fallback
    }
    switch parameter {
    case .statements: statements = Int(number(most: Self.mostStatements))
    case .together: isTogether = number(most: 1) == 1
    case .time: time = milliseconds()
    case .distribution:
      distribution = word(["fixed": .fixed, "exponential": .exponential, "lognormal": .lognormal], else: .fixed)
    case .by: by = word(["sleep": .sleep, "work": .work], else: .sleep)
    case .rows: rows = number(most: Self.mostRows)
    case .bytes: bytes = number(most: Self.mostBytes)
    case .processor: processor = number(most: Self.longestComputation)
    case .wait: wait = milliseconds()
    case .share: share = word(["nothing": .nothing, "rows": .rows, "rendering": .rendering], else: .nothing)
    case .key: key = number(most: Self.highestKey)
    }
  }

  /// What each may ask for by itself, and all of it together not. No product overflows: each is of bounded numbers.
  private func lookAtWhole(_ faults: inout Faults) {
    if distribution != .fixed, time > Distribution.longestMean {
      faults.report(
        .time, .outOfRange, "must be at most \(Distribution.longestMean / 1000), where it is a distribution's mean")
    }
    if Int64(statements) * time > Self.longestInAll {
      faults.report(.time, .outOfRange, "must be at most \(Self.longestInAll / 1000) of all statements together")
    }
    if Int64(statements) * rows > Self.mostRows {
      faults.report(.rows, .outOfRange, "must be at most \(Self.mostRows) of all statements together")
    }
    if Int64(statements) * rows * bytes > Self.mostBytes {
      faults.report(.bytes, .outOfRange, "must be at most \(Self.mostBytes) of all rows together")
    }
  }

  /// A number with at most three decimals, times a thousand; nil if it is none.
  private static func thousandths(_ text: Span<UInt8>) -> Int64? {
    var value: Int64 = 0
    var decimals: Int?
    // Of more digits none is in range.
    guard text.count <= 12 else { return nil }
    for index in text.indices {
      if text[index] == UInt8(ascii: "."), index > 0, decimals == nil {
        decimals = 0
        continue
      }
      let digit = text[index] &- 0x30
      guard digit < 10 else { return nil }
      value = value * 10 + Int64(digit)
      decimals = decimals.map { $0 + 1 }
    }
    guard !text.isEmpty, decimals != 0, decimals ?? 0 <= 3 else { return nil }
    for _ in (decimals ?? 0)..<3 { value *= 10 }
    return value
  }
}
