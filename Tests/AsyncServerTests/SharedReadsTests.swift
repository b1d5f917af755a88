// Who shares what, as a transcript: a read comes, is sent, ends.

import CGI
import EventLoop
import Postgres
import Testing

@testable import AsyncServer
@testable import Orders

@Suite struct SharedReadsTests {
  private func read(_ id: Int64) -> Operation {
    var parameters = Parameters()
    parameters.append(id)
    return Operation(statement: Resource.tag.item, parameters: parameters, reply: .item(.tag))
  }

  @Test("whoever comes before a read is sent joins it, and whoever comes later joins the next")
  func joining() {
    var reads = SharedReads()
    let (first, starts) = reads.query(for: read(1), most: 1, since: 0)
    #expect(starts)
    let (same, startsAgain) = reads.query(for: read(1), most: 1, since: 0)
    #expect(same === first && !startsAgain)
    first.wasSent()
    let (next, nextStarts) = reads.query(for: read(1), most: 1, since: 0)
    #expect(next !== first && !nextStarts)
    #expect(reads.query(for: read(1), most: 1, since: 0).0 === next)
    #expect(reads.ended(first, most: 1) === next)
    #expect(reads.query(for: read(1), most: 1, since: 0).0 === next, "it is in the queue, and not sent yet")
    next.wasSent()
    #expect(reads.ended(next, most: 1) == nil)
    #expect(reads.query(for: read(1), most: 1, since: 0).mayStart, "nothing is left of it")
  }

  @Test("reads of other rows are others")
  func others() {
    var reads = SharedReads()
    #expect(reads.query(for: read(1), most: 1, since: 0).mayStart)
    #expect(reads.query(for: read(2), most: 1, since: 0).mayStart)
  }

  @Test("two may run at a time, and a third waits for either")
  func two() {
    var reads = SharedReads()
    let first = reads.query(for: read(1), most: 2, since: 0).0
    first.wasSent()
    let (second, starts) = reads.query(for: read(1), most: 2, since: 0)
    #expect(second !== first && starts)
    #expect(reads.query(for: read(1), most: 2, since: 0).0 === second, "it was not sent yet")
    second.wasSent()
    let (third, thirdStarts) = reads.query(for: read(1), most: 2, since: 0)
    #expect(third !== first && third !== second && !thirdStarts)
    #expect(reads.ended(second, most: 2) === third)
    third.wasSent()
    #expect(reads.ended(first, most: 2) == nil && reads.ended(third, most: 2) == nil)
  }

  @Test("where only one may run any more, the next waits until both have ended")
  func fewer() {
    var reads = SharedReads()
    let running = (0..<2).map { _ in
      let query = reads.query(for: read(1), most: 2, since: 0).0
      query.wasSent()
      return query
    }
    let next = reads.query(for: read(1), most: 2, since: 0).0
    #expect(reads.ended(running[0], most: 1) == nil)
    #expect(reads.ended(running[1], most: 1) === next)
  }

  @Test("a read that was sent again is as if it had not been sent")
  func again() {
    var reads = SharedReads()
    let query = reads.query(for: read(1), most: 1, since: 0).0
    query.wasSent()
    query.repeats()
    #expect(reads.query(for: read(1), most: 1, since: 0).0 === query)
  }

  /// Where the body lies that a step answers with, and how long it is.
  private func body(_ step: Step) -> (place: UnsafeRawPointer?, count: Int) {
    guard case .respond(let response) = step else { return (nil, 0) }
    return (response.body.withUnsafeBytes { $0.baseAddress }, response.body.count)
  }

  @Test("what several wait for is rendered once, and what one has asked for alone each time")
  func rendering() throws {
    let loop = try EventLoop()
    let application = Orders(mode: .async)
    var reads = SharedReads()
    let shared = reads.query(for: read(1), most: 1, since: 0).0
    let own = Query(read(1), since: 0)
    var places: [Set<UnsafeRawPointer?>] = []
    for query in [shared, own] {
      query.ended(.failure(.queueFull), on: loop)
      let steps = (0..<3).map { _ in application.finish(query.operation, query) }
      #expect(steps.allSatisfy { body($0).count > 50 })
      places.append(Set(steps.map { body($0).place }))
    }
    #expect(places.map(\.count) == [1, 3])
  }

  @Test("nothing is rendered for nobody")
  func nobody() {
    let query = Query(read(1), failed: .cancelled)
    #expect(body(Orders(mode: .async).finish(query.operation, query)).count == 0)
  }
}
