// Rows, in text form, straight from libpq's memory.

import CPostgres

/// What comes of a statement.
package typealias QueryResult = Result<ResultSet, PostgresError>

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

  /// A field's text as an integer. 0 if it is none, if it is NULL, and if 64 bits do not hold it: no column that is read so can
  /// have such a value, so a 0 that is none comes of a schema that is not ours.
  package func integer(_ row: Int, _ column: Int) -> Int64 {
    let text = bytes(row, column)
    let isNegative = text.count > 0 && text[0] == UInt8(ascii: "-")
    var value: Int64 = 0
    var index = isNegative ? 1 : 0
    // No 18 digits come to more than 63 bits.
    let sure = min(text.count, index &+ 18)
    while index < sure {
      let digit = text[unchecked: index] &- 0x30
      guard digit < 10 else { return 0 }
      value = value &* 10 &+ Int64(digit)
      index &+= 1
    }
    if isNegative { value = 0 &- value }
    while index < text.count {
      let digit = text[unchecked: index] &- 0x30
      guard digit < 10 else { return 0 }
      let (product, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, carry) = product.addingReportingOverflow(isNegative ? 0 &- Int64(digit) : Int64(digit))
      if overflow || carry { return 0 }
      value = sum
      index &+= 1
    }
    return value
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
