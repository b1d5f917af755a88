// What the tests of the application share: its next step needs no server, requests and rows are made in memory.

import CGI
import HTTPTypes
import JSON
import Postgres
import Testing

@testable import Orders

func request(
  _ method: String, _ path: String, query: String = "", type: String = "application/json", body: String? = nil
) -> Request {
  var request = Request()
  request.append("REQUEST_METHOD".utf8.span, method.utf8.span)
  request.append("PATH_INFO".utf8.span, path.utf8.span)
  request.append("QUERY_STRING".utf8.span, query.utf8.span)
  if let body {
    request.append("CONTENT_TYPE".utf8.span, type.utf8.span)
    request.append("CONTENT_LENGTH".utf8.span, String(body.utf8.count).utf8.span)
    request.body = Array(body.utf8)
  }
  request.finish()
  return request
}

func response(_ application: Orders, _ request: Request) throws -> Response {
  guard case .respond(let response) = application.next(for: request) else { throw Unexpected.operation }
  return response
}

func operation(_ application: Orders, _ request: Request) throws -> Operation {
  switch application.next(for: request) {
  case .execute(let operation): return operation
  case .respond(let response): throw Unexpected.response(text(response))
  }
}

/// The answer that a result comes to.
func finish(_ application: Orders, _ operation: Operation, _ result: QueryResult) throws -> Response {
  guard case .respond(let response) = application.finish(operation, result) else { throw Unexpected.operation }
  return response
}

enum Unexpected: Error {
  case operation
  case response(String)
}

func text(_ response: Response) -> String { String(decoding: response.body, as: UTF8.self) }

func faults(_ response: Response) throws -> [String] {
  guard case .object(let members) = try JSONReader.read(response.body),
    case .array(let errors)? = members.first(where: { $0.name == "errors" })?.value
  else { return [] }
  return errors.compactMap {
    guard case .object(let fault) = $0, case .string(let place) = fault[0].value,
      case .string(let code) = fault[1].value
    else { return nil }
    return "\(place) \(code)"
  }
}
