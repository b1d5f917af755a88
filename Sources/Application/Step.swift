// What an application wants next: to answer, to ask the database, or to wait.

import CGI
import Postgres

/// The next step of a request.
package enum Step {
  /// Answer this.
  case respond(Response)
  /// Execute this; `Query.then` makes the next step of what comes back.
  case query(Query)
  /// Wait for something else for that long, then take the step that `then` makes. The pool sleeps, the loop sets a timer.
  case wait(Duration, then: () -> Step)
}

/// One statement or several that do not depend on one another, and what becomes of their rows.
///
/// The pool sends several reads in one pipeline, the loop spreads them over its connections; each is a transaction of its own. For statements
/// that do depend on one another the closure of the first returns the query of the second.
package struct Query {
  /// The statements, the first apart: nearly always there is no other.
  package let first: BoundStatement
  package let others: [BoundStatement]
  /// What of it may be shared with others who read the same at the same time.
  package let sharing: Sharing
  private let continuation: Continuation

  /// What a loop may give to several requests that ask for it at the same time. Each gets what is at least as fresh as its request.
  package enum Sharing {
    /// Each is executed by itself.
    case nothing
    /// One execution of a statement with the same values serves all; each makes its own answer of the rows. For statements that
    /// only read.
    case rows
    /// So does the step that the first of them has made of the rows: for queries whose `then` depends on nothing but statement and
    /// values. Of several statements the rows alone are shared.
    case rendering
  }

  private enum Continuation {
    case one((QueryResult) -> Step)
    case all(([QueryResult]) -> Step)
  }

  /// One statement.
  package init(
    _ statement: Statement, _ parameters: Parameters = Parameters(), sharing: Sharing = .nothing,
    then: @escaping (QueryResult) -> Step
  ) {
    first = BoundStatement(statement, parameters)
    others = []
    self.sharing = sharing
    continuation = .one(then)
  }

  /// Several statements. Their results come in their order.
  package init(
    together first: BoundStatement, _ others: [BoundStatement], sharing: Sharing = .nothing,
    then: @escaping ([QueryResult]) -> Step
  ) {
    self.first = first
    self.others = others
    self.sharing = sharing
    continuation = .all(then)
  }

  /// The next step. Of `.cancelled`, which is what comes where nobody waits any more, nothing is made.
  package func then(_ results: QueryResults) -> Step {
    if case .failure(.cancelled) = results.first { return .nobodys }
    return switch continuation {
    case .one(let then): then(results.first)
    case .all(let then): then([results.first] + results.others)
    }
  }

  /// The next step, of one statement's result.
  package func then(_ result: QueryResult) -> Step {
    switch continuation {
    case .one(let then): then(result)
    case .all(let then): then([result])
    }
  }
}

extension Step {
  /// Of what nobody waits for nothing is made.
  package static var nobodys: Step { .respond(Response(.serviceUnavailable)) }
}

/// What has come of a query's statements, in their order.
package struct QueryResults {
  package let first: QueryResult
  package let others: [QueryResult]

  package init(_ first: QueryResult, _ others: [QueryResult] = []) {
    self.first = first
    self.others = others
  }
}
