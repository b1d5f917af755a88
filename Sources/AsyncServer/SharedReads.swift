// Equal reads that wait together are answered together.
//
// A read that is asked for joins an equal one that has not been sent yet: its snapshot will be younger than the request.
// One that has been sent it can't join, since that may not see what was committed meanwhile; it waits for its end, with
// all the others that come until then, and is the next. So each answer is at least as fresh as its request, and however
// many ask for the same, the database has it once at a time; or twice, where that costs little and few would wait for long.

import Postgres

/// Which reads are under way and which wait for them. A value: whom to tell is the pool's business.
struct SharedReads {
  /// What makes two reads equal: statement and values.
  struct Key: Hashable {
    private let statement: Int
    private let values: Parameters

    init(_ bound: BoundStatement) {
      statement = bound.statement.number
      values = bound.parameters
    }

    func hash(into hasher: inout Hasher) {
      hasher.combine(statement)
      values.bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
    }
  }

  /// One read, and its executions.
  final class Read {
    let key: Key
    /// Those in the queue or at the server, the youngest last.
    fileprivate var running: [Execution] = []
    /// The one that starts when one of them has ended.
    fileprivate var next: Execution?

    init(_ key: Key) { self.key = key }
  }

  private var reads: [Key: Read] = [:]

  /// The execution that will answer `bound`, of which at most `most` may run at a time, and whether it is new and may start now; it
  /// is wanted since `since`.
  mutating func execution(of bound: BoundStatement, most: Int, since: UInt64?) -> (Execution, mayStart: Bool) {
    let key = Key(bound)
    let read = reads[key] ?? Read(key)
    if let youngest = read.running.last, !youngest.isSent { return (youngest, false) }
    if let next = read.next { return (next, false) }
    let execution = Execution(bound, since: since, read: read)
    guard read.running.count < most else {
      read.next = execution
      return (execution, false)
    }
    if read.running.isEmpty { reads[key] = read }
    read.running.append(execution)
    return (execution, true)
  }

  /// Takes note that `execution` has ended; the one that may start now, if any has waited for it.
  mutating func ended(_ execution: Execution, most: Int) -> Execution? {
    guard let read = execution.read, let index = read.running.firstIndex(where: { $0 === execution }) else {
      return nil
    }
    read.running.remove(at: index)
    if let next = read.next, read.running.count < most {
      read.running.append(next)
      read.next = nil
      return next
    }
    if read.running.isEmpty { reads[read.key] = nil }
    return nil
  }
}
