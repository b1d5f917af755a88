// What a query asks for, and what it may not.

import Testing
import Text

@testable import Workload

/// The faults of a query, as "parameter code"; empty: there are none.
private func faults(_ query: String) -> [String] {
  switch Plan.parse(query.utf8.span) {
  case .success: []
  case .failure(let problem): problem.faults.told.map { "\($0.parameter) \($0.code.rawValue)" }
  }
}

@Suite("Plan")
struct PlanTests {
  @Test("is one small statement where nothing is said")
  func nothing() throws {
    let plan = try Plan.parse("".utf8.span).get()
    #expect(plan == Plan())
    #expect(plan.statement(0).statement === WorkStatements.reads.plain)
  }

  @Test("takes what the query says")
  func everything() throws {
    let query =
      "statements=3&together=1&time=1.5&distribution=lognormal&by=work&rows=2&bytes=10&processor=25&wait=0.025&share=rows&key=7"
    let plan = try Plan.parse(query.utf8.span).get()
    var expected = Plan()
    (expected.statements, expected.isTogether) = (3, true)
    (expected.time, expected.distribution, expected.by) = (1_500, .lognormal, .work)
    (expected.rows, expected.bytes, expected.processor, expected.wait) = (2, 10, 25, 25)
    (expected.share, expected.key) = (.rows, 7)
    #expect(plan == expected)
  }

  @Test(
    "takes milliseconds with three decimals",
    arguments: [("0", 0), ("1", 1_000), ("0.001", 1), ("2.5", 2_500), ("10000", 10_000_000), ("10000.000", 10_000_000)])
  func milliseconds(text: String, microseconds: Int64) throws {
    #expect(try Plan.parse("time=\(text)".utf8.span).get().time == microseconds)
    #expect(try Plan.parse("wait=\(text)".utf8.span).get().wait == microseconds)
  }

  @Test(
    "takes a bound's value, and nothing beyond it",
    arguments: [
      ("statements=%", 256), ("together=%", 1), ("time=%", 10_000), ("rows=%", 10_000), ("bytes=%", 1 << 20),
      ("processor=%", 5_000_000), ("wait=%", 10_000), ("key=%", 1_000_000_000),
      // Of all together.
      ("statements=6&time=%", 10_000), ("statements=256&time=%", 234), ("statements=10&rows=%", 1_000),
      ("rows=1000&bytes=%", 1_048), ("statements=8&rows=128&bytes=%", 1_024),
      ("distribution=exponential&time=%", 1_000), ("distribution=lognormal&time=%", 1_000),
    ])
  func bounds(query: String, most: Int) {
    let name = query.split { $0 == "&" }.last?.split { $0 == "=" }.first ?? ""
    func with(_ value: Int) -> [String] {
      faults(query.split(separator: "%", omittingEmptySubsequences: false).joined(separator: "\(value)"))
    }
    #expect(with(0) == [])
    #expect(with(most) == [])
    #expect(with(most + 1) == ["\(name) out_of_range"])
  }

  @Test(
    "names what is wrong",
    arguments: [
      ("statements=", "statements out_of_range"), ("statements=-1", "statements out_of_range"),
      ("statements=1.0", "statements out_of_range"), ("rows=99999999999999999999", "rows out_of_range"),
      ("together=yes", "together out_of_range"), ("time=1e3", "time out_of_range"), ("time=.5", "time out_of_range"),
      ("time=5.", "time out_of_range"), ("time=0.0001", "time out_of_range"), ("time=1.2.3", "time out_of_range"),
      ("time=", "time out_of_range"), ("wait=-1", "wait out_of_range"), ("wait=1000000000000", "wait out_of_range"),
      ("distribution=Fixed", "distribution malformed"), ("by=", "by malformed"), ("share=all", "share malformed"),
      ("key=1&key=1", "key repeated"), ("Key=1", "Key unknown"), ("statement=1", "statement unknown"),
    ])
  func wrong(query: String, fault: String) {
    #expect(faults(query) == [fault])
    #expect(faults("bytes=1&" + query) == [fault])
  }

  @Test("tells of many faults only the first, and of a long name its beginning")
  func many() throws {
    guard case .failure(let problem) = Plan.parse(String(repeating: "x=1&", count: 500).utf8.span) else {
      throw Unexpected()
    }
    #expect(problem.faults.count == 500 && problem.faults.told.count == 20)
    #expect(faults(String(repeating: "é", count: 500)) == [String(repeating: "é", count: 20) + "… unknown"])
  }

  @Test("takes no query that can't be decoded", arguments: ["time=%zz", "%ff=1"])
  func undecodable(query: String) throws {
    guard case .failure(let problem) = Plan.parse(query.utf8.span) else { throw Unexpected() }
    #expect(problem.status == .badRequest)
  }

  @Test("has a statement for each way to take time, with its rows, bytes, key and time")
  func statements() throws {
    let plan = try Plan.parse("rows=2&bytes=5&key=7&time=1.5".utf8.span).get()
    #expect(plan.statement(0).statement === WorkStatements.reads.sleep)
    #expect(
      String(decoding: plan.statement(1).parameters.bytes, as: UTF8.self)
        == "2\0|5\0|8\0|1500\0".replacing("|", with: ""))
    var other = plan
    other.by = .work
    #expect(other.statement(0).statement === WorkStatements.reads.compute)
    other.isWrite = true
    #expect(other.statement(0).statement === WorkStatements.writes.compute)
    #expect(!WorkStatements.writes.compute.isReadOnly && WorkStatements.reads.compute.isReadOnly)
    (other.time, other.isWrite) = (0, false)
    #expect(other.statement(0).statement === WorkStatements.reads.plain)
  }

  @Test("shares the rendering only of an answer that one statement decides")
  func sharing() throws {
    var plan = try Plan.parse("share=rendering".utf8.span).get()
    #expect(plan.sharing == .rendering)
    plan.received = 1
    #expect(plan.sharing == .rows)
    (plan.received, plan.statements) = (0, 2)
    #expect(plan.sharing == .rows)
    plan.share = .nothing
    #expect(plan.sharing == .nothing)
  }
}

struct Unexpected: Error {}
