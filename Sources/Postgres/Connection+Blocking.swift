// The conversation with the server, waiting inside libpq: for the prefork workers, migrations and commands.

import CPostgres

extension Connection {
  /// Connects and waits for it: without our settings where a pooler refuses them, with `options` told so for the next time.
  package static func connect(to info: ConnectionInfo, _ options: inout Options) throws(PostgresError) -> Connection {
    do throws(PostgresError) {
      return try ConnectionPlan(info, options).connect()
    } catch {
      guard options.sendsSettings, error.isRefusedParameter else { throw error }
      options.sendsSettings = false
      return try ConnectionPlan(info, options).connect()
    }
  }

  package static func connect(to info: ConnectionInfo, _ options: Options) throws(PostgresError) -> Connection {
    var options = options
    return try connect(to: info, &options)
  }

  /// By the name that `Preparations` gives it; by its own where there are none.
  package func prepare(_ statement: Statement, as name: String? = nil) throws(PostgresError) {
    if client != nil {
      _ = try result(of: sendPrepare(statement, as: name ?? statement.preparedName)).get()
      return
    }
    let result = (name ?? statement.preparedName).withCString { PQprepare(handle, $0, statement.sql, 0, nil) }
    _ = try outcome(owning: result).get()
  }

  /// Lets the server forget a prepared statement, if it knows it.
  package func deallocate(_ name: String) { _ = try? execute("deallocate \(quoted(identifier: name))") }

  /// Executes a prepared statement and waits for its rows.
  package func execute(
    _ statement: Statement, as name: String? = nil, _ parameters: Parameters
  ) -> QueryResult {
    defer { dropNotifications() }
    guard client == nil else { return result(of: send(statement, as: name, parameters)) }
    let result = parameters.withPointers { values in
      (name ?? statement.preparedName).withCString {
        PQexecPrepared(handle, $0, Int32(parameters.count), values, nil, nil, 0)
      }
    }
    return outcome(owning: result)
  }

  /// Executes a statement without preparing it first, and waits for its rows.
  package func executeUnprepared(
    _ statement: Statement, _ parameters: Parameters
  ) -> QueryResult {
    guard client == nil else { return result(of: sendUnprepared(statement, parameters)) }
    return outcome(
      owning: parameters.withPointers {
        PQexecParams(handle, statement.sql, Int32(parameters.count), nil, $0, nil, nil, 0)
      })
  }

  /// Looks after a client while `body` executes what it waits for; nil if it goes meanwhile, and the server is told to give that up.
  /// Where that could not be told in time, the connection is of no use any more: `isAlive` is false.
  package func whileThere<Result>(_ client: ClientWatch?, _ body: () -> Result) -> Result? {
    (self.client, departure) = (client, .none)
    defer { self.client = nil }
    let result = body()
    return departure == .none ? result : nil
  }

  /// What a statement that was sent by itself has come to.
  private func result(of isSent: Bool) -> QueryResult {
    guard isSent else { return .failure(.connectionLost(message)) }
    var last: QueryResult?
    while let next = nextResult() { last = outcome(owning: next) }
    return last ?? .failure(.connectionLost(message))
  }

  /// Prepares a statement, which may take some milliseconds at most: it waits where a table is locked.
  package func prepare(_ statement: Statement, as name: String, within milliseconds: Int) throws(PostgresError) {
    _ = try within(milliseconds) { sendPrepare(statement, as: name) }.get()
  }

  /// Executes a statement, by its name if it has one here, which may take some milliseconds at most.
  package func execute(
    _ statement: Statement, as name: String?, _ parameters: Parameters, within milliseconds: Int
  ) -> QueryResult {
    within(milliseconds) {
      name.map { send(statement, as: $0, parameters) } ?? sendUnprepared(statement, parameters)
    }
  }

  /// The limit and what `send` sends are one transaction, and one message each way.
  private func within(_ milliseconds: Int, _ send: () -> Bool) -> QueryResult {
    guard PQenterPipelineMode(handle) == 1 else { return .failure(.connectionLost(message)) }
    defer {
      PQexitPipelineMode(handle)
      dropNotifications()
    }
    guard sendLimit(milliseconds), send(), sendSync() else { return .failure(.connectionLost(message)) }
    do throws(PostgresError) { return try resultBeforeSync(behindLimit: true) } catch { return .failure(error) }
  }

