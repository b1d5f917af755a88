// What docs/sync-and-async.md says of rows that are gone: compiled by test_guide.py together with Sources/Postgres/ResultSet.swift,
// and refused.

package enum PostgresError: Error {}

func load() -> ResultSet? { .inMemory(columns: 1, [["Ann"]]) }

func lengthOfName() -> Int {
  var name = Span<UInt8>()
  if let rows = load() {
    name = rows.bytes(0, 0)
  }
  return name.count
}
