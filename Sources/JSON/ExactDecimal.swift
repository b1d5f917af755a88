// Numbers as JSON writes them, without binary floating point.

/// A decimal number of any size: (−1)^sign × digits × 10^exponent, with neither leading nor trailing zeros among the digits.
/// `1.50`, `15e-1` and `1.5` are equal.
package struct ExactDecimal: Equatable, Sendable {
  // In this order an element of an array of numbers takes 24 bytes.
  private let digits: Digits
  package let isNegative: Bool
  /// Of the last digit. A number of a million digits with an exponent of nine is far from 32 bits.
  private let exponent: Int32

  /// Decimal digits, the most significant first, none for zero. Nearly always 64 bits hold them all.
  struct Digits: Equatable, Sendable {
    private static let mostLeading: UInt8 = 19

    /// The first 19 as one number.
    fileprivate var leading: UInt64 = 0
    /// Values 0 to 9 of those that follow.
    fileprivate var trailing: [UInt8] = []
    /// How many the first are.
    private var count: UInt8 = 0

    /// `digit` is 0 to 9. Zeros before the first other digit are none.
    mutating func append(_ digit: UInt8) {
      if count < Self.mostLeading {
        leading = leading * 10 + UInt64(digit)
        if leading > 0 { count += 1 }
      } else {
        trailing.append(digit)
      }
    }

    /// Removes the zero at the end; false if there is none.
    fileprivate mutating func removeZero() -> Bool {
      if let last = trailing.last {
        if last == 0 { trailing.removeLast() }
        return last == 0
      }
      guard leading > 0, leading % 10 == 0 else { return false }
      leading /= 10
      count -= 1
      return true
    }
  }

  /// What stands in the way of an integer.
  package enum Misfit: Error, Equatable {
    case tooManyDecimals
    case outOfRange
  }

  /// From the parts of a JSON number; `exponent` is the last digit's.
  init(isNegative: Bool, digits: consuming Digits, exponent: Int) {
    var exponent = exponent
    while digits.removeZero() { exponent += 1 }
    self.isNegative = isNegative && digits.leading > 0
    self.exponent = digits.leading > 0 ? Int32(clamping: exponent) : 0
    self.digits = digits
  }

  /// The number × 10^`places`, if that is an integer of 64 bits: prices in ten-thousandths, ids with no places.
  package func scaled(by places: Int) throws(Misfit) -> Int64 {
    if digits.leading == 0 { return 0 }
    let shift = Int(exponent) + places
    guard shift >= 0 else { throw .tooManyDecimals }
    // 20 digits are too many, whether they were written or come by the shift.
    guard digits.trailing.isEmpty, shift < 19 else { throw .outOfRange }
    var magnitude = digits.leading
    for _ in 0..<shift {
      let (product, overflow) = magnitude.multipliedReportingOverflow(by: 10)
      if overflow { throw .outOfRange }
      magnitude = product
    }
    if magnitude == Int64.min.magnitude, isNegative { return .min }
    guard let value = Int64(exactly: magnitude) else { throw .outOfRange }
    return isNegative ? -value : value
  }

  /// An exponent up to which a number is written without one. It may be one of nine digits, which would be gigabytes of zeros.
  private static let mostZeros: Int32 = 40

  /// In JSON's form.
  var text: String {
    var text = "\(digits.leading)" + String(decoding: digits.trailing.map { $0 &+ 0x30 }, as: UTF8.self)
    guard exponent.magnitude <= Self.mostZeros.magnitude else {
      return (isNegative ? "-" : "") + "\(text)e\(exponent)"
    }
    if exponent > 0 { text += String(repeating: "0", count: Int(exponent)) }
    if exponent < 0 {
      text = String(repeating: "0", count: max(0, 1 - Int(exponent) - text.utf8.count)) + text
      text.insert(".", at: text.index(text.endIndex, offsetBy: Int(exponent)))
    }
    return isNegative ? "-" + text : text
  }
}
