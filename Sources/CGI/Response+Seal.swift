// What every answer is given in the end, whoever made it: no body where none is wanted or the client has it already, how long it
// took, and references that lead back to where the application is mounted.

import HTTPTypes

extension Response {
  /// Makes the answer to a read what its conditions ask for (RFC 9110 §13.2.2): 304 where the client has the body already. What speaks
  /// against it where one does not hold; nil where nothing does.
  package mutating func meetConditions(of request: borrowing Request) -> Conditions.Verdict? {
    guard request.hasGuards, request.isConditional, status.code == 200, let entityTag,
      request.method == .get || request.method == .head
    else { return nil }
    switch request.verdict(on: entityTag) {
    // To read what nobody has excluded does no harm.
    case .met, .unclearNoneMatch: return nil
    case .same:
      status = .notModified
      contentType = nil
      body = []
      return nil
    case let verdict: return verdict
    }
  }

  /// Call when nothing else will change.
  package mutating func seal(for request: borrowing Request, _ timing: Timing) {
    self.timing = timing
    if !request.mount.isEmpty { mount(at: request.mountReference) }
    if request.method == .head { omitsBody = true }
  }
}
