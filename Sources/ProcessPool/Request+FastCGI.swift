// From the records of FastCGI to a request.

import CGI
import FastCGI

extension Request {
  /// What the web server's variables mean; `roots` as `finish` takes them.
  package init(_ assembled: AssembledRequest, roots: @autoclosure () -> [String]) {
    self.init(storage: assembled.params)
    body = assembled.body
    bodyIsTooLarge = assembled.bodyIsTooLarge
    var walk = NameValuePairs()
    // The assembler has walked them before: they are whole.
    while let pair = try? walk.next(assembled.params.span) {
      set(assembled.params.span.extracting(pair.name), to: pair.value)
    }
    finish(roots: roots())
  }
}
