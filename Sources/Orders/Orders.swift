// The orders: what the API does, for whichever server runs it.
//
// A request enters by `begin`; what comes of its statement enters by the closure of its query, `finish`. Every failure already is a
// response.

import Application
import CGI
import HTTPTypes
import JSON
import Postgres
import Text

/// Under which prefix a responder serves the API.
package enum Mode: String, Sendable, CaseIterable {
  case sync, async

  /// `/sync` or `/async`.
  package var prefix: String { "/\(rawValue)" }

  /// What the paths of the API begin with.
  package static var prefixes: [String] { allCases.map(\.prefix) }
}

/// The API's rules. Not Sendable: it owns the buffers that answers are written in, so each worker and each loop has one.
package final class Orders: Application {
  /// Of the program.
  package static let version = "0.2.0"
  /// The longest body that is read, in bytes.
  package static let longestBody = 1 << 20

  package let prefix: String
  package var roots: [String] { Mode.prefixes }
  package var longestBody: Int { Self.longestBody }

  let mode: Mode
  var writer = JSONWriter(capacity: 64 << 10)
  var orderRows = OrderRows()

  /// Whether this is to stop, so that nobody should be sent here any more: asked for `/health` alone.
  let isStopping: () -> Bool

  package init(mode: Mode, isStopping: @escaping () -> Bool = { false }) {
    self.mode = mode
    prefix = mode.prefix
    self.isStopping = isStopping
  }

  package func begin(_ request: borrowing Request) -> Step { step(next(for: request)) }

  /// The closures of all queries are made here: what they do with their rows is a value, `Reply`.
  private func step(_ next: consuming Next) -> Step {
    switch consume next {
    case .respond(let response): .respond(response)
    case .execute(let operation):
      .query(
        Query(operation.statement, operation.parameters, sharing: operation.sharing) { [self] in
          step(finish(operation, $0))
        })
    }
  }

  /// Route, parse, validate, bind.
  func next(for request: borrowing Request) -> Next {
    guard let route = Route(path: request.path, mode: mode) else {
      return .respond(request.hasMethod ? notFound(request) : noMethod())
    }
    if let response = refusal(of: request, taking: route.methods) { return .respond(response) }
    let method = request.method == .head ? .get : request.method
    let result: Result<Operation, Problem>
    switch (route, method) {
    case (.health, _): result = health(request)
    case (.live, _): return .respond((Page.refuseAll(request.query)?.response(&writer)) ?? live())
    case (.collection(let resource), .post): result = create(resource, request)
    case (.collection(let resource), _): result = list(resource, request)
    case (.item(let resource, let id), .patch): result = change(resource, id, request)
    case (.item(let resource, let id), .delete): result = delete(resource, id, request)
    case (.item(let resource, let id), _): result = read(resource, id, request)
    }
    switch consume result {
    case .success(let operation): return .execute(operation)
    case .failure(let problem): return .respond(problem.response(&writer))
    }
  }

  /// Rows to bytes, errors to statuses; or what else has to be asked first.
  func finish(_ operation: Operation, _ result: QueryResult) -> Next {
    switch result {
    case .success(let rows):
      if case .guarding(let write) = operation.reply { return finish(write, rows) }
      return .respond(finish(operation.reply, rows))
    case .failure(let error):
      if let successor = operation.successor(to: error) { return .execute(successor) }
      if case .health = operation.reply { return .respond(health(.failure(error))) }
      return .respond(Problem(error, of: operation).response(&writer))
    }
  }

  // MARK: Beginnings

  /// The answer where it does not depend on what is there; nil if the request is to be looked at.
  func refusal(of request: borrowing Request, taking methods: Methods) -> Response? {
    guard request.hasMethod else { return noMethod() }
    if request.method == .options {
      var response = Response(.noContent, fields: [methods.allow])
      if methods.list.contains(.patch) {
        response.fields.append(JSONBody.acceptPatch)
      }
      return response
    }
    guard methods.list.contains(request.method) else {
      var response = Problem.methodNotAllowed(methods).response(&writer)
      response.fields.append(methods.allow)
      return response
    }
    guard request.hasGuards, let problem = Problem(ofGuardsIn: request) else { return nil }
    return problem.response(&writer)
  }

  private func noMethod() -> Response {
    Problem.badRequest(detail: "The request has no method.").response(&writer)
  }

  private func notFound(_ request: borrowing Request) -> Response {
    guard Route.leadsSomewhere(withoutSlash: request.path, mode: mode) else {
      return Problem.notFound(detail: "There is nothing at this path.").response(&writer)
    }
    // What can't be decoded can't be passed on either.
    if let problem = Page.undecodable(request.query) { return problem.response(&writer) }
    let path = request.path.extracting(droppingLast: 1).text
    let target = request.query.isEmpty ? path.string : "\(path)?\(QueryString.asURI(request.query))"
    return Response(.permanentRedirect, fields: [HTTPField(name: .location, value: target)])
  }

  private func health(_ request: borrowing Request) -> Result<Operation, Problem> {
    if let problem = Page.refuseAll(request.query) { return .failure(problem) }
    return .success(Operation(statement: Self.health, parameters: Parameters(), reply: .health))
  }

  private func list(_ resource: Resource, _ request: borrowing Request) -> Result<Operation, Problem> {
    Page.parse(request.query, of: resource).map { page in
      Operation(statement: resource.list(page.filters), parameters: page.values, reply: .list(resource, page))
    }
  }

  private func read(_ resource: Resource, _ id: Int64, _ request: borrowing Request) -> Result<Operation, Problem> {
    if let problem = Page.refuseAll(request.query) { return .failure(problem) }
    var parameters = Parameters()
    parameters.append(id)
    return .success(Operation(statement: resource.item, parameters: parameters, reply: .item(resource)))
  }

  private func create(_ resource: Resource, _ request: borrowing Request) -> Result<Operation, Problem> {
    if let problem = Page.refuseAll(request.query) { return .failure(problem) }
    var parameters = Parameters()
    let order: OrderInput?
    switch input(resource, request, isPatch: false, &parameters) {
    case .success(let input): order = input
    case .failure(let problem): return .failure(problem)
    }
    let operation: Operation
    var repetition: Operation?
    switch Idempotency.key(of: request) {
    case .failure(let problem): return .failure(problem)
    case .success(nil):
      let reply = Reply.created(resource, order, isOnce: false)
      operation = Operation(statement: resource.insert, parameters: parameters, reply: reply)
    case .success(.some(let key)):
      parameters.append(key)
      parameters.append(Idempotency.fingerprint(resource, request.body))
      parameters.append(mode.rawValue)
      let reply = Reply.created(resource, order, isOnce: true)
      operation = Operation(statement: resource.insertOnce, parameters: parameters, reply: reply)
      repetition = Operation(statement: resource.repeatOnly, parameters: parameters, reply: reply)
    }
    guard request.isConditional else { return .success(operation) }
    let creation = GuardedWrite.Write.creation(operation, repetition: repetition)
    return .success(GuardedWrite(creation, of: resource, under: Conditions(of: request)).read)
  }

  private func change(_ resource: Resource, _ id: Int64, _ request: borrowing Request) -> Result<Operation, Problem> {
    if let problem = Page.refuseAll(request.query) { return .failure(problem) }
    var parameters = Parameters()
    parameters.append(id)
    return input(resource, request, isPatch: true, &parameters).map { order in
      let change = GuardedWrite.Write.change(id, parameters, order)
      return Self.operation(change, of: resource, request)
    }
  }

  private func delete(_ resource: Resource, _ id: Int64, _ request: borrowing Request) -> Result<Operation, Problem> {
    if let problem = Page.refuseAll(request.query) { return .failure(problem) }
    return .success(Self.operation(.deletion(id), of: resource, request))
  }

  /// Appends what a body says of a resource; the order, if it is one.
  private func input(
    _ resource: Resource, _ request: borrowing Request, isPatch: Bool, _ parameters: inout Parameters
  ) -> Result<OrderInput?, Problem> {
    switch JSONBody.value(of: request) {
    case .failure(let problem): return .failure(problem)
    case .success(let value):
      var validation = Validation(isPatch: isPatch)
      var order: OrderInput?
      if let row = resource.row {
        row.init(value, &validation)?.append(to: &parameters)
      } else {
        order = OrderInput(value, &validation)
        order?.append(to: &parameters)
      }
      return validation.faults.isEmpty ? .success(order) : .failure(.unprocessable(validation.faults))
    }
  }

  /// A change or a deletion under a request's conditions. Its own statement looks at tags of an `If-Match`.
  private static func operation(
    _ write: GuardedWrite.Write, of resource: Resource, _ request: borrowing Request
  ) -> Operation {
    if !request.isConditional { return write.operation(resource, onlyIf: nil) }
    if request.ifNoneMatch.isEmpty {
      switch EntityTag.wanted(by: request.ifMatch) {
      case .oneOf(let tags): return write.operation(resource, onlyIf: tags)
      case .any: return write.operation(resource, onlyIf: nil)
      case .unclear: break
      }
    }
    return GuardedWrite(write, of: resource, under: Conditions(of: request)).read
  }
}
