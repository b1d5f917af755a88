// A write under a condition that its own statement does not look at: If-None-Match, what is no list of tags, and any condition of a
// POST, which is about the list.
//
// What there is is read first, as a GET reads it. Then a change or a deletion is done if that is still so, a condition that
// their statements know; if it is not, all begins anew. A POST is done at once: two that come together may both have seen the
// list as it was.

import CGI
import HTTPTypes
import Postgres
import Text

/// What is to be written, under which conditions, and how far it has come.
final class GuardedWrite: Sendable {
  enum Write: Sendable {
    /// `repetition` only looks for what an earlier request with the same key has made.
    case creation(Operation, repetition: Operation?)
    /// The values but for the condition, and the order, if it is one.
    case change(Int64, Parameters, OrderInput?)
    case deletion(Int64)

    /// What writes, a thing that has one of these entity tags; nil: whichever it has.
    func operation(_ resource: Resource, onlyIf tags: [UTF8Text]?) -> Operation {
      switch self {
      case .creation(let operation, _): return operation
      case .change(_, var parameters, let order):
        parameters.append(array: tags)
        return Operation(
          statement: resource.update, parameters: parameters,
          reply: .changed(resource, order, isConditional: tags != nil))
      case .deletion(let id):
        var parameters = Parameters()
        parameters.append(id)
        parameters.append(array: tags)
        return Operation(
          statement: resource.delete, parameters: parameters, reply: .deleted(resource, isConditional: tags != nil))
      }
    }
  }

  /// What the rows that come next are.
  enum Stage: Sendable {
    /// What there is.
    case reading
    /// What the write has come to.
    case writing(Reply)
    /// What an earlier request with the same key has made, if there was one. The conditions do not hold.
    case repeating(Reply, otherwise: Problem)
  }

  /// How often what was read may have changed before it could be written.
  private static let mostAttempts = 10

  let resource: Resource
  let write: Write
  let conditions: Conditions
  let stage: Stage
  private let attempt: Int

  init(
    _ write: Write, of resource: Resource, under conditions: Conditions, _ stage: Stage = .reading, attempt: Int = 1
  ) {
    self.write = write
    self.resource = resource
    self.conditions = conditions
    self.stage = stage
    self.attempt = attempt
  }

  var isOnce: Bool { if case .repeating = stage { true } else { false } }

  /// What a read of it alone would be told.
  var reading: Reply { if case .creation = write { .list(resource, Page()) } else { .item(resource) } }

  /// Reads what there is.
  var read: Operation {
    switch write {
    case .creation:
      let page = Page()
      return Operation(statement: resource.list(page.filters), parameters: page.values, reply: .guarding(self))
    case .change(let id, _, _), .deletion(let id):
      var parameters = Parameters()
      parameters.append(id)
      return Operation(statement: resource.item, parameters: parameters, reply: .guarding(self))
    }
  }

  /// Reads it once more; nil if it has been read often enough.
  var nextRead: Operation? {
    guard attempt < Self.mostAttempts else { return nil }
    return GuardedWrite(write, of: resource, under: conditions, attempt: attempt + 1).read
  }

  /// Writes it, as long as it is in the state `tag`.
  func writing(on tag: EntityTag) -> Operation {
    let operation = write.operation(resource, onlyIf: [UTF8Text(repairing: tag.opaque.span)])
    if case .creation = write { return operation }
    return operation.replying(.guarding(at(.writing(operation.reply))))
  }

  /// Looks for what was made before; nil where nothing can have been.
  func repeating(otherwise problem: Problem) -> Operation? {
    guard case .creation(_, let repetition?) = write else { return nil }
    return repetition.replying(.guarding(at(.repeating(repetition.reply, otherwise: problem))))
  }

  /// Of a thing that is there and can't be written as JSON, or a list with one: nobody has seen it, so that no tag of a client's
  /// is its own. It can be mended and deleted all the same.
  func untoldState(_ response: Response, _ rows: ResultSet) -> EntityTag? {
    guard response.status == .internalServerError else { return nil }
    if case .creation = write { return .digest(of: response.body) }
    return resource.entityTag(rows)
  }

  private func at(_ stage: Stage) -> GuardedWrite {
    GuardedWrite(write, of: resource, under: conditions, stage, attempt: attempt)
  }
}

extension Operation {
  fileprivate func replying(_ reply: Reply) -> Operation {
    Operation(statement: statement, parameters: parameters, reply: reply)
  }
}

extension Orders {
  /// What comes next, or what has come of it.
  func finish(_ write: GuardedWrite, _ rows: ResultSet) -> Next {
    switch write.stage {
    case .reading:
      let response = finish(write.reading, rows)
      guard let tag = response.entityTag ?? write.untoldState(response, rows) else { return .respond(response) }
      let verdict = write.conditions.verdict(on: tag)
      guard let problem = Problem(verdict) else { return .execute(write.writing(on: tag)) }
      // What has been made under a condition that nobody can understand was made for another request.
      if verdict == .unclearMatch || verdict == .unclearNoneMatch { return .respond(problem.response(&writer)) }
      return write.repeating(otherwise: problem).map(Next.execute) ?? .respond(problem.response(&writer))
    case .writing(let reply):
      let response = finish(reply, rows)
      guard response.status == .preconditionFailed else { return .respond(response) }
      return write.nextRead.map(Next.execute) ?? .respond(Problem.changesTooOften.response(&writer))
    case .repeating(let reply, let problem):
      return .respond(rows.rowCount > 0 ? finish(reply, rows) : problem.response(&writer))
    }
  }
}

extension Problem {
  /// Of a condition that does not hold; nil of one that does.
  init?(_ verdict: Conditions.Verdict) {
    switch verdict {
    case .met: return nil
    case .changed: self = .preconditionFailed
    case .same: self = Problem(status: .preconditionFailed, detail: "It is what If-None-Match names.")
    case .unclearMatch: self = .unclear("If-Match")
    case .unclearNoneMatch: self = .unclear("If-None-Match")
    }
  }

  /// What is wrong with a request's fields that are there to protect it: where one of them says nothing, what its client wanted to
  /// keep from being done must not be done.
  init?(ofGuardsIn request: borrowing Request) {
    guard let name = request.emptyGuard else { return nil }
    self = .badRequest(detail: "\(name) says nothing. It must have a value, or be left out.")
  }

  /// Nobody can say that the condition holds.
  private static func unclear(_ name: String) -> Problem {
    Problem(status: .preconditionFailed, detail: "\(name) must be * or entity tags in quotes. Nothing was done.")
  }

  fileprivate static let changesTooOften = Problem(
    status: .serviceUnavailable, detail: "Others change it all the time. Try again shortly.", isTemporary: true)
}
