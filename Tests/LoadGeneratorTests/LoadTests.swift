// When requests are meant to be sent, and which.

import Histogram
import Testing

@testable import LoadGenerator

@Suite struct LoadTests {
  @Test func arrivalsAreEvenlySpacedAndEndBeforeTheEnd() {
    let plan = LoadPlan(port: 1, [RequestKind("a", "/")], connections: 1, rate: 10, seconds: 1)
    var arrivals = Arrivals(rate: 10, from: 5_000_000_000)
    arrivals.measure(plan, from: 5_000_000_000, to: 6_000_000_000)
    var moments: [UInt64] = []
    while let moment = arrivals.take() { moments.append(moment) }
    #expect(moments == (0..<10).map { 5_000_000_000 + $0 * 100_000_000 })
  }

  @Test func aBurstIsDenserForItsTimeAndThenItIsOver() {
    var plan = LoadPlan(port: 1, [RequestKind("a", "/")], connections: 1, rate: 100, seconds: 3)
    plan.burst = .init(after: 1, seconds: 1, factor: 10)
    var arrivals = Arrivals(rate: 100, from: 0)
    arrivals.measure(plan, from: 0, to: 3_000_000_000)
    var perSecond = [0, 0, 0]
    while let moment = arrivals.take() { perSecond[Int(moment / 1_000_000_000)] += 1 }
    #expect(perSecond == [100, 1000, 100])
  }

  @Test func whatNobodyTookIsCounted() {
    let plan = LoadPlan(port: 1, [RequestKind("a", "/")], connections: 1, rate: 10, seconds: 1)
    var arrivals = Arrivals(rate: 10, from: 0)
    arrivals.measure(plan, from: 0, to: 1_000_000_000)
    _ = arrivals.take()
    #expect(arrivals.remaining(from: 0) == 9)
    // Those of the warm-up are not counted.
    #expect(arrivals.remaining(from: 500_000_000) == 5)
  }

  @Test func theyGoOnUntilItIsKnownWhenTheMeasurementEnds() {
    var plan = LoadPlan(port: 1, [RequestKind("a", "/")], connections: 1, rate: 10, seconds: 1)
    plan.burst = .init(after: 0.5, seconds: 0.25, factor: 10)
    var arrivals = Arrivals(rate: 10, from: 0)
    let before = (0..<20).map { _ in arrivals.take() }
    #expect(before.last == 1_900_000_000)
    arrivals.measure(plan, from: 1_950_000_000, to: 2_950_000_000)
    var moments: [UInt64] = []
    while let moment = arrivals.take() { moments.append(moment) }
    #expect(moments.first == 2_000_000_000 && moments.count == 5 + 20 + 3)
  }

  @Test func equalSeedsDrawEqualRequestsByTheirWeights() {
    let kinds = [
      RequestKind("read", "/contact/{id}", ids: 1...1000, weight: 9),
      RequestKind("write", "/order", method: "POST", body: #"{"contact_id":{id}}"#, ids: 7...7),
    ]
    var (one, other) = (RequestMix(kinds, host: "h", seed: 3), RequestMix(kinds, host: "h", seed: 3))
    var (first, second): ([UInt8], [UInt8]) = ([], [])
    var counts = [0, 0]
    for _ in 0..<10_000 {
      let kind = one.next(into: &first)
      #expect(kind == other.next(into: &second))
      #expect(first == second)
      counts[kind] += 1
    }
    #expect((850...1150).contains(counts[1]), "a tenth of 10,000 are writes, not \(counts[1])")
  }

  @Test func aRequestIsPutTogetherAsHTTPWantsIt() {
    var request: [UInt8] = []
    var mix = RequestMix(
      [RequestKind("w", "/sync/order?x={id}", method: "POST", fields: ["A": "b"], body: #"{"c":{id}}"#, ids: 12...12)],
      host: "127.0.0.1:80", seed: 1)
    _ = mix.next(into: &request)
    #expect(
      String(decoding: request, as: UTF8.self)
        == "POST /sync/order?x=12 HTTP/1.1\r\nHost: 127.0.0.1:80\r\nA: b\r\nContent-Type: application/json\r\n"
        + "Content-Length: 8\r\n\r\n{\"c\":12}")
  }

  @Test func latenciesTellTheirPercentilesAndKeepTheirHistogram() {
    var recorder = Latencies.recorder()
    for value in 1...1000 { recorder.record(UInt64(value * 10)) }
    let latencies = Latencies(recorder)
    // Three significant digits are a thousandth.
    #expect(abs(latencies.p50 - 5000) <= 10)
    #expect(abs(latencies.p99 - 9900) <= 20)
    #expect(abs(latencies.max - 10_000) <= 20)
    #expect(latencies.histogram.reduce(0) { $0 + $1[1] } == 1000)
    #expect(Latencies(Latencies.recorder()) == Latencies())
  }

  @Test func aPlanThatMakesNoSenseSaysWhy() {
    var plan = LoadPlan(port: 1, [RequestKind("a", "/")], connections: 0, seconds: 1)
    #expect(plan.fault == "connections must be from 1 to 100000, not 0")
    plan.connections = 1
    #expect(plan.fault == nil)
    plan.burst = .init(after: 0, seconds: 1, factor: 0)
    #expect(plan.fault == "a burst needs a factor from 0.001 to 1000, and times that are not negative")
    plan.burst = nil
    plan.idleClients = -1
    #expect(plan.fault == "connections beside must be from 0 to 1000000")
    plan.idleClients = 0
    plan.kinds[0].ids = [3]
    #expect(plan.fault?.hasPrefix("each request needs a weight") == true)
    plan.kinds = []
    #expect(plan.fault == "there is no request to make")
  }
}
