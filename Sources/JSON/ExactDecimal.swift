// Numbers as JSON writes them, without binary floating point.

/// A decimal number of any size: (−1)^sign × digits × 10^exponent, with neither leading nor trailing zeros in `digits`,
/// and no digits for zero. `1.50`, `15e-1` and `1.5` are equal.
package struct ExactDecimal: Equatable, Sendable {
  package let isNegative: Bool
  /// Values 0 to 9, the most significant first.
  package let digits: [UInt8]
  package let exponent: Int

  /// What stands in the way of an integer.
  package enum Misfit: Error, Equatable {
    case tooManyDecimals
    case outOfRange
  }

  /// From the parts of a JSON number; `digits` begin with none that is 0, and `exponent` counts for the last one.
  init(isNegative: Bool, digits: consuming [UInt8], exponent: Int) {
    var exponent = exponent
    while digits.last == 0 {
      digits.removeLast()
      exponent += 1
    }
    self.isNegative = isNegative && !digits.isEmpty
    self.exponent = digits.isEmpty ? 0 : exponent
    self.digits = digits
  }

  /// The number × 10^`places`, if that is an integer of 64 bits: prices in ten-thousandths, ids with no places.
  package func scaled(by places: Int) throws(Misfit) -> Int64 {
    if digits.isEmpty { return 0 }
    let shift = exponent + places
    guard shift >= 0 else { throw .tooManyDecimals }
    guard digits.count + shift <= 19 else { throw .outOfRange }
    var value: Int64 = 0
    for index in 0..<(digits.count + shift) {
      let digit = index < digits.count ? Int64(digits[index]) : 0
      let (product, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, carry) = product.subtractingReportingOverflow(digit)
      if overflow || carry { throw .outOfRange }
      value = sum
    }
    // Gathered below zero, where there is room for Int64.min.
    if isNegative { return value }
    guard value != .min else { throw .outOfRange }
    return -value
  }
}
