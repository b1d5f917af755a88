// Equal reads that wait together are answered together.
//
// A read that is asked for joins an equal one that has not been sent yet: its snapshot will be younger than the request.
// One that has been sent it can't join, since that may not see what was committed meanwhile; it waits for its end, with
// all the others that come until then, and is the next. So each answer is at least as fresh as its request, and however
// many ask for the same, the database has it once at a time; or twice, where that costs little and few would wait for long.

import Postgres
import Shop

/// Which reads are under way and which wait for them. A value: whom to tell is the pool's business.
struct SharedReads {
  /// What makes two reads equal: statement and values.
  struct Key: Hashable {
    private let statement: ObjectIdentifier
    private let values: [UInt8]

    init(_ operation: Operation) {
      statement = ObjectIdentifier(operation.statement)
      values = operation.parameters.bytes
    }
  }

  private struct Entry {
    /// Those in the queue or at the server, the youngest last.
    var running: [Query]
    /// The one that starts when one of them has ended.
    var next: Query?
  }

  private var entries: [Key: Entry] = [:]

  /// The query that will answer `operation`, of which at most `most` may run at a time, and whether it is new and may start now.
  mutating func query(for operation: Operation, most: Int) -> (Query, mayStart: Bool) {
    let key = Key(operation)
    guard let entry = entries[key] else {
      let query = Query(operation, key: key)
      entries[key] = Entry(running: [query])
      return (query, true)
    }
    if let youngest = entry.running.last, !youngest.isSent { return (youngest, false) }
    if let next = entry.next { return (next, false) }
    let query = Query(operation, key: key)
    let mayStart = entry.running.count < most
    if mayStart { entries[key]?.running.append(query) } else { entries[key]?.next = query }
    return (query, mayStart)
  }

  /// Takes note that `query` has ended; the one that may start now, if any has waited for it.
  mutating func ended(_ query: Query, most: Int) -> Query? {
    guard let key = query.key, let index = entries[key]?.running.firstIndex(where: { $0 === query }) else { return nil }
    entries[key]?.running.remove(at: index)
    guard let entry = entries[key], entry.running.count < most else { return nil }
    if let next = entry.next {
      entries[key]?.running.append(next)
      entries[key]?.next = nil
      return next
    }
    if entry.running.isEmpty { entries[key] = nil }
    return nil
  }
}
