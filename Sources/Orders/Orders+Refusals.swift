// What requests are told that are not begun or not finished, and those for the server's own pages.

import Application
import CGI
import JSON

extension Orders {
  package func refuse(_ refusal: Refusal) -> Response {
    let problem: Problem? =
      switch refusal {
      case .headerTooLarge: Problem(status: .requestHeaderFieldsTooLarge, detail: "The header is too long.")
      case .busy:
        Problem(
          status: .serviceUnavailable, detail: "The server is busy. Try again shortly.", isTemporary: true)
      case .database(let error): Problem.unavailable(error)
      case .timedOut(let isWriting): Problem.timedOut(isWriting: isWriting)
      case .condition(let verdict): Problem(verdict)
      case .nothingHere: Problem.notFound(detail: "There is nothing at this path.")
      case .misconfigured(let fault): Problem.internal(fault: fault)
      }
    return problem?.response(&writer) ?? Response(.ok)
  }

  /// The pages follow the rules of the API's routes, though it is no business of the API's what they say.
  package func objection(to request: borrowing Request) -> Response? {
    refusal(of: request, taking: Methods(list: [.get, .head, .options]))
      ?? Page.refuseAll(request.query)?.response(&writer)
  }
}

extension Problem {
  fileprivate static func timedOut(isWriting: Bool) -> Problem {
    let doubt =
      " It may have been done all the same: look before trying again, or ask again with the same Idempotency-Key."
    return Problem(
      status: .gatewayTimeout, detail: "The request took too long and was given up.\(isWriting ? doubt : "")")
  }
}
