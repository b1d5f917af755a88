// Equal reads that wait together are answered together.
//
// A read that is asked for joins an equal one that has not been sent yet: its snapshot will be younger than the request.
// One that has been sent it can't join, since that may not see what was committed meanwhile; it waits for its end, with
// all the others that come until then, and is the next. So each answer is at least as fresh as its request, and however
// many ask for the same, the database has it once at a time; or twice, where that costs little and few would wait for long.

import Orders
import Postgres

/// Which reads are under way and which wait for them. A value: whom to tell is the pool's business.
struct SharedReads {
  /// What makes two reads equal: statement and values.
  struct Key: Hashable {
    private let statement: Int
    private let values: Parameters

    init(_ operation: Operation) {
      statement = operation.statement.number
      values = operation.parameters
    }

    func hash(into hasher: inout Hasher) {
      hasher.combine(statement)
      values.bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
    }
  }

  /// One read, and its queries.
  final class Read {
    let key: Key
    /// Those in the queue or at the server, the youngest last.
    fileprivate var running: [Query] = []
    /// The one that starts when one of them has ended.
    fileprivate var next: Query?

    init(_ key: Key) { self.key = key }
  }

  private var reads: [Key: Read] = [:]

  /// The query that will answer `operation`, of which at most `most` may run at a time, and whether it is new and may start now; it
  /// is wanted since `since`.
  mutating func query(for operation: Operation, most: Int, since: UInt64) -> (Query, mayStart: Bool) {
    let key = Key(operation)
    let read = reads[key] ?? Read(key)
    if let youngest = read.running.last, !youngest.isSent { return (youngest, false) }
    if let next = read.next { return (next, false) }
    let query = Query(operation, since: since, read: read)
    guard read.running.count < most else {
      read.next = query
      return (query, false)
    }
    if read.running.isEmpty { reads[key] = read }
    read.running.append(query)
    return (query, true)
  }

  /// Takes note that `query` has ended; the one that may start now, if any has waited for it.
  mutating func ended(_ query: Query, most: Int) -> Query? {
    guard let read = query.read, let index = read.running.firstIndex(where: { $0 === query }) else { return nil }
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
