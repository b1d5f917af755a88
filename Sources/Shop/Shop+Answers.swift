// What the rows of a statement become: answers.

import CGI
import CXXHash
import HTTPTypes
import JSON
import Postgres

extension Shop {
  func finish(_ reply: Reply, _ rows: ResultSet) -> Response {
    switch reply {
    case .list(let resource, let page):
      let more =
        resource == .order ? writeOrders(rows, limit: page.limit) : writeList(resource, rows, limit: page.limit)
      var response = Response(.ok, contentType: .json, body: writer.take())
      response.entityTag = .digest(of: response.body)
      if let last = more {
        let target = "\(mode.prefix)/\(resource.rawValue)?\(page.next(after: last))"
        response.fields.append(HTTPField(name: .link, value: "<\(target)>; rel=\"next\""))
      }
      return response

    case .item(let resource):
      guard rows.rowCount > 0 else { return noSuch(resource) }
      return object(resource, rows, .ok)

    case .inserted(let order): return inserted(order, rows)

    case .created(let resource, let order, let isOnce):
      return created(resource, order, isOnce ? Idempotency.Outcome(rows) : .made, rows)

    case .changed(let resource, let order, let isConditional):
      if let order, let problem = order.problem(with: rows) { return problem.response(&writer) }
      let isThere = rows.rowCount > 0
      let wasChanged = isThere && (resource == .order ? rows.integer(0, 1) != 6 : !rows.isNull(0, 1))
      if wasChanged { return object(resource, rows, .ok) }
      return isThere && isConditional ? Problem.preconditionFailed.response(&writer) : noSuch(resource)

    case .deleted(let resource, let isConditional):
      guard rows.rowCount > 0 else { return noSuch(resource) }
      if rows.bytes(0, 1).equals("t") { return Response(.noContent) }
      return isConditional ? Problem.preconditionFailed.response(&writer) : noSuch(resource)

    case .health: return health(error: nil)
    // Its rows are for `finish(_:_:)` of its own.
    case .guarding(let write): return finish(write.reading, rows)
    }
  }

  func noSuch(_ resource: Resource) -> Response {
    Problem.notFound(detail: "There is no \(resource.rawValue) with this id.").response(&writer)
  }

  /// The answer where a statement has not returned what it always returns, as when a trigger or a rule of the database's own
  /// is in its way.
  private func nothingReturned() -> Response {
    Problem(
      status: .internalServerError, detail: "Something went wrong here.", fault: "the statement returned no object"
    ).response(&writer)
  }

  /// A new order, of what was sent and what the rows add to it.
  func inserted(_ order: OrderInput, _ rows: ResultSet) -> Response {
    guard rows.rowCount > 0 else { return nothingReturned() }
    let version = UInt64(clamping: rows.integer(0, 1))
    let tags = (0..<rows.rowCount).filter { !rows.isNull($0, 2) }.sorted { rows.integer($0, 2) < rows.integer($1, 2) }
    order.write(id: rows.bytes(0, 0), tags: tags, of: rows, to: &writer)
    var response = Response(.created, contentType: .json, body: writer.take())
    // As of the rows that are read again later: all are of this transaction, and a tag's link and the tag count together.
    let parts = UInt64(order.lines?.count ?? 0) + UInt64(tags.count)
    response.entityTag = .rows(
      version, parts: parts, sum: tags.reduce(parts &* version) { $0 &+ UInt64(clamping: rows.integer($1, 4)) })
    response.fields.append(location(.order, rows.integer(0, 0), mode))
    return response
  }

  private func location(_ resource: Resource, _ id: Int64, _ mode: Mode) -> HTTPField {
    HTTPField(name: .location, value: "\(mode.prefix)/\(resource.rawValue)/\(id)")
  }

  func created(
    _ resource: Resource, _ order: OrderInput?, _ outcome: Idempotency.Outcome, _ rows: ResultSet
  ) -> Response {
    var (isReplayed, mode) = (false, mode)
    switch outcome {
    case .made:
      if let order, let problem = order.problem(with: rows) { return problem.response(&writer) }
    case .replayed(let first): (isReplayed, mode) = (true, first)
    case .underWay: return Problem.keyInUse.response(&writer)
    case .otherRequest:
      let fault = Fault(header: "Idempotency-Key", .reused, "The key has been used for another request.")
      return Problem.unprocessable([fault]).response(&writer)
    }
    var response = object(resource, rows, .created)
    guard response.status == .created else { return response }
    let id = resource == .order ? orderRows.id(0) : rows.integer(0, 0)
    response.fields.append(location(resource, id, mode))
    if isReplayed { response.fields.append(HTTPField(name: .idempotencyReplayed, value: "true")) }
    return response
  }

  /// The one object that the rows show.
  func object(_ resource: Resource, _ rows: ResultSet, _ status: Status) -> Response {
    if resource == .order { orderRows.gather(rows) }
    guard resource == .order ? orderRows.count > 0 : rows.rowCount > 0 else { return nothingReturned() }
    if resource == .order {
      orderRows.write(0, of: rows, to: &writer)
    } else {
      resource.write(rows, row: 0, to: &writer)
    }
    var response = Response(status, contentType: .json, body: writer.take())
    response.entityTag = resource.entityTag(rows)
    return response
  }

  func health(error: PostgresError?) -> Response {
    let word: StaticString = error == nil ? "ok" : "unavailable"
    writer.raw(#"{"mode":"#)
    writer.string(mode.rawValue)
    writer.raw(#","status":""#)
    writer.raw(word)
    writer.raw(#"","database":""#)
    writer.raw(word)
    writer.raw(#"","version":"#)
    writer.string(Self.version)
    writer.raw("}")
    var response = Response(error == nil ? .ok : .serviceUnavailable, contentType: .json, body: writer.take())
    response.entityTag = .digest(of: response.body)
    if let error {
      response.fields.append(HTTPField(name: .retryAfter, value: String(Problem.retryAfter)))
      response.fault = "\(error)"
    }
    return response
  }

  /// Writes at most `limit` rows; the last id written if there are more.
  func writeList(_ resource: Resource, _ rows: ResultSet, limit: Int) -> Int64? {
    let count = min(rows.rowCount, limit)
    writer.byte(UInt8(ascii: "["))
    for row in 0..<count {
      if row > 0 { writer.byte(UInt8(ascii: ",")) }
      resource.write(rows, row: row, to: &writer)
    }
    writer.byte(UInt8(ascii: "]"))
    return rows.rowCount > limit ? rows.integer(count - 1, 0) : nil
  }

  func writeOrders(_ rows: ResultSet, limit: Int) -> Int64? {
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

extension EntityTag {
  /// Of an answer that is known by its bytes alone.
  fileprivate static func digest(of body: [UInt8]) -> EntityTag {
    .digest(body.withUnsafeBytes { cxxhash_64($0.baseAddress, $0.count) })
  }
}
