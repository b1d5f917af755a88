// The orders: what the API does, for whichever server asks. No I/O, no waiting, no knowledge of who calls.
//
// A request enters by `begin` and leaves by `finish`; every failure already is a response. What happens between the two,
// waiting for the database, is the server's business and the only thing in which the servers differ.

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

/// What `begin` and `finish` come to.
package enum Step {
  /// Answer this.
  case respond(Response)
  /// Execute this, then `finish`.
  case query(Operation)
}

/// A statement to execute, and what its rows will become.
package struct Operation: Sendable {
  package let statement: Statement
  package let parameters: Parameters
  let reply: Reply
  /// To be executed with it, together where that is possible, for nobody: see `BenchHooks`.
  package private(set) var others: [Operation] = []

  init(statement: Statement, parameters: Parameters, reply: Reply) {
    self.statement = statement
    self.parameters = parameters
    self.reply = reply
  }

  /// The last of `operations`, the others with it; nil if there are none.
  init?(together operations: [Operation]) {
    guard let last = operations.last else { return nil }
    self = last
    others = operations.dropLast()
  }

  /// Whether what it reads is all that its answer depends on, so that another one that reads the same can have it too.
  package var isShareable: Bool {
    if case .guarding = reply { return false }
    return statement.isReadOnly
  }

  /// Whether it is executed once for its key, however often it is asked for.
  var isOnce: Bool {
    switch reply {
    case .created(_, _, let isOnce): isOnce
    case .guarding(let write): write.isOnce
    default: false
    }
  }

  /// What says more of a failure than its error does: of a new order that a constraint has stopped, what it is that is missing.
  /// If that has come in between, the order is made after all.
  func successor(to error: PostgresError) -> Operation? {
    guard statement === Order.insert, case .statement(let fault) = error, fault.state == .foreignKeyViolation else {
      return nil
    }
    return Operation(statement: Order.insertOrTell, parameters: parameters, reply: reply)
  }
}

/// What the rows of a statement become.
enum Reply: Sendable {
  case list(Resource, Page)
  case item(Resource)
  /// The order that was sent, if it was one; and whether the rows may be those of an earlier request with the same key.
  case created(Resource, OrderInput?, isOnce: Bool)
  /// The order that was sent, if it was one; and whether the client named the state that it wants changed.
  case changed(Resource, OrderInput?, isConditional: Bool)
  case deleted(Resource, isConditional: Bool)
  case health
  /// What there is, which decides whether and how to write.
  case guarding(GuardedWrite)

  /// What it is about.
  var resource: Resource? {
    switch self {
    case .list(let resource, _), .item(let resource), .created(let resource, _, _), .changed(let resource, _, _),
      .deleted(let resource, _):
      resource
    case .guarding(let write): write.resource
    case .health: nil
    }
  }
}

/// The API's rules. Not Sendable: it owns the buffers that answers are written in, so each worker and each loop has one.
package final class Orders {
  /// Of the program.
  package static let version = "0.2.0"
  /// The longest body that is read, in bytes.
  package static let longestBody = 1 << 20

  let mode: Mode
  var writer = JSONWriter(capacity: 64 << 10)
  var orderRows = OrderRows()

  /// Whether requests may ask for a slow database and for many statements: see `BenchHooks`.
  let hasBenchHooks: Bool
  /// Whether this is to stop, so that nobody should be sent here any more: asked for `/health` alone.
  let isStopping: () -> Bool

  package init(mode: Mode, benchHooks: Bool = false, isStopping: @escaping () -> Bool = { false }) {
    self.mode = mode
    hasBenchHooks = benchHooks
    self.isStopping = isStopping
  }

  /// Route, parse, validate, bind.
  package func begin(_ request: borrowing Request) -> Step {
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
    switch result {
    case .success(let operation):
      return .query(hasBenchHooks ? BenchHooks.apply(request, mode, to: operation) : operation)
    case .failure(let problem): return .respond(problem.response(&writer))
    }
  }

  /// Rows to bytes, errors to statuses; or what else has to be asked first.
  package func finish(_ operation: Operation, _ result: Result<ResultSet, PostgresError>) -> Step {
    switch result {
    case .success(let rows):
      if case .guarding(let write) = operation.reply {
        finish(write, rows)
      } else {
        .respond(finish(operation.reply, rows))
      }
    // Nobody waits for it any more.
    case .failure(.cancelled): .respond(Response(.serviceUnavailable))
    case .failure(let error): operation.successor(to: error).map(Step.query) ?? .respond(refuse(operation, error))
    }
  }

  /// The answer to a request whose operation was not, or can't be, executed.
  package func refuse(_ operation: Operation, _ error: PostgresError) -> Response {
    if case .health = operation.reply { return health(.failure(error)) }
    return Problem(error, of: operation).response(&writer)
  }

  /// What every answer is given in the end, whoever made it: no body where none is wanted or the client has it already, and how
  /// long it took.
  package func seal(_ response: inout Response, for request: borrowing Request, _ timing: Response.Timing) {
    if request.hasGuards, request.isConditional, response.status.code == 200, let tag = response.entityTag,
      request.method == .get || request.method == .head
    {
      switch request.verdict(on: tag) {
      // To read what nobody has excluded does no harm.
      case .met, .unclearNoneMatch: break
      case .same:
        response.status = .notModified
        response.contentType = nil
        response.body = []
      case let verdict: if let problem = Problem(verdict) { response = problem.response(&writer) }
      }
    }
    response.timing = timing
    if !request.mount.isEmpty { response.mount(at: request.mountReference) }
    if request.method == .head { response.omitsBody = true }
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
      switch resource {
      case .contact: ContactInput(value, &validation)?.append(to: &parameters)
      case .product: ProductInput(value, &validation)?.append(to: &parameters)
      case .tag: TagInput(value, &validation)?.append(to: &parameters)
      case .order:
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

extension Orders {
  /// The answer to a request that has waited for so long that its client may have gone.
  package static func tooBusy() -> Response {
    var writer = JSONWriter(capacity: 256)
    let detail = "The server is busy. Try again shortly."
    return Problem(status: .serviceUnavailable, detail: detail, isTemporary: true).response(&writer)
  }

  /// The answer to a request whose header was longer than anybody wants to read.
  package static func headerTooLarge() -> Response {
    var writer = JSONWriter(capacity: 256)
    return Problem(status: .requestHeaderFieldsTooLarge, detail: "The header is too long.").response(&writer)
  }

  /// The answer where a setting can't be used; `fault` says which, to the log alone.
  package static func misconfigured(_ fault: String) -> Response {
    var writer = JSONWriter(capacity: 256)
    return Problem.internal(fault: fault).response(&writer)
  }

  /// The answer to a request that was given up because it took too long here; whether it may have been done all the same.
  package static func timedOut(writing: Bool) -> Response {
    var writer = JSONWriter(capacity: 256)
    let doubt =
      " It may have been done all the same: look before trying again, or ask again with the same Idempotency-Key."
    return Problem(
      status: .gatewayTimeout, detail: "The request took too long and was given up.\(writing ? doubt : "")"
    ).response(&writer)
  }
}
