// Equal reads that wait together are answered together.
//
// A read that is asked for joins an equal one that has not been sent yet: its snapshot will be younger than the request.
// One that has been sent it can't join, since that may not see what was committed meanwhile; it waits for its end, with
// all the others that come until then, and is the next. So each answer is at least as fresh as its request, and however
// many ask for the same, the database has it once at a time.

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
    /// The one in the queue or at the server.
    var current: Query
    /// The one that starts when that has ended.
    var next: Query?
  }

  private var entries: [Key: Entry] = [:]

  /// The query that will answer `operation`, and whether it is new and may start now.
  mutating func query(for operation: Operation) -> (Query, mayStart: Bool) {
    let key = Key(operation)
    guard let entry = entries[key] else {
      let query = Query(operation, key: key)
      entries[key] = Entry(current: query)
      return (query, true)
    }
    if !entry.current.isSent { return (entry.current, false) }
    if let next = entry.next { return (next, false) }
    let next = Query(operation, key: key)
    entries[key]?.next = next
    return (next, false)
  }

  /// Takes note that `query` has ended; the one that may start now, if any has waited for it.
  mutating func ended(_ query: Query) -> Query? {
    guard let key = query.key, let entry = entries[key], entry.current === query else { return nil }
    guard let next = entry.next else {
      entries[key] = nil
      return nil
    }
    entries[key] = Entry(current: next)
    return next
  }
}
