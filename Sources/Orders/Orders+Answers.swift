// What the rows of a statement become: answers.

import CGI
import CXXHash
import HTTPTypes
import JSON
import Postgres

extension Orders {
  func finish(_ reply: Reply, _ rows: ResultSet) -> Response {
    switch reply {
    case .list(let resource, let page):
      let more =
        resource == .order ? writeOrders(rows, limit: page.limit) : writeList(resource, rows, limit: page.limit)
      var response = written(.ok, resource, rows)
      guard response.status == .ok else { return response }
      // That there is more belongs to what the answer says.
      response.entityTag = .digest(of: response.body, seed: UInt64(bitPattern: more ?? 0))
      if let last = more {
        let target = "\(mode.prefix)/\(resource.rawValue)?\(page.next(after: last))"
        response.fields.append(HTTPField(name: .link, value: "<\(target)>; rel=\"next\""))
      }
      return response

    case .item(let resource):
      // An order that a policy of the database's own hides may have lines that it does not.
      let isThere = resource == .order ? (0..<rows.rowCount).contains { rows.integer($0, 1) == 0 } : rows.rowCount > 0
      return isThere ? object(resource, rows, .ok) : noSuch(resource)

    case .created(let resource, let order, let isOnce):
      return created(resource, order, isOnce ? Idempotency.Outcome(rows) : .made, rows)

    case .changed(let resource, let order, let isConditional):
      if let order, let problem = order.problem(with: rows) { return problem.response(&writer) }
      let isThere = rows.rowCount > 0
      let wasChanged = isThere && (resource == .order ? rows.integer(0, 1) != 6 : !rows.isNull(0, 0))
      if wasChanged { return object(resource, rows, .ok, isWritten: true) }
      return isThere && isConditional ? Problem.preconditionFailed.response(&writer) : noSuch(resource)

    case .deleted(let resource, let isConditional):
      guard rows.rowCount > 0 else { return noSuch(resource) }
      if rows.bytes(0, 1).equals("t") { return Response(.noContent) }
      return isConditional ? Problem.preconditionFailed.response(&writer) : noSuch(resource)

    case .health: return health(.success(rows))
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

  /// What has been written of the rows, if it is JSON: a row may have a value that the schema does not let in, from before it
  /// did not, or where a constraint was dropped. It is not left out, nor another put in its place.
  private func written(
    _ status: Status, _ resource: Resource, _ rows: ResultSet, isWritten: Bool = false
  ) -> Response {
    guard let flaw = writer.flaw else { return Response(status, contentType: .json, body: writer.take()) }
    _ = writer.take()
    let which = flawed(resource, rows).map { "\(resource.rawValue) \($0)" } ?? "a \(resource.rawValue)"
    let what =
      switch flaw {
      case .text: "a text that is not UTF-8"
      case .number: "a number that is out of its range, or none"
      }
    // A function that writes does not leave what can't be told; this is for what it does not know of.
    let doubt = isWritten ? " It has been written all the same: look before trying again." : ""
    return Problem(
      status: .internalServerError, detail: "Something went wrong here.\(doubt)",
      fault: "\(which) can't be written as JSON: it has \(what)"
    ).response(&writer)
  }

  /// The id of the first thing in the rows that can't be written.
  private func flawed(_ resource: Resource, _ rows: ResultSet) -> Int64? {
    if resource == .order { orderRows.gather(rows) }
    for index in 0..<(resource == .order ? orderRows.count : rows.rowCount) {
      if resource == .order {
        orderRows.write(index, of: rows, to: &writer)
      } else {
        resource.write(rows, row: index, to: &writer)
      }
      let isFlawed = writer.flaw != nil
      _ = writer.take()
      if isFlawed { return resource == .order ? orderRows.id(index) : rows.integer(index, 0) }
    }
    return nil
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
    var response = object(resource, rows, .created, isWritten: !isReplayed)
    guard response.status == .created else { return response }
    let id = resource == .order ? orderRows.id(0) : rows.integer(0, 0)
    response.fields.append(location(resource, id, mode))
    if isReplayed { response.fields.append(HTTPField(name: .idempotencyReplayed, value: "true")) }
    return response
  }

  /// The one object that the rows show.
  func object(_ resource: Resource, _ rows: ResultSet, _ status: Status, isWritten: Bool = false) -> Response {
    if resource == .order { orderRows.gather(rows) }
    guard resource == .order ? orderRows.count > 0 : rows.rowCount > 0 else { return nothingReturned() }
    if resource == .order {
      orderRows.write(0, of: rows, to: &writer)
    } else {
      resource.write(rows, row: 0, to: &writer)
    }
    var response = written(status, resource, rows, isWritten: isWritten)
    guard response.status == status else { return response }
    response.entityTag = resource.entityTag(rows)
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

  /// Writes as many orders as the page can have, at most `limit`; the last id written if there are more.
  func writeOrders(_ rows: ResultSet, limit: Int) -> Int64? {
    orderRows.gather(rows)
    let most = min(orderRows.fitting, limit)
    var count = 0
    writer.byte(UInt8(ascii: "["))
    while count < most, writer.count < Order.longestPage {
      if count > 0 { writer.byte(UInt8(ascii: ",")) }
      orderRows.write(count, of: rows, to: &writer)
      count += 1
    }
    writer.byte(UInt8(ascii: "]"))
    defer { orderRows.clear() }
    return orderRows.count > count ? orderRows.id(count - 1) : nil
  }
}

extension EntityTag {
  /// Of an answer that is known by its bytes alone.
  static func digest(of body: [UInt8], seed: UInt64 = 0) -> EntityTag {
    EntityTag(digest: body.withUnsafeBytes { cxxhash_64($0.baseAddress, $0.count, seed) })
  }
}
