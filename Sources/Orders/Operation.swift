// A statement of the API's, and what its rows will become.

import Application
import CGI
import Postgres

/// What a request comes to next.
enum Next {
  /// Answer this.
  case respond(Response)
  /// Execute this, then `finish`.
  case execute(Operation)
}

/// A statement to execute, and what its rows will become.
struct Operation: Sendable {
  let statement: Statement
  let parameters: Parameters
  let reply: Reply

  /// What it reads is all that its answer depends on, so that another one that reads the same can have it too.
  var sharing: Query.Sharing {
    if case .guarding = reply { return .nothing }
    return statement.isReadOnly ? .rendering : .nothing
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
