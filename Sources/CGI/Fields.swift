// Field names that swift-http-types does not have.

import HTTPTypes

extension HTTPField.Name {
  /// `Accept-Patch` (RFC 5789 §3.1).
  package static let acceptPatch = HTTPField.Name("Accept-Patch")!  // a token, as every literal here
  /// `Idempotency-Replayed`: the answer is that of an earlier request with the same key.
  package static let idempotencyReplayed = HTTPField.Name("Idempotency-Replayed")!
  /// `Link` (RFC 8288).
  package static let link = HTTPField.Name("Link")!
}
