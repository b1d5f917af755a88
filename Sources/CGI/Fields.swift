// Field names that swift-http-types does not have.

import HTTPTypes

extension HTTPField.Name {
  /// `Link` (RFC 8288).
  package static let link = HTTPField.Name("Link")!  // a token, as every literal here
}
