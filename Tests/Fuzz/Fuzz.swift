// What comes from outside, as libFuzzer makes it up: the first byte says for which reader it is.
//
// Compiled by `run` together with the sources under test, with the fuzzer's and the address sanitizer's instrumentation.

@_cdecl("LLVMFuzzerTestOneInput")
public func test(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  guard let start, count > 0 else { return 0 }
  let bytes = Array(UnsafeBufferPointer(start: start + 1, count: count - 1))
  switch start[0] % 5 {
  case 0: readRecords(bytes)
  case 1: walkPairs(bytes)
  case 2: assembleRequests(bytes)
  case 3: readJSON(bytes)
  default: parseQuery(bytes)
  }
  return 0
}

/// The bytes in two pieces: where the first says.
private func pieces(_ bytes: [UInt8]) -> [[UInt8]] {
  guard let first = bytes.first else { return [] }
  let cut = min(Int(first), bytes.count)
  return [Array(bytes[..<cut]), Array(bytes[cut...])]
}

private func events(_ pieces: [[UInt8]]) -> (kinds: [String], content: [UInt8]) {
  var reader = RecordReader()
  var kinds: [String] = []
  var content: [UInt8] = []
  for piece in pieces {
    var position = 0
    while let event = reader.next(piece.span, &position) {
      switch event {
      case .begin(let header): kinds.append("\(header)")
      case .content(let range): content += piece[range]
      case .end: kinds.append("end")
      case .unknownVersion(let version):
        kinds.append("version \(version)")
        return (kinds, content)
      }
    }
  }
  return (kinds, content)
}

/// Records are the same wherever their bytes are cut.
private func readRecords(_ bytes: [UInt8]) {
  precondition(events([bytes]) == events(pieces(bytes)), "a cut changed the records")
}

/// Pairs lie within their bytes and behind each other.
private func walkPairs(_ bytes: [UInt8]) {
  var walk = NameValuePairs()
  var end = 0
  do {
    while let pair = try walk.next(bytes.span) {
      precondition(pair.name.lowerBound > end && pair.value.lowerBound == pair.name.upperBound, "pairs overlap")
      precondition(pair.value.upperBound <= bytes.count, "a pair reaches beyond its bytes")
      end = pair.value.upperBound
    }
  } catch {}
}

private let limits = RequestLimits(params: 200, pairs: 5, body: 100, concurrent: 3, held: 2)

private func actions(_ pieces: [[UInt8]]) -> (actions: [RequestAssembler.Action], replies: [UInt8]) {
  var assembler = RequestAssembler(limits: limits)
  var actions: [RequestAssembler.Action] = []
  for piece in pieces {
    var position = 0
    while let action = assembler.next(piece.span, &position) {
      actions.append(action)
      switch action {
      case .request(let request):
        precondition(request.params.count <= limits.params && request.body.count <= limits.body, "a limit was exceeded")
        // One in two is answered at once.
        if request.id % 2 == 0 { assembler.finished(request.id) }
        if request.id % 3 == 0 { assembler.begun(request.id) }
      case .close: return (actions, assembler.takeReplies())
      case .aborted(let id): assembler.finished(id)
      }
    }
  }
  return (actions, assembler.takeReplies())
}

/// Requests are the same wherever their bytes are cut, and never larger than allowed.
private func assembleRequests(_ bytes: [UInt8]) {
  precondition(actions([bytes]) == actions(pieces(bytes)), "a cut changed the requests")
}

private func readJSON(_ bytes: [UInt8]) { _ = try? JSONReader.read(bytes) }

private func parseQuery(_ bytes: [UInt8]) { _ = try? QueryString.pairs(bytes.span) }
