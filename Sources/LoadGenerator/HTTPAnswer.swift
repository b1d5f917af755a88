// Reading HTTP/1.1 answers (RFC 9112) as far as a load generator has to: where they end, and their status.

/// An answer as it arrives, in whatever pieces. A value, no I/O.
package struct HTTPAnswer: Sendable {
  /// It can't be told where such an answer ends.
  package struct Malformed: Error, Equatable { package init() {} }

  private enum State {
    case head
    case body(left: Int)
    case chunkSize
    case chunk(left: Int)
    case trailer, untilClosed, complete
  }

  private var state = State.head
  private var line: [UInt8] = []
  private var headBytes = 0
  private var hasStatusLine = false
  private var length: Int?
  private var isChunked = false
  private var size = 0
  private let hasNoBody: Bool

  package private(set) var status = 0
  /// Whether the connection can't be used for another.
  package private(set) var isLast = false

  private static let longestHead = 64 << 10

  /// `toHead`: the request was a HEAD, whose answers have no body.
  package init(toHead: Bool = false) { hasNoBody = toHead }

  package var isComplete: Bool { if case .complete = state { true } else { false } }
  /// Whether the end of the connection is the end of the answer.
  package var endsWithConnection: Bool { if case .untilClosed = state { true } else { false } }

  /// Takes bytes in; how many of them belong to this answer.
  package mutating func take(_ bytes: UnsafeRawBufferPointer) throws(Malformed) -> Int {
    var position = 0
    while position < bytes.count {
      switch state {
      case .complete: return position
      case .untilClosed: return bytes.count
      case .body(let left):
        let count = min(left, bytes.count - position)
        position += count
        state = count == left ? .complete : .body(left: left - count)
      case .chunk(let left):
        let count = min(left, bytes.count - position)
        position += count
        state = count == left ? .chunkSize : .chunk(left: left - count)
      case .head, .chunkSize, .trailer:
        let rest = UnsafeRawBufferPointer(rebasing: bytes[position...])
        guard let end = rest.firstIndex(of: UInt8(ascii: "\n")) else {
          line.append(contentsOf: rest)
          guard line.count <= Self.longestHead else { throw Malformed() }
          return bytes.count
        }
        if line.isEmpty {
          try takeLine(UnsafeRawBufferPointer(rebasing: rest[..<end]))
        } else {
          line.append(contentsOf: rest[..<end])
          let whole = line
          line.removeAll(keepingCapacity: true)
          // A closure in between would lose the error's type.
          var result: Result<Void, Malformed> = .success(())
          whole.withUnsafeBytes { bytes in
            do throws(Malformed) { try takeLine(bytes) } catch { result = .failure(error) }
          }
          try result.get()
        }
        position += end + 1
      }
    }
    return position
  }

  private mutating func takeLine(_ line: UnsafeRawBufferPointer) throws(Malformed) {
    var line = line[...]
    if line.last == UInt8(ascii: "\r") { line = line.dropLast() }
    switch state {
    case .head:
      headBytes += line.count
      guard headBytes <= Self.longestHead else { throw Malformed() }
      if !hasStatusLine { return try takeStatusLine(line) }
      if line.isEmpty { endHead() } else { try takeField(line) }
    case .chunkSize:
      // The line that ends a chunk's data comes first.
      if line.isEmpty { return }
      guard let size = Self.number(line.prefix { $0 != UInt8(ascii: ";") }, radix: 16) else { throw Malformed() }
      state = size == 0 ? .trailer : .chunk(left: size)
    default:
      if line.isEmpty { state = .complete }
    }
  }

  /// `HTTP/1.1 200 OK`.
  private mutating func takeStatusLine(_ line: Slice<UnsafeRawBufferPointer>) throws(Malformed) {
    let bytes = UnsafeRawBufferPointer(rebasing: line)
    guard bytes.count >= 12, bytes.starts(with: "HTTP/1.".utf8), bytes[8] == UInt8(ascii: " "),
      let code = Self.number(bytes[9..<12], radix: 10)
    else { throw Malformed() }
    status = code
    isLast = bytes[7] == UInt8(ascii: "0")
    hasStatusLine = true
  }

  private mutating func takeField(_ line: Slice<UnsafeRawBufferPointer>) throws(Malformed) {
    // Most fields are none of our business: a look at the first letter spares the rest.
    guard let first = line.first else { return }
    switch first | 0x20 {
    case UInt8(ascii: "c"):
      if let value = Self.value(line, of: "content-length:") {
        guard let number = Self.number(value, radix: 10), length == nil || length == number else { throw Malformed() }
        length = number
      }
      if let value = Self.value(line, of: "connection:"), Self.equal(value, "close") { isLast = true }
    case UInt8(ascii: "t"):
      if let value = Self.value(line, of: "transfer-encoding:"), Self.equal(value, "chunked") { isChunked = true }
    default: break
    }
  }

  private mutating func endHead() {
    if (100..<200).contains(status) {
      // An interim answer; the final one follows (RFC 9110 §15.2).
      hasStatusLine = false
      headBytes = 0
      (length, isChunked) = (nil, false)
    } else if hasNoBody || status == 204 || status == 304 {
      state = .complete
    } else if isChunked {
      state = .chunkSize
    } else if let length {
      state = length == 0 ? .complete : .body(left: length)
    } else {
      isLast = true
      state = .untilClosed
    }
  }

  private static func value(_ line: Slice<UnsafeRawBufferPointer>, of name: StaticString) -> Slice<
    UnsafeRawBufferPointer
  >? {
    let count = name.utf8CodeUnitCount
    guard line.count >= count, equal(line.prefix(count), name) else { return nil }
    func isBlank(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
    var value = line.dropFirst(count).drop(while: isBlank)
    while let last = value.last, isBlank(last) { value = value.dropLast() }
    return value
  }

  /// Letters count alike in both cases; `word` has small ones.
  private static func equal(_ text: Slice<UnsafeRawBufferPointer>, _ word: StaticString) -> Bool {
    guard text.count == word.utf8CodeUnitCount else { return false }
    for (byte, letter) in zip(text, UnsafeBufferPointer(start: word.utf8Start, count: text.count)) {
      let isCapital = (0x41...0x5A).contains(byte)
      if (isCapital ? byte | 0x20 : byte) != letter { return false }
    }
    return true
  }

  /// Nil for what is none, and for more than 15 digits: no answer is as long as that.
  private static func number(_ digits: Slice<UnsafeRawBufferPointer>, radix: Int) -> Int? {
    guard !digits.isEmpty, digits.count <= 15 else { return nil }
    var value = 0
    for byte in digits {
      let digit: Int
      switch byte {
      case 0x30...0x39: digit = Int(byte) - 0x30
      case 0x41...0x46: digit = Int(byte) - 0x37
      case 0x61...0x66: digit = Int(byte) - 0x57
      default: return nil
      }
      guard digit < radix else { return nil }
      value = value * radix + digit
    }
    return value
  }
}
