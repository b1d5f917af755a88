// An application of the tests' own, which says what it was asked, and requests for it.

import CGI
import Postgres

@testable import Application

final class Tiny: Application {
  let prefix = "/tiny"
  let longestBody = 100

  func begin(_ request: borrowing Request) -> Step { .respond(Response(.ok)) }

  func refuse(_ refusal: Refusal) -> Response {
    guard case .condition(let verdict) = refusal else { return Response(.serviceUnavailable) }
    return Response(.preconditionFailed, contentType: .problem, body: Array("\(verdict)".utf8))
  }

  /// Its pages are read with GET.
  func objection(to request: borrowing Request) -> Response? {
    request.method == .get ? nil : Response(.methodNotAllowed)
  }
}

func request(_ method: String, _ path: String = "/tiny/1", mount: String = "", fields: [(String, String)] = [])
  -> Request
{
  var request = Request()
  let variables = [("REQUEST_METHOD", method), ("SCRIPT_NAME", mount), ("PATH_INFO", path)]
  for (name, value) in variables + fields { request.append(name.utf8.span, value.utf8.span) }
  request.finish(roots: Tiny().roots)
  return request
}

func text(_ response: Response) -> String { String(decoding: response.body, as: UTF8.self) }
