// Records as bytes, and what a RequestAssembler makes of them, for tests that read like a transcript.

import FastCGI

/// A record's bytes, padding included.
func record(_ kind: UInt8, id: UInt16 = 1, _ content: [UInt8] = [], padding: Int = 0, version: UInt8 = 1) -> [UInt8] {
  let length = content.count
  return [
    version, kind, UInt8(id >> 8), UInt8(id & 0xFF), UInt8(length >> 8), UInt8(length & 0xFF), UInt8(padding), 0,
  ] + content + [UInt8](repeating: 0xEE, count: padding)
}

func begin(id: UInt16 = 1, role: UInt8 = 1, keep: Bool = true, padding: Int = 0) -> [UInt8] {
  record(1, id: id, [0, role, keep ? 1 : 0, 0, 0, 0, 0, 0], padding: padding)
}

func params(id: UInt16 = 1, _ pairs: [(String, String)]) -> [UInt8] { record(4, id: id, encoded(pairs)) }

func encoded(_ pairs: [(String, String)]) -> [UInt8] {
  var bytes: [UInt8] = []
  for (name, value) in pairs { NameValuePairs.append(name.utf8, value.utf8, to: &bytes) }
  return bytes
}

/// A complete request, its body in one record.
func request(id: UInt16 = 1, keep: Bool = true, _ pairs: [(String, String)], body: [UInt8] = []) -> [UInt8] {
  begin(id: id, keep: keep) + params(id: id, pairs) + record(4, id: id)
    + (body.isEmpty ? [] : record(5, id: id, body)) + record(5, id: id)
}

/// What came out: the actions in their order, and all replies.
struct Outcome: Equatable {
  var actions: [RequestAssembler.Action] = []
  var replies: [UInt8] = []
  var isIdle = true
}

/// Feeds `bytes` in pieces that end at `cuts`; a request is finished as soon as it is complete.
func assemble(_ bytes: [UInt8], cutAt cuts: [Int] = [], limits: RequestLimits = RequestLimits()) -> Outcome {
  var assembler = RequestAssembler(limits: limits)
  var outcome = Outcome()
  var start = 0
  for end in cuts.sorted() + [bytes.count] {
    let piece = Array(bytes[start..<end])
    var position = 0
    while let action = assembler.next(piece.span, &position) {
      outcome.actions.append(action)
      if case .request(let request) = action { assembler.finished(request.id) }
      if case .close = action { return outcome }
    }
    start = end
  }
  outcome.replies = assembler.takeReplies()
  outcome.isIdle = assembler.isIdle
  return outcome
}
