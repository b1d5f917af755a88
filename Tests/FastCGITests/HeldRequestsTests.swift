import Testing

@testable import FastCGI

private let limits = RequestLimits(params: 100, pairs: 5, body: 100, concurrent: 2, held: 2)
private let pairs = [("REQUEST_METHOD", "GET")]

private func overloaded(_ id: UInt16) -> [UInt8] { record(3, id: id, [0, 0, 0, 0, 2, 0, 0, 0]) }

extension RequestAssembler {
  /// The ids of the requests that are complete with these bytes.
  fileprivate mutating func take(_ bytes: [UInt8], inPiecesOf length: Int = .max) -> [UInt16] {
    var ids: [UInt16] = []
    var start = 0
    while start < bytes.count {
      let piece = Array(bytes[start...].prefix(length))
      var position = 0
      while let action = next(piece.span, &position) {
        if case .request(let request) = action { ids.append(request.id) }
      }
      start += piece.count
    }
    return ids
  }
}

@Suite("Requests beyond those that are served at a time")
struct HeldRequestsTests {
  @Test("are handed over as many as may be held, whole or in part, and the next one is overloaded")
  func number() {
    var assembler = RequestAssembler(limits: limits)
    let three = request(id: 1, pairs) + request(id: 2, pairs) + request(id: 3, pairs)
    #expect(assembler.take(three + begin(id: 4)) == [1, 2, 3])
    #expect(assembler.takeReplies().isEmpty)
    #expect(assembler.take(begin(id: 5)).isEmpty)
    #expect(assembler.takeReplies() == overloaded(5))
    assembler.finished(2)
    #expect(assembler.take(request(id: 5, pairs)) == [5])
    #expect(assembler.takeReplies().isEmpty)
  }

  @Test("are not what the web server is told of")
  func values() {
    var assembler = RequestAssembler(limits: limits)
    #expect(assembler.take(record(9, id: 0, encoded([("FCGI_MAX_REQS", "")]))).isEmpty)
    #expect(assembler.takeReplies() == record(10, id: 0, encoded([("FCGI_MAX_REQS", "2")])))
  }

  @Test("can be aborted, and have their ids while they are held")
  func abort() {
    var assembler = RequestAssembler(limits: limits)
    _ = assembler.take(request(id: 1, pairs) + request(id: 2, pairs) + request(id: 3, pairs))
    var position = 0
    #expect(assembler.next(record(2, id: 3).span, &position) == .aborted(id: 3))
    #expect(assembler.takeReplies().isEmpty, "it is ended by whoever holds it")
    position = 0
    #expect(assembler.next(begin(id: 3).span, &position) == .close(.idInUse(3)))
  }

  // 40 bytes of PARAMS and a body of 100 each: two of the largest are 400 bytes.
  private static let variables = encoded([("A", String(repeating: "x", count: 37))])
  private func begun(_ id: UInt16) -> [UInt8] { begin(id: id) + record(4, id: id, Self.variables) + record(4, id: id) }
  private func large(_ id: UInt16) -> [UInt8] {
    begun(id) + record(5, id: id, [UInt8](repeating: 7, count: 100)) + record(5, id: id)
  }

  @Test("have a size together, beyond which the last to begin is overloaded", arguments: [1, 3, 50, Int.max])
  func size(_ length: Int) {
    var assembler = RequestAssembler(limits: limits)
    // 140, 140 and 40 bytes, and then 80 more.
    let rest = begun(3) + record(5, id: 3, [UInt8](repeating: 7, count: 80))
    #expect(assembler.take(large(1) + large(2) + rest, inPiecesOf: length) == [1, 2])
    #expect(assembler.takeReplies().isEmpty, "at the bound")
    #expect(assembler.take(record(5, id: 3, [7]) + record(5, id: 3), inPiecesOf: length).isEmpty)
    #expect(assembler.takeReplies() == overloaded(3))
    #expect(assembler.take(request(id: 4, pairs), inPiecesOf: length) == [4])
  }

  @Test("hold nothing any more once they are begun, aborted or answered")
  func release() {
    for way in 0..<3 {
      var assembler = RequestAssembler(limits: limits)
      for _ in 0..<10 {
        let ids: [UInt16] = [1, 2, 3]
        for id in ids { _ = assembler.take(begun(id) + record(5, id: id, [UInt8](repeating: 7, count: 50))) }
        #expect(assembler.takeReplies().isEmpty, "way \(way)")
        for id in ids {
          switch way {
          case 0:
            #expect(assembler.take(record(5, id: id)) == [id])
            assembler.begun(id)
          case 1: #expect(assembler.take(record(5, id: id)) == [id])
          default: _ = assembler.take(record(2, id: id))
          }
          _ = assembler.takeReplies()
          assembler.finished(id)
        }
      }
    }
  }

  @Test("that are too large hold next to nothing")
  func tooLarge() {
    var assembler = RequestAssembler(limits: limits)
    let long = encoded([("LONG", String(repeating: "x", count: 300))])
    var bytes: [UInt8] = []
    for id: UInt16 in 1...4 {
      bytes += begin(id: id) + record(4, id: id, long) + record(4, id: id)
      for _ in 0..<5 { bytes += record(5, id: id, [UInt8](repeating: 7, count: 90)) }
    }
    #expect(assembler.take(bytes).isEmpty)
    #expect(assembler.takeReplies().isEmpty)
  }
}
