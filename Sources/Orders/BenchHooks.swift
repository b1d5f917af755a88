// What a comparison of process models wants to do to one of them, and nobody else may: `--bench-hooks`.
//
// `Bench-Delay: MS` on a GET of one contact makes the database take that long for it; `Bench-Statements: N` makes it N reads,
// of the contacts that follow, which a responder executes together if it can; `Bench-Spin: US` makes any request compute for
// that many microseconds. Without the flag the fields mean nothing.

import CGI
import Postgres

enum BenchHooks {
  static let longestDelay: Int64 = 10_000
  static let longestSpin: Int64 = 10_000_000
  static let mostStatements: Int64 = 256

  /// $1 id, $2 milliseconds.
  static let delayedContact = Statement(
    "bench_contact_item", readOnly: true,
    """
    select id, name, email, text_version(email, text_version(name, xmin::text::bigint))
      from contact, pg_sleep($2::bigint / 1000.0) where id = $1
    """)

  static func apply(_ request: borrowing Request, _ mode: Mode, to operation: Operation) -> Operation {
    if let spin = number(request.benchSpin, most: longestSpin) {
      let end = ContinuousClock.now + .microseconds(spin)
      while ContinuousClock.now < end {}
    }
    guard case .item(.contact) = operation.reply, case .item(_, let id) = Route(path: request.path, mode: mode)
    else { return operation }
    if let delay = number(request.benchDelay, most: longestDelay) {
      var parameters = Parameters()
      parameters.append(id)
      parameters.append(delay)
      return Operation(statement: delayedContact, parameters: parameters, reply: operation.reply)
    }
    let reads = (0..<(number(request.benchStatements, most: mostStatements) ?? 0)).map { offset in
      var parameters = Parameters()
      // Behind the last id that there can be, that one again.
      let (next, overflow) = id.addingReportingOverflow(offset)
      parameters.append(overflow ? Int64.max : next)
      return Operation(statement: operation.statement, parameters: parameters, reply: operation.reply)
    }
    return Operation(together: reads) ?? operation
  }

  /// A whole number from 1 to `most`; nil for anything else.
  private static func number(_ text: Span<UInt8>, most: Int64) -> Int64? {
    guard let value = text.decimal, (1...most).contains(value) else { return nil }
    return value
  }
}
