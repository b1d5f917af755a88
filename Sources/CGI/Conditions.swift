// What a request makes its execution depend on (RFC 9110 §13).

/// The conditions of a request, copied out of it. We keep no dates, so that `If-Modified-Since` and `If-Unmodified-Since` have no
/// say (§13.1.3, §13.1.4).
package struct Conditions: Sendable {
  private let ifMatch: [UInt8]
  private let ifNoneMatch: [UInt8]

  package enum Verdict: Equatable, Sendable {
    case met
    /// `If-Match` names none of what there is.
    case changed
    /// `If-None-Match` names what there is.
    case same
    /// The one or the other is no list of tags, so that nobody can say whether it holds.
    case unclearMatch, unclearNoneMatch
  }

  package init(of request: borrowing Request) {
    ifMatch = request.ifMatch.withUnsafeBufferPointer { Array($0) }
    ifNoneMatch = request.ifNoneMatch.withUnsafeBufferPointer { Array($0) }
  }

  /// Of a thing that is there, in the state `tag`.
  package func verdict(on tag: EntityTag) -> Verdict { Self.verdict(ifMatch.span, ifNoneMatch.span, tag) }

  /// §13.2.2, in its order.
  fileprivate static func verdict(_ ifMatch: Span<UInt8>, _ ifNoneMatch: Span<UInt8>, _ tag: EntityTag) -> Verdict {
    if !ifMatch.isEmpty {
      guard let isNamed = tag.isStronglyIn(ifMatch) else { return .unclearMatch }
      if !isNamed { return .changed }
    }
    if !ifNoneMatch.isEmpty {
      guard let isNamed = tag.isIn(ifNoneMatch) else { return .unclearNoneMatch }
      if isNamed { return .same }
    }
    return .met
  }
}

extension Request {
  package var isConditional: Bool { !ifMatch.isEmpty || !ifNoneMatch.isEmpty }

  /// What its conditions say of a thing that is there, in the state `tag`.
  package func verdict(on tag: EntityTag) -> Conditions.Verdict { Conditions.verdict(ifMatch, ifNoneMatch, tag) }
}
