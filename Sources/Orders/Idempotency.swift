// POST with an Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): done once, answered alike each time.
//
// What was made is kept, as rows, in the transaction that made it; the same key again brings the same rows, and they become
// the same answer. All of it is one statement. A key counts for a day; each use of one clears those that are older away from one
// page of the table, whichever it is.

import CGI
import CXXHash
import JSON
import Postgres
import Text

enum Idempotency {
  static let longestKey = 255

  /// How a statement that is executed once for its key has ended: the last column of each of its rows.
  enum Outcome: Equatable {
    case made
    /// The rows are those of an earlier request, which came by this mode.
    case replayed(Mode)
    /// The key was used for something else.
    case otherRequest
    /// The first request with the key has not ended.
    case underWay

    init(_ rows: ResultSet) {
      guard rows.rowCount > 0 else {
        self = .made
        return
      }
      let word = rows.bytes(0, rows.columnCount - 1)
      if word.equals("made") {
        self = .made
      } else if word.equals("sync") {
        self = .replayed(.sync)
      } else if word.equals("async") {
        self = .replayed(.async)
      } else if word.equals("other") {
        self = .otherRequest
      } else {
        self = .underWay
      }
    }
  }

  /// The SQL that executes an insert once. `insert` gives the query that makes it and has `columns`, and does nothing where the
  /// gate that it is given is false. Behind its own `values` come the key, the request's fingerprint and the mode.
  ///
  /// Versions are kept by a name of their own for each kind of them, so that none of another kind is taken for one of ours:
  /// before step 6 of the schema they were `tag`. What was kept then is answered without an entity tag.
  ///
  /// The lock is the key's. Whoever gets it just after somebody has ended does not see the other's row, but runs into it:
  /// then `created_at` becomes NULL, which its column forbids, and nothing is done. Clearing comes after keeping, so that two
  /// that clear each other's key don't wait for each other. It costs the same however many rows are gone that somebody's
  /// snapshot keeps in the table and its indexes: when each key brings one, no more than one a page has expired. PostgreSQL
  /// before 14 has no scan of a range of places, and reads the whole table.
  static func once(
    columns: [(name: String, type: String)], values: Int, _ insert: (_ gate: String) -> String
  ) -> String {
    let (key, fingerprint, mode) = ("$\(values + 1)::text", "$\(values + 2)::text", "$\(values + 3)::text")
    let expired = "now() - interval '24 hours'"
    let names = columns.map(\.name).joined(separator: ", ")
    let definitions = columns.map { "\($0.name) \($0.type)" }.joined(separator: ", ")
    let nulls = columns.map { "null::\($0.type)" }.joined(separator: ", ")
    return """
      with earlier as materialized (
        select * from idempotency_key where key = \(key) and created_at >= \(expired)),
      turn as materialized (
        select case when exists (select from earlier) then true
          else pg_try_advisory_xact_lock(hashtextextended(\(key), 0)) end as mine),
      made (\(names)) as (
        \(insert("(select mine from turn) and not exists (select from earlier)"))),
      kept as (
        insert into idempotency_key (key, fingerprint, mode, reply)
        select \(key), \(fingerprint), \(mode), jsonb_agg(made) from made where version is not null having count(*) > 0
        on conflict (key) do update set fingerprint = excluded.fingerprint, mode = excluded.mode, reply = excluded.reply,
          created_at = case when idempotency_key.created_at < \(expired) then now() end
        returning key),
      page as materialized (
        select floor(random() * pg_relation_size('idempotency_key') / current_setting('block_size')::int)::bigint as number
        from kept),
      cleared as (
        delete from idempotency_key where ctid = any (array(
          select ctid from idempotency_key
          where ctid >= (select format('(%s,0)', number)::tid from page)
            and ctid < (select format('(%s,0)', number + 1)::tid from page)
            and created_at < \(expired) and key <> \(key)
          for update skip locked)))
      select \(names), 'made' as outcome from made
      union all
      select r.*, e.mode from earlier e, jsonb_to_recordset(e.reply) r (\(definitions))
        where e.fingerprint = \(fingerprint)
      union all
      select \(nulls), 'other' from earlier where fingerprint <> \(fingerprint)
      union all
      select \(nulls), 'running' from turn where not mine
      """
  }

  /// The key: visible ASCII of at most `longestKey` characters, by itself or as a string in quotes, as the draft has it (RFC 9651
  /// §3.3.3), which may hold spaces too. Both ways it is the same key. Nil if there is none.
  static func key(of request: borrowing Request) -> Result<UTF8Text?, Problem> {
    let sent = request.idempotencyKey.trimmed
    if sent.isEmpty { return .success(nil) }
    let isQuoted = sent[0] == UInt8(ascii: "\"")
    let key = isQuoted ? unquoted(sent) : sent.isVisible ? sent.withUnsafeBufferPointer { Array($0) } : nil
    guard let key, !key.span.trimmed.isEmpty, key.count <= longestKey else {
      return .failure(
        .badRequest(
          detail: """
            The Idempotency-Key must have 1 to \(longestKey) visible ASCII characters, without a space, or be such a \
            string in quotes.
            """))
    }
    return .success(UTF8Text(validating: key.span))
  }

  /// A string without its quotes; nil if it is none.
  private static func unquoted(_ text: Span<UInt8>) -> [UInt8]? {
    var bytes: [UInt8] = []
    var index = 1
    while index < text.count {
      switch text[index] {
      case UInt8(ascii: "\""): return index == text.count - 1 ? bytes : nil
      case UInt8(ascii: "\\"):
        index += 1
        guard index < text.count, text[index] == UInt8(ascii: "\"") || text[index] == UInt8(ascii: "\\") else {
          return nil
        }
        bytes.append(text[index])
      case 0x20...0x7E: bytes.append(text[index])
      default: return nil
      }
      index += 1
    }
    return nil
  }

  /// What tells one request from another under the same key: what is made, and the bytes of the body.
  static func fingerprint(_ resource: Resource, _ body: [UInt8]) -> String {
    var halves: (UInt64, UInt64) = (0, 0)
    let seed = resource.rawValue.utf8.reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
    withUnsafeMutableBytes(of: &halves) { halves in
      body.withUnsafeBytes {
        cxxhash_128($0.baseAddress, $0.count, seed, halves.assumingMemoryBound(to: UInt64.self).baseAddress)
      }
    }
    return String(halves.0, radix: 16) + "." + String(halves.1, radix: 16)
  }
}
