// The shop: what the API does, for whichever door asks. No I/O, no waiting, no knowledge of who calls.
//
// A request enters by `begin` and leaves by `finish`; every failure already is a response. What happens between the two,
// waiting for the database, is the door's business and the only thing in which the doors differ.

import CGI
import HTTPTypes
import JSON
import Postgres

/// Under which prefix a responder serves the API.
package enum Mode: String, Sendable, CaseIterable {
  case sync, async

  /// `/sync` or `/async`.
  package var prefix: String { "/\(rawValue)" }
}

/// What `begin` came to.
package enum Step {
  /// Answer this: the database is not needed.
  case respond(Response)
  /// Execute this, then `finish`.
  case query(Operation)
}

/// A statement to execute, and what its rows will become.
package struct Operation: Sendable {
  package let statement: Statement
  package let parameters: Parameters
  let reply: Reply
  /// The request was HEAD: the answer is GET's without its body.
  package let isHead: Bool
}

/// What the rows of a statement become.
enum Reply: Sendable {
  case list(Resource, Page)
  case item(Resource)
  case created(Resource)
  case createdOrder(OrderInput)
}

/// The API's rules. Not Sendable: it owns the buffers that answers are written in, so each worker and each loop has one.
package final class Shop {
  /// The longest body that is read, in bytes.
  package static let longestBody = 1 << 20

  let mode: Mode
  var writer = JSONWriter(capacity: 64 << 10)
  var orderRows = OrderRows()

  package init(mode: Mode) { self.mode = mode }

  /// Route, parse, validate, bind.
  package func begin(_ request: borrowing Request) -> Step {
    guard let route = Route(path: request.path, mode: mode) else {
      return .respond(Problem.notFound(detail: "There is nothing at this path.").response(&writer))
    }
    let methods = route.methods
    let isHead = request.method == .head
    let method = isHead ? .get : request.method
    if method == .options { return .respond(Response(.noContent, fields: [methods.allow])) }
    guard methods.list.contains(method) else {
      var response = Problem.methodNotAllowed(methods).response(&writer)
      response.fields.append(methods.allow)
      return .respond(response)
    }
    let result: Result<Operation, Problem>
    switch (route, method) {
    case (.collection(let resource), .post): result = create(resource, request)
    case (.collection(let resource), _): result = list(resource, request, isHead: isHead)
    case (.item(let resource, let id), _): result = read(resource, id, request, isHead: isHead)
    }
    switch result {
    case .success(let operation): return .query(operation)
    case .failure(let problem):
      var response = problem.response(&writer)
      response.omitsBody = isHead
      return .respond(response)
    }
  }

  /// Rows to bytes, errors to statuses.
  package func finish(_ operation: Operation, _ result: Result<ResultSet, PostgresError>) -> Response {
    var response =
      switch result {
      case .success(let rows): finish(operation.reply, rows)
      case .failure(let error): Problem(error, of: operation).response(&writer)
      }
    response.omitsBody = operation.isHead
    return response
  }

  private func list(_ resource: Resource, _ request: borrowing Request, isHead: Bool) -> Result<Operation, Problem> {
    Page.parse(request.query).map { page in
      var parameters = Parameters()
      parameters.append(page.after)
      parameters.append(Int64(page.limit + 1))
      return Operation(
        statement: resource.listStatement, parameters: parameters, reply: .list(resource, page), isHead: isHead)
    }
  }

  private func read(
    _ resource: Resource, _ id: Int64, _ request: borrowing Request, isHead: Bool
  ) -> Result<Operation, Problem> {
    if let problem = Page.refuseAll(request.query) { return .failure(problem) }
    var parameters = Parameters()
    parameters.append(id)
    return .success(
      Operation(statement: resource.itemStatement, parameters: parameters, reply: .item(resource), isHead: isHead))
  }

  private func create(_ resource: Resource, _ request: borrowing Request) -> Result<Operation, Problem> {
    if let problem = Page.refuseAll(request.query) { return .failure(problem) }
    switch JSONBody.value(of: request) {
    case .failure(let problem): return .failure(problem)
    case .success(let value):
      var validation = Validation()
      let operation: Operation? =
        switch resource {
        case .contact: ContactInput(value, &validation)?.insert
        case .product: ProductInput(value, &validation)?.insert
        case .tag: TagInput(value, &validation)?.insert
        case .order: OrderInput(value, &validation)?.insert
        }
      guard let operation, validation.faults.isEmpty else { return .failure(.unprocessable(validation.faults)) }
      return .success(operation)
    }
  }

  private func finish(_ reply: Reply, _ rows: ResultSet) -> Response {
    switch reply {
    case .list(let resource, let page):
      let more =
        resource == .order ? writeOrders(rows, limit: page.limit) : writeList(resource, rows, limit: page.limit)
      var response = Response(.ok, contentType: .json, body: writer.take())
      if let last = more {
        let target = "\(mode.prefix)/\(resource.rawValue)?limit=\(page.limit)&after=\(last)"
        response.fields.append(HTTPField(name: .link, value: "<\(target)>; rel=\"next\""))
      }
      return response

    case .item(let resource):
      guard rows.rowCount > 0 else {
        return Problem.notFound(detail: "There is no \(resource.rawValue) with this id.").response(&writer)
      }
      return Response(.ok, contentType: .json, body: item(resource, rows))

    case .created(let resource):
      return created(resource, id: rows.integer(0, 0), rows)

    case .createdOrder(let input):
      let missing = OrderInput.Missing(rows)
      guard missing.isEmpty else { return Problem.unprocessable(input.faults(for: missing)).response(&writer) }
      return created(.order, id: orderRows.onlyOrder(in: rows), rows)
    }
  }

  private func created(_ resource: Resource, id: Int64, _ rows: ResultSet) -> Response {
    Response(
      .created, contentType: .json,
      fields: [HTTPField(name: .location, value: "\(mode.prefix)/\(resource.rawValue)/\(id)")],
      body: item(resource, rows))
  }

  private func item(_ resource: Resource, _ rows: ResultSet) -> [UInt8] {
    if resource == .order {
      orderRows.gather(rows)
      orderRows.write(0, of: rows, to: &writer)
    } else {
      resource.write(rows, row: 0, to: &writer)
    }
    return writer.take()
  }

  /// Writes at most `limit` rows; the last id written if there are more.
  private func writeList(_ resource: Resource, _ rows: ResultSet, limit: Int) -> Int64? {
    let count = min(rows.rowCount, limit)
    writer.byte(UInt8(ascii: "["))
    for row in 0..<count {
      if row > 0 { writer.byte(UInt8(ascii: ",")) }
      resource.write(rows, row: row, to: &writer)
    }
    writer.byte(UInt8(ascii: "]"))
    return rows.rowCount > limit ? rows.integer(count - 1, 0) : nil
  }

  private func writeOrders(_ rows: ResultSet, limit: Int) -> Int64? {
    orderRows.gather(rows)
    let count = min(orderRows.count, limit)
    writer.byte(UInt8(ascii: "["))
    for index in 0..<count {
      if index > 0 { writer.byte(UInt8(ascii: ",")) }
      orderRows.write(index, of: rows, to: &writer)
    }
    writer.byte(UInt8(ascii: "]"))
    return orderRows.count > limit ? orderRows.id(count - 1) : nil
  }
}

extension Shop {
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

  /// The answer to a request that was given up because it took too long here.
  package static func timedOut() -> Response {
    var writer = JSONWriter(capacity: 256)
    return Problem(status: .gatewayTimeout, detail: "The request took too long and was given up.").response(&writer)
  }
}
