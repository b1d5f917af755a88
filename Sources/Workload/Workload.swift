// An application whose requests cost what they are told to cost: statements, their time, rows, processor time, waits elsewhere. For
// measuring the servers and for their tests. It needs no schema, and changes nothing.
//
// Its paths, below the prefix: `/work`, whose query says what to do (Plan.swift); `/health`, `/live`.

import Application
import CGI
import HTTPTypes
import JSON
import Postgres

/// Does what a request's query says. Not Sendable: it owns the buffer that answers are written in.
package final class Workload: Application {
  package let prefix: String
  package var longestBody: Int { 1 << 20 }

  var writer = JSONWriter(capacity: 64 << 10)
  /// Whether this is to stop, so that nobody should be sent here any more: asked for `/health` alone.
  private let isStopping: () -> Bool

  package init(prefix: String, isStopping: @escaping () -> Bool = { false }) {
    self.prefix = prefix
    self.isStopping = isStopping
  }

  private enum Route {
    case work, health, live

    init?(path: Span<UInt8>, below prefix: String) {
      guard path.begins(withSegment: prefix) else { return nil }
      let name = path.extracting(droppingFirst: prefix.utf8.count)
      if name.equals("/work") {
        self = .work
      } else if name.equals("/health") {
        self = .health
      } else if name.equals("/live") {
        self = .live
      } else {
        return nil
      }
    }
  }

  private static let readers: [HTTPRequest.Method] = [.get, .head, .options]

  package func begin(_ request: borrowing Request) -> Step {
    guard let route = Route(path: request.path, below: prefix) else { return .respond(refuse(.nothingHere)) }
    let methods = route == .work ? Self.readers + [.post] : Self.readers
    if let response = objection(to: request, taking: methods) { return .respond(response) }
    guard route == .work else {
      if let problem = Plan.refuseAll(request.query) { return .respond(problem.response(&writer)) }
      return route == .live ? .respond(state("ok", .ok)) : health()
    }
    if request.method == .post, request.bodyIsTooLarge || request.lacksLength {
      let problem = request.bodyIsTooLarge ? Problem.tooLarge(longestBody) : .lengthRequired
      return .respond(problem.response(&writer))
    }
    switch Plan.parse(request.query) {
    case .success(var plan):
      plan.isWrite = request.method == .post
      plan.received = request.body.count
      return carryOut(plan)
    case .failure(let problem): return .respond(problem.response(&writer))
    }
  }

  // MARK: Work

  /// The processor first, then the wait, then the database: what follows a statement depends on what it has brought alone, so that it may
  /// be shared.
  private func carryOut(_ plan: Plan) -> Step {
    ProcessorTime.spend(plan.processor)
    guard plan.wait > 0 else { return ask(plan) }
    return .wait(.microseconds(plan.wait)) { [self] in ask(plan) }
  }

  private func ask(_ plan: Plan) -> Step {
    guard plan.statements > 0 else { return .respond(answer([], to: plan)) }
    guard plan.isTogether, plan.statements > 1 else { return askNext(plan, after: []) }
    var all = (0..<plan.statements).map { plan.statement($0) }
    return .query(
      Query(together: all.removeFirst(), all, sharing: plan.sharing) { [self] results in
        var sets: [ResultSet] = []
        for result in results {
          switch result {
          case .success(let rows): sets.append(rows)
          case .failure(let error): return .respond(refuse(.database(error)))
          }
        }
        return .respond(answer(sets, to: plan))
      })
  }

  /// One statement after another: each is asked for by the closure of the one before.
  private func askNext(_ plan: Plan, after sets: [ResultSet]) -> Step {
    let bound = plan.statement(sets.count)
    return .query(
      Query(bound.statement, bound.parameters, sharing: plan.sharing) { [self] result in
        switch result {
        case .failure(let error): return .respond(refuse(.database(error)))
        case .success(let rows):
          let all = sets + [rows]
          if all.count < plan.statements { return askNext(plan, after: all) }
          return .respond(answer(all, to: plan))
        }
      })
  }

  /// What was done, and the rows.
  private func answer(_ sets: [ResultSet], to plan: Plan) -> Response {
    var (rows, bytes) = (0, 0)
    for set in sets {
      rows += set.rowCount
      for row in 0..<set.rowCount { bytes += set.bytes(row, 0).count }
    }
    writer.raw(#"{"statements":"#)
    writer.integer(sets.count)
    writer.raw(#","rows":"#)
    writer.integer(rows)
    writer.raw(#","bytes":"#)
    writer.integer(bytes)
    writer.raw(#","body":"#)
    writer.integer(plan.received)
    writer.raw(#","data":["#)
    var isFirst = true
    for set in sets {
      for row in 0..<set.rowCount {
        if !isFirst { writer.byte(UInt8(ascii: ",")) }
        isFirst = false
        writer.string(set.bytes(row, 0))
      }
    }
    writer.raw("]}")
    return Response(.ok, contentType: .json, body: writer.take())
  }

  // MARK: How it is

  private func health() -> Step {
    .query(
      Query(Self.health, sharing: .rows) { [self] result in
        if isStopping() { return .respond(state("draining", .serviceUnavailable)) }
        guard case .failure(let error) = result else { return .respond(state("ok", .ok)) }
        var response = state("unavailable", .serviceUnavailable)
        response.fault = "\(error)"
        return .respond(response)
      })
  }

  private func state(_ state: StaticString, _ status: Status) -> Response {
    writer.raw(#"{"application":"workload","status":""#)
    writer.raw(state)
    writer.raw(#""}"#)
    var response = Response(status, contentType: .json, body: writer.take())
    if status != .ok { response.fields = [Problem.retryAfter] }
    return response
  }

  /// Whether a request only asks whether anybody answers.
  package func isLivenessCheck(_ request: borrowing Request) -> Bool {
    Route(path: request.path, below: prefix) == .live
  }

  // MARK: Refusals

  package func refuse(_ refusal: Refusal) -> Response { Problem(refusal).response(&writer) }

  package func objection(to request: borrowing Request) -> Response? {
    objection(to: request, taking: Self.readers) ?? Plan.refuseAll(request.query)?.response(&writer)
  }

  /// The answer where it is the method's alone; nil if the request is to be looked at.
  private func objection(to request: borrowing Request, taking methods: [HTTPRequest.Method]) -> Response? {
    guard request.hasMethod else { return Problem(.badRequest, "The request has no method.").response(&writer) }
    let allow = HTTPField(name: .allow, value: methods.map(\.rawValue).joined(separator: ", "))
    if request.method == .options { return Response(.noContent, fields: [allow]) }
    guard !methods.contains(request.method) else { return nil }
    var problem = Problem(.methodNotAllowed, "This path takes \(allow.value).")
    problem.fields = [allow]
    return problem.response(&writer)
  }
}
