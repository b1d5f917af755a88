// The conversation with the server as steps between which an event loop waits (libpq, "Pipeline Mode").

import CPostgres
import Glibc

extension Connection {
  /// What has to happen before the next step.
  package enum Wait: Equatable {
    case readable, writable
  }

  /// One step of connecting (PQconnectPoll).
  package enum ConnectStep: Equatable {
    case wait(Wait)
    case connected
    case failed(String)
  }

  /// What the server has answered, in the order in which it was asked.
  package enum PipelineEvent {
    /// The result of the oldest statement that has none yet.
    case result(QueryResult)
    /// The oldest unanswered Sync: what follows begins afresh, whatever went wrong before.
    case sync
    /// A statement that was skipped, because one before it in the same segment failed.
    case aborted
  }

  /// `pipelines`: for whoever does not wait for each answer.
  package func connectStep(pipelines: Bool = true) -> ConnectStep {
    switch PQconnectPoll(handle) {
    case PGRES_POLLING_READING: return .wait(.readable)
    case PGRES_POLLING_WRITING: return .wait(.writable)
    case PGRES_POLLING_OK:
      if !pipelines { return .connected }
      guard PQsetnonblocking(handle, 1) == 0, PQenterPipelineMode(handle) == 1 else { return .failed(message) }
      return .connected
    default: return .failed(message)
    }
  }

  /// Queues a Prepare; its result is an event like a statement's.
  package func sendPrepare(_ statement: Statement, as name: String? = nil) -> Bool {
    (name ?? statement.preparedName).withCString { PQsendPrepare(handle, $0, statement.sql, 0, nil) == 1 }
  }

  /// Queues SQL without parameters; its result is an event like a statement's.
  package func send(_ sql: String) -> Bool { PQsendQueryParams(handle, sql, 0, nil, nil, nil, nil, 0) == 1 }

  /// Queues that the server forgets a prepared statement; an error if it does not know it.
  package func sendDeallocate(_ name: String) -> Bool { send("deallocate \(quoted(identifier: name))") }

  /// Queues a prepared statement. False if the connection is broken.
  package func send(_ statement: Statement, as name: String? = nil, _ parameters: Parameters) -> Bool {
    parameters.withPointers { values in
      (name ?? statement.preparedName).withCString {
        PQsendQueryPrepared(handle, $0, Int32(parameters.count), values, nil, nil, 0) == 1
      }
    }
  }

  /// Queues a statement that is not prepared; its result is an event like another's. False if the connection is broken.
  package func sendUnprepared(_ statement: Statement, _ parameters: Parameters) -> Bool {
    parameters.withPointers {
      PQsendQueryParams(handle, statement.sql, Int32(parameters.count), nil, $0, nil, nil, 0) == 1
    }
  }

  /// Has the statements of the segment that begins here end within some milliseconds; its result is an event like another's.
  package func sendLimit(_ milliseconds: Int) -> Bool { send(SessionSettings.limiting(to: milliseconds)) }

  /// Closes a segment of the pipeline, and sends what is queued as far as the socket takes it.
  package func sendSync() -> Bool { PQpipelineSync(handle) == 1 }

  /// Sends what is queued. True if something is left, to be sent when the socket is writable; nil if the connection broke.
  package func flush() -> Bool? {
    switch PQflush(handle) {
    case 0: false
    case 1: true
    default: nil
    }
  }

  /// Takes in what the socket has, and what TLS has decrypted of it: of that the socket will not tell. libpq reads at least 8 KiB
  /// at a time, which is a whole record of PostgreSQL's own, but not of every proxy's (16 KiB, RFC 8446 §5.1). False if the
  /// connection broke.
  package func consumeInput() -> Bool {
    repeat {
      guard PQconsumeInput(handle) == 1 else { return false }
    } while hasDecryptedInput
    dropNotifications()
    return true
  }

  private var hasDecryptedInput: Bool {
    guard PQsslInUse(handle) == 1, let tls = PQsslStruct(handle, "OpenSSL") else { return false }
    return sslPending?(tls) ?? 0 > 0
  }

  /// The next answer that is complete; nil when more input is needed.
  ///
  /// libpq closes each statement's results with a NULL, which is skipped here; `expected` says how many answers (results
  /// and syncs) are still to come, since after the last one libpq has nothing but NULLs.
  ///
  /// There are none any more once libpq has seen the connection's end. It forgets what was asked then, and takes what it has
  /// read of rows for the answer to a Describe: a result that has columns, no rows and PGRES_COMMAND_OK (libpq 15,
  /// pqDropConnection and getRowDescriptions).
  package func nextEvent(expected: Int) -> PipelineEvent? {
    guard expected > 0 else { return nil }
    var closings = 0
    while isAlive, PQisBusy(handle) == 0 {
      guard let result = PQgetResult(handle) else {
        closings += 1
        // Two in a row: nothing is under way, although something was expected.
        if closings > 1 { return nil }
        continue
      }
      switch PQresultStatus(result) {
      case PGRES_PIPELINE_SYNC:
        PQclear(result)
        return .sync
      case PGRES_PIPELINE_ABORTED:
        PQclear(result)
        return .aborted
      default:
        return .result(outcome(owning: result))
      }
    }
    return nil
  }

  /// Why the connection broke, for the log.
  package var failure: String { message }
}

/// SSL_pending(3) of the library that libpq uses; nil if that is another one.
private let sslPending = dlsym(nil, "SSL_pending").map {
  unsafeBitCast($0, to: (@convention(c) (UnsafeMutableRawPointer) -> CInt).self)
}
