// Money without binary floating point: integers of ten-thousandths, sums wide enough for any order.

import JSON

/// Prices have four decimals, totals two. A price fits 47 bits, a quantity 20, a thousand lines 10: sums take 128.
package enum Money {
  /// Decimals of a price, as of the column `numeric(14,4)`.
  package static let priceDecimals = 4
  /// What a price can be, in ten-thousandths.
  package static let prices: ClosedRange<Int64> = 0...99_999_999_999_999

  /// PostgreSQL's text of a price, such as `12.5000`, in ten-thousandths. Nil if it is none: NULL, NaN, negative, more than a
  /// price can be, or with more decimals.
  package static func tenThousandths(_ text: Span<UInt8>) -> Int64? {
    var value: Int64 = 0
    // Behind the point; -1 before it.
    var decimals = -1
    for index in text.indices {
      let digit = text[unchecked: index] &- 0x30
      if digit > 9 {
        guard text[unchecked: index] == UInt8(ascii: "."), decimals < 0, index > 0 else { return nil }
        decimals = 0
      } else if decimals == priceDecimals {
        guard digit == 0 else { return nil }
      } else {
        value = value &* 10 &+ Int64(digit)
        if value > prices.upperBound { return nil }
        if decimals >= 0 { decimals &+= 1 }
      }
    }
    for _ in max(decimals, 0)..<priceDecimals { value = value &* 10 }
    return text.count > 0 && decimals != 0 && value <= prices.upperBound ? value : nil
  }

  /// A price's shortest text: `12.5`, `3`.
  package static func text(ofPrice price: Int64) -> String { text(Int128(price), decimals: priceDecimals) }

  /// A sum of ten-thousandths, rounded half-even to two decimals, in its shortest text: `2.75`, `3`.
  package static func text(ofTotal total: Int128) -> String { text(cents(total), decimals: 2) }

  /// Ten-thousandths to hundredths, half-even (IEEE 754 roundTiesToEven).
  static func cents(_ total: Int128) -> Int128 {
    let (cents, rest) = total.quotientAndRemainder(dividingBy: 100)
    let isUp = rest.magnitude > 50 || (rest.magnitude == 50 && cents % 2 != 0)
    return isUp ? cents + total.signum() : cents
  }

  private static func text(_ value: Int128, decimals: Int) -> String {
    var digits = String(value.magnitude)
    if digits.utf8.count <= decimals {
      digits = String(repeating: "0", count: decimals + 1 - digits.utf8.count) + digits
    }
    let whole = digits.dropLast(decimals)
    var fraction = digits.suffix(decimals)
    while fraction.last == "0" { fraction.removeLast() }
    let sign = value < 0 ? "-" : ""
    return fraction.isEmpty ? "\(sign)\(whole)" : "\(sign)\(whole).\(fraction)"
  }

  /// Writes what `text(ofTotal:)` says, without a String where 64 bits are enough.
  static func write(total: Int128, to writer: inout JSONWriter) {
    guard total >= 0, total <= 1_000_000_000_000_000_000 else {
      writer.raw(text(ofTotal: total).utf8.span)
      return
    }
    let value = Int64(truncatingIfNeeded: total)
    var cents = value / 100
    let rest = value % 100
    if rest > 50 || (rest == 50 && cents % 2 == 1) { cents += 1 }
    writer.unsigned(UInt64(cents / 100))
    let fraction = UInt8(cents % 100)
    if fraction > 0 {
      writer.byte(UInt8(ascii: "."))
      writer.byte(0x30 + fraction / 10)
      if fraction % 10 > 0 { writer.byte(0x30 + fraction % 10) }
    }
  }
}
