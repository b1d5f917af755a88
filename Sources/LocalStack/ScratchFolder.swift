// A folder for what is needed only for a while.

import Glibc
import Platform

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// A folder in /tmp that PostgreSQL's and nginx's users can get to; whoever has made it deletes it.
package struct ScratchFolder: Sendable {
  package let path: String

  /// `name` says whose it is.
  package init(_ name: String) throws(LocalStackError) {
    var template = Array("/tmp/\(name).XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw LocalStackError("no scratch folder can be made in /tmp") }
    chmod(template, 0o755)
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Deletes it with all that is in it.
  package func remove() { try? FileManager.default.removeItem(atPath: path) }
}
