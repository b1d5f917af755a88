// What both servers run: an application. It is asked what to do next, and never waits: that is the servers' business, and the only
// thing in which they differ.

import CGI
import Postgres

/// What makes answers of requests. A request enters by `begin`, goes on by what its `Step` says, and leaves as a `Response`: every
/// failure already is one.
///
/// No I/O, no waiting, no knowledge of who calls. Not Sendable: it may own the buffers that answers are written in, so each worker
/// and each loop makes one for itself.
package protocol Application: AnyObject {
  /// What its paths begin with, as `/sync`: the server's own pages stand below it, as `/sync/status`.
  var prefix: String { get }
  /// With what its paths may begin where it is mounted somewhere (`Request.finish`).
  var roots: [String] { get }
  /// The longest body that is read, in bytes. What is longer is thrown away, and the request marked.
  var longestBody: Int { get }

  /// What is to be done for a request.
  func begin(_ request: borrowing Request) -> Step

  /// The answer to a request that is not begun, or not finished. Asked of a master, too, before it forks.
  func refuse(_ refusal: Refusal) -> Response

  /// The answer to a request for one of the server's own pages that is not to be shown it, as for its method; nil: show it.
  func objection(to request: borrowing Request) -> Response?

  /// Whether a request only asks whether anybody answers: it is never shed, however long it has waited.
  func isLivenessCheck(_ request: borrowing Request) -> Bool
}

extension Application {
  package var roots: [String] { [prefix] }
  package func isLivenessCheck(_ request: borrowing Request) -> Bool { false }

  /// What every answer is given in the end, whoever made it (see CGI). Where a condition of a read does not hold, the answer is
  /// another.
  package func seal(_ response: inout Response, for request: borrowing Request, _ timing: Response.Timing) {
    if let verdict = response.meetConditions(of: request) { response = refuse(.condition(verdict)) }
    response.seal(for: request, timing)
  }
}

/// Makes the application of a process. What it is given says whether the server is to stop, so that nobody should be sent to it any
/// more.
package typealias ApplicationFactory = @Sendable (_ isStopping: @escaping () -> Bool) -> any Application

/// Why a request is refused.
package enum Refusal {
  /// Its header is longer than anybody wants to read: 431.
  case headerTooLarge
  /// It has waited for so long that its client may have gone: 503.
  case busy
  /// The database can't be asked: 503; or what else its error means.
  case database(PostgresError)
  /// It took too long here and was given up: 504; whether it may have been done all the same.
  case timedOut(writing: Bool)
  /// Its condition does not hold: 412.
  case condition(Conditions.Verdict)
  /// There is nothing at its path: 404.
  case nothingHere
  /// A setting can't be used: 500. Which, is for the log alone.
  case misconfigured(String)
}
