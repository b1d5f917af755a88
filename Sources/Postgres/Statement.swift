// SQL with a name, and the values that go with it.

import Synchronization
import Text

/// A statement that a connection prepares once and then executes by name. One object, one statement.
package final class Statement: Sendable {
  package let name: String
  /// What the server knows it by: another text has another name, whichever program has prepared it in a session that a pooler
  /// passes on.
  let preparedName: String
  package let sql: String
  /// Whether it only reads, so that it may be sent again when a connection broke before it was answered.
  package let isReadOnly: Bool
  /// Which of the process's statements it is, from 0: an index for whoever keeps something about each.
  package let number: Int

  private static let count = Atomic(0)

  package init(_ name: String, readOnly: Bool, _ sql: String) {
    self.name = name
    self.sql = sql
    // FNV-1a, 32 bits.
    let digest = sql.utf8.reduce(2_166_136_261 as UInt32) { ($0 ^ UInt32($1)) &* 16_777_619 }
    preparedName = "\(name)_\(String(digest, radix: 16))"
    isReadOnly = readOnly
    number = Self.count.wrappingAdd(1, ordering: .relaxed).oldValue
  }
}

/// A statement and the values to execute it with.
package struct BoundStatement: Sendable {
  package let statement: Statement
  package let parameters: Parameters

  package init(_ statement: Statement, _ parameters: Parameters = Parameters()) {
    self.statement = statement
    self.parameters = parameters
  }
}

/// Values for `$1`, `$2` …, in text form, gathered in one piece of memory.
package struct Parameters: Sendable, Equatable {
  /// The values one after another, each closed by a zero, as libpq takes them.
  package private(set) var bytes: [UInt8] = []
  package private(set) var count = 0
  /// Which of them are NULL, a bit each, the first the lowest.
  private var nulls: UInt64 = 0

  /// Space for what most statements take, so that it need not grow value by value.
  package init() { bytes.reserveCapacity(64) }

  /// NULL where there is no value.
  package mutating func append(_ value: Int64?) { if let value { append(value) } else { appendNull() } }

  package mutating func append(_ value: Int64) {
    append(value, decimals: 0)
    close()
  }

  /// Only the first 64 values can be NULL.
  package mutating func appendNull() {
    nulls |= 1 << UInt64(count)
    close()
  }

  /// `text` must hold no U+0000: PostgreSQL has no such character.
  package mutating func append(_ text: UTF8Text) {
    add(text)
    close()
  }

  /// The program's own text.
  package mutating func append(_ text: String) { append(UTF8Text(text)) }
  package mutating func append(_ text: String?) { append(text.map { UTF8Text($0) }) }

  /// NULL where there is no text.
  package mutating func append(_ text: UTF8Text?) { if let text { append(text) } else { appendNull() } }

  /// An array of integers divided by 10^`decimals`, for a column of integers or of `numeric`. NULL where there is none.
  package mutating func append(array integers: [Int64]?, decimals: Int = 0) {
    guard let integers else { return appendNull() }
    bytes.append(UInt8(ascii: "{"))
    for (index, integer) in integers.enumerated() {
      if index > 0 { bytes.append(UInt8(ascii: ",")) }
      append(integer, decimals: decimals)
    }
    bytes.append(UInt8(ascii: "}"))
    close()
  }

  /// At most 19 `decimals`, as 10^19 is the last power of ten that 64 bits hold.
  private mutating func append(_ value: Int64, decimals: Int) {
    let decimals = min(decimals, 19)
    if value < 0 { bytes.append(UInt8(ascii: "-")) }
    var (length, divisor): (Int, UInt64) = (1, 1)
    while length <= decimals || value.magnitude / divisor >= 10 {
      divisor *= 10
      length += 1
    }
    while length > 0 {
      if length == decimals { bytes.append(UInt8(ascii: ".")) }
      bytes.append(0x30 + UInt8(value.magnitude / divisor % 10))
      divisor /= 10
      length -= 1
    }
  }

  /// An array of texts that need no quoting (PostgreSQL §8.15.2). NULL where there is none.
  package mutating func append(array elements: [UTF8Text]?) {
    guard let elements else { return appendNull() }
    bytes.append(UInt8(ascii: "{"))
    var isFirst = true
    for element in elements {
      if !isFirst { bytes.append(UInt8(ascii: ",")) }
      isFirst = false
      add(element)
    }
    bytes.append(UInt8(ascii: "}"))
    close()
  }

  private mutating func add(_ text: UTF8Text) {
    text.withBytes { $0.withUnsafeBufferPointer { bytes.append(contentsOf: $0) } }
  }

  private mutating func close() {
    bytes.append(0)
    count += 1
  }

  /// Calls `body` with libpq's array of C strings.
  func withPointers<Result>(_ body: (UnsafePointer<UnsafePointer<CChar>?>?) -> Result) -> Result {
    bytes.withUnsafeBytes { bytes in
      withUnsafeTemporaryAllocation(of: UnsafePointer<CChar>?.self, capacity: max(count, 1)) { pointers in
        var next = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
        for index in 0..<count {
          pointers.initializeElement(at: index, to: index < 64 && nulls >> UInt64(index) & 1 == 1 ? nil : next)
          while let character = next, character.pointee != 0 { next = character + 1 }
          next = next.map { $0 + 1 }
        }
        return body(UnsafePointer(pointers.baseAddress))
      }
    }
  }
}
