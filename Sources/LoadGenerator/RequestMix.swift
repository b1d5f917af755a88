// Which request comes next: kinds by weight, ids at random, the bytes put together.

/// Draws requests, the same ones for the same seed.
struct RequestMix {
  private struct Template {
    /// The request up to each `{id}`; the last piece follows the last of them. Empty where the length depends on the id.
    let pieces: [[UInt8]]
    let kind: RequestKind
  }

  private let templates: [Template]
  private let totalWeight: Int
  private var random: SplitMix
  private let host: String

  init(_ plan: LoadPlan) {
    self.init(plan.kinds, host: "\(plan.host):\(plan.port)", seed: plan.seed)
  }

  init(_ kinds: [RequestKind], host: String, seed: UInt64) {
    self.host = host
    templates = kinds.map { Template(pieces: Self.pieces($0, host: host), kind: $0) }
    totalWeight = kinds.reduce(0) { $0 + $1.weight }
    random = SplitMix(seed)
  }

  /// Fills `request` and returns the kind's index.
  mutating func next(into request: inout [UInt8]) -> Int {
    var index = 0
    if templates.count > 1 {
      var ticket = Int(random.next() % UInt64(totalWeight))
      while ticket >= templates[index].kind.weight {
        ticket -= templates[index].kind.weight
        index += 1
      }
    }
    let template = templates[index]
    request.removeAll(keepingCapacity: true)
    if template.pieces.count == 1 {
      request += template.pieces[0]
    } else {
      let ids = template.kind.ids
      let id = String(ids[0] + Int(random.next() % UInt64(ids[1] - ids[0] + 1)))
      if template.kind.body != nil {
        request += Self.bytes(template.kind, host: host, id: id)
      } else {
        request += template.pieces[0]
        for piece in template.pieces.dropFirst() {
          request += id.utf8
          request += piece
        }
      }
    }
    return index
  }

  func isHead(_ index: Int) -> Bool { templates[index].kind.method == "HEAD" }

  /// A name that no request has, in the place of the id.
  private static let mark = "\u{1}"

  private static func pieces(_ kind: RequestKind, host: String) -> [[UInt8]] {
    bytes(kind, host: host, id: mark).split(separator: 1, omittingEmptySubsequences: false).map(Array.init)
  }

  private static func bytes(_ kind: RequestKind, host: String, id: String) -> [UInt8] {
    func filled(_ text: String) -> String { text.replacing("{id}", with: id) }
    var head = "\(kind.method) \(filled(kind.path)) HTTP/1.1\r\n"
    if !kind.fields.keys.contains(where: { $0.lowercased() == "host" }) { head += "Host: \(host)\r\n" }
    for (name, value) in kind.fields.sorted(by: { $0.key < $1.key }) { head += "\(name): \(filled(value))\r\n" }
    guard let body = kind.body.map(filled) else { return Array("\(head)\r\n".utf8) }
    if !kind.fields.keys.contains(where: { $0.lowercased() == "content-type" }) {
      head += "Content-Type: application/json\r\n"
    }
    return Array("\(head)Content-Length: \(body.utf8.count)\r\n\r\n\(body)".utf8)
  }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and the same everywhere.
package struct SplitMix: RandomNumberGenerator, Sendable {
  private var state: UInt64

  package init(_ seed: UInt64) { state = seed }

  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
