// Who shares what, as a transcript: a read comes, is sent, ends.

import Postgres
import Testing

@testable import AsyncServer

@Suite struct SharedReadsTests {
  private let item = Statement("item", readOnly: true, "select $1::bigint")

  private func read(_ id: Int64) -> BoundStatement {
    var parameters = Parameters()
    parameters.append(id)
    return BoundStatement(item, parameters)
  }

  @Test("whoever comes before a read is sent joins it, and whoever comes later joins the next")
  func joining() {
    var reads = SharedReads()
    let (first, starts) = reads.execution(of: read(1), most: 1, since: 0)
    #expect(starts)
    let (same, startsAgain) = reads.execution(of: read(1), most: 1, since: 0)
    #expect(same === first && !startsAgain)
    first.wasSent()
    let (next, nextStarts) = reads.execution(of: read(1), most: 1, since: 0)
    #expect(next !== first && !nextStarts)
    #expect(reads.execution(of: read(1), most: 1, since: 0).0 === next)
    #expect(reads.ended(first, most: 1) === next)
    #expect(reads.execution(of: read(1), most: 1, since: 0).0 === next, "it is in the queue, and not sent yet")
    next.wasSent()
    #expect(reads.ended(next, most: 1) == nil)
    #expect(reads.execution(of: read(1), most: 1, since: 0).mayStart, "nothing is left of it")
  }

  @Test("reads of other rows are others")
  func others() {
    var reads = SharedReads()
    #expect(reads.execution(of: read(1), most: 1, since: 0).mayStart)
    #expect(reads.execution(of: read(2), most: 1, since: 0).mayStart)
  }

  @Test("two may run at a time, and a third waits for either")
  func two() {
    var reads = SharedReads()
    let first = reads.execution(of: read(1), most: 2, since: 0).0
    first.wasSent()
    let (second, starts) = reads.execution(of: read(1), most: 2, since: 0)
    #expect(second !== first && starts)
    #expect(reads.execution(of: read(1), most: 2, since: 0).0 === second, "it was not sent yet")
    second.wasSent()
    let (third, thirdStarts) = reads.execution(of: read(1), most: 2, since: 0)
    #expect(third !== first && third !== second && !thirdStarts)
    #expect(reads.ended(second, most: 2) === third)
    third.wasSent()
    #expect(reads.ended(first, most: 2) == nil && reads.ended(third, most: 2) == nil)
  }

  @Test("where only one may run any more, the next waits until both have ended")
  func fewer() {
    var reads = SharedReads()
    let running = (0..<2).map { _ in
      let execution = reads.execution(of: read(1), most: 2, since: 0).0
      execution.wasSent()
      return execution
    }
    let next = reads.execution(of: read(1), most: 2, since: 0).0
    #expect(reads.ended(running[0], most: 1) == nil)
    #expect(reads.ended(running[1], most: 1) === next)
  }

  @Test("a read that was sent again is as if it had not been sent")
  func again() {
    var reads = SharedReads()
    let execution = reads.execution(of: read(1), most: 1, since: 0).0
    execution.wasSent()
    execution.repeats()
    #expect(reads.execution(of: read(1), most: 1, since: 0).0 === execution)
  }
}