  /// Executes statements that do not depend on one another, by their names where they have one here: sent together, each in a
  /// transaction of its own. Their results in their order; of those that the connection's end has left without one, that.
  package func execute(_ all: [BoundStatement], as names: [String?]) -> [QueryResult] {
    // An end that has come already is no statement's; found while sending, libpq would forget its reason.
    guard stillAliveAfterReading() else { return all.map { _ in .failure(.unavailable(message)) } }
    var results: [QueryResult] = []
    var end: PostgresError?
    if PQenterPipelineMode(handle) == 1 {
      var sent = 0
      for (bound, name) in zip(all, names) {
        sent += 1
        // Where nothing can be sent any more, the server may have said why.
        guard
          name.map({ send(bound.statement, as: $0, bound.parameters) })
            ?? sendUnprepared(bound.statement, bound.parameters), sendSync()
        else { break }
      }
      do throws(PostgresError) {
        while results.count < sent { results.append(try resultBeforeSync()) }
      } catch {
        end = error
      }
      PQexitPipelineMode(handle)
      dropNotifications()
    }
    while results.count < all.count { results.append(.failure(end ?? .connectionLost(message))) }
    return results
  }

  /// What the statement before the next Sync has come to, or its commit if that fails; `behindLimit`: the limit's own result comes
  /// before. Throws where no Sync comes any more: without it nothing is committed, nor is libpq to be believed (see `nextEvent`) but
  /// where a statement, or the server at its end, has said why not.
  private func resultBeforeSync(behindLimit: Bool = false) throws(PostgresError) -> QueryResult {
    var result: QueryResult?
    var isLimited = !behindLimit
    var closings = 0
    while closings < 2 {
      guard let next = nextResult() else {
        closings += 1
        continue
      }
      closings = 0
      switch PQresultStatus(next) {
      case PGRES_PIPELINE_SYNC:
        PQclear(next)
        return result ?? .failure(.connectionLost(message))
      case PGRES_PIPELINE_ABORTED: PQclear(next)
      default:
        let outcome = outcome(owning: next)
        if case .success = outcome, !isLimited {
          isLimited = true
          continue
        }
        // Behind why the server has ended the session libpq tells that it has.
        if case .failure(.unavailable)? = result { continue }
        result = outcome
      }
    }
    guard case .failure(let error)? = result else { throw .connectionLost(message) }
    // What a statement has failed with is its own; a session's end is that of all behind it, too.
    if case .statement = error { return .failure(error) }
    throw error
  }

  /// Executes SQL as it is, several statements allowed if there are no parameters.
  @discardableResult
  package func execute(_ sql: String, _ parameters: Parameters = Parameters()) throws(PostgresError) -> ResultSet {
    let result: OpaquePointer? =
      parameters.count == 0
      ? PQexec(handle, sql)
      : parameters.withPointers { PQexecParams(handle, sql, Int32(parameters.count), nil, $0, nil, nil, 0) }
    return try outcome(owning: result).get()
  }

  /// Reads what the server has sent unasked while the connection was idle: its last message, when it is stopped.
  /// Does not wait. Whether the connection is still good.
  package func stillAliveAfterReading() -> Bool {
    defer { dropNotifications() }
    return PQconsumeInput(handle) == 1 && isAlive
  }

  /// `name` as an SQL identifier, quoted.
  package func quoted(identifier name: String) -> String {
    guard let quoted = PQescapeIdentifier(handle, name, name.utf8.count) else { return "" }
    defer { PQfreemem(quoted) }
    return String(cString: quoted)
  }

  /// `text` as an SQL literal, quoted.
  package func quoted(literal text: String) -> String {
    guard let quoted = PQescapeLiteral(handle, text, text.utf8.count) else { return "" }
    defer { PQfreemem(quoted) }
    return String(cString: quoted)
  }
}
