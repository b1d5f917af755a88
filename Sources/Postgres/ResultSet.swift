// Rows, in text form, straight from libpq's memory.

import CPostgres

/// The rows that a statement returned. Owns the `PGresult`.
package final class ResultSet {
  private let result: OpaquePointer
  package let rowCount: Int
  package let columnCount: Int

  init(owning result: OpaquePointer) {
    self.result = result
    rowCount = Int(PQntuples(result))
    columnCount = Int(PQnfields(result))
  }

  deinit { PQclear(result) }

  /// A field's text; empty for NULL. Row and column must be in range.
  @_lifetime(borrow self)
  package func bytes(_ row: Int, _ column: Int) -> Span<UInt8> {
    let length = Int(PQgetlength(result, Int32(row), Int32(column)))
    let value = UnsafeRawPointer(PQgetvalue(result, Int32(row), Int32(column)))
    // libpq gives no NULL pointer for a row and a column in range.
    let buffer = UnsafeBufferPointer(
      start: value?.assumingMemoryBound(to: UInt8.self), count: value == nil ? 0 : length)
    return _overrideLifetime(Span(_unsafeElements: buffer), borrowing: self)
  }

  package func isNull(_ row: Int, _ column: Int) -> Bool { PQgetisnull(result, Int32(row), Int32(column)) == 1 }

  package func string(_ row: Int, _ column: Int) -> String {
    bytes(row, column).withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) }
  }

  /// A field's text as an integer; 0 if it is none.
  package func integer(_ row: Int, _ column: Int) -> Int64 {
    let text = bytes(row, column)
    var value: Int64 = 0
    var index = 0
    let isNegative = text.count > 0 && text[0] == UInt8(ascii: "-")
    if isNegative { index = 1 }
    while index < text.count {
      let digit = text[unchecked: index] &- 0x30
      guard digit < 10 else { return 0 }
      value = value &* 10 &+ Int64(digit)
      index &+= 1
    }
    return isNegative ? -value : value
  }

  /// Rows made in memory, without a server: what tests of code that reads rows need. nil is NULL.
  package static func inMemory(columns: Int, _ rows: [[String?]]) -> ResultSet? {
    guard let result = PQmakeEmptyPGresult(nil, PGRES_TUPLES_OK) else { return nil }
    var name: [CChar] = [0x63, 0]
    let didName = name.withUnsafeMutableBufferPointer { name in
      var descriptions = (0..<columns).map { _ in
        PGresAttDesc(name: name.baseAddress, tableid: 0, columnid: 0, format: 0, typid: 25, typlen: -1, atttypmod: -1)
      }
      return PQsetResultAttrs(result, Int32(columns), &descriptions) == 1
    }
    guard didName else { return nil }
    for (row, fields) in rows.enumerated() {
      for (column, field) in fields.enumerated() {
        var text = field.map { Array($0.utf8CString) } ?? []
        let length = field == nil ? -1 : Int32(text.count - 1)
        guard PQsetvalue(result, Int32(row), Int32(column), &text, length) == 1 else { return nil }
      }
    }
    return ResultSet(owning: result)
  }
}
