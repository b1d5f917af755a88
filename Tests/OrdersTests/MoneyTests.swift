import JSON
import Testing

@testable import Orders

@Suite("Money")
struct MoneyTests {
  @Test(
    "rounds totals half-even to two decimals",
    arguments: [
      (0, "0"), (1, "0"), (49, "0"), (50, "0"), (51, "0.01"), (150, "0.02"), (250, "0.02"), (251, "0.03"),
      (350, "0.04"), (27_500, "2.75"), (30_000, "3"),
      (25_000, "2.5"), (99_9950, "100"), (10_050, "1"), (10_150, "1.02"),
    ] as [(Int128, String)])
  func rounding(_ total: Int128, _ expected: String) {
    #expect(Money.text(ofTotal: total) == expected)
    var writer = JSONWriter()
    Money.write(total: total, to: &writer)
    #expect(String(decoding: writer.take(), as: UTF8.self) == expected)
  }

  @Test("writes the largest order there can be")
  func largest() {
    let total = Int128(Money.prices.upperBound) * 1_000_000 * 1_000
    #expect(Money.text(ofTotal: total) == "9999999999999900000")
    var writer = JSONWriter()
    Money.write(total: total, to: &writer)
    #expect(String(decoding: writer.take(), as: UTF8.self) == "9999999999999900000")
  }

  @Test(
    "writes the same by both ways around the border of 64 bits",
    arguments: [-201, -51, -50, -1, 0, 1, 50, 149, 151] as [Int128])
  func border(_ offset: Int128) {
    let total = Int128(1_000_000_000_000_000_000) + offset
    var writer = JSONWriter()
    Money.write(total: total, to: &writer)
    #expect(String(decoding: writer.take(), as: UTF8.self) == Money.text(ofTotal: total))
  }

  @Test(
    "says something of any number",
    arguments: [
      (-1, "0"), (-51, "-0.01"), (-150, "-0.02"), (-27_500, "-2.75"), (-30_000, "-3"),
      (Int128(Int64.min), "-922337203685477.58"), (Int128(Int64.max), "922337203685477.58"),
      (Int128.max, "17014118346046923173168730371588410.57"),
      (Int128.min, "-17014118346046923173168730371588410.57"),
    ] as [(Int128, String)])
  func anyTotal(_ total: Int128, _ expected: String) {
    var writer = JSONWriter()
    Money.write(total: total, to: &writer)
    #expect(String(decoding: writer.take(), as: UTF8.self) == expected)
  }

  @Test(
    "takes no other text for a price",
    arguments: [
      "", ".", ".5", "5.", "-1", "NaN", "Infinity", "1.2.3", "1e3", "99999999999999999999999.9", "10000000000",
      "9999999999.99991", "0.00001", "\u{301}",
    ])
  func anyText(_ text: String) { #expect(Money.tenThousandths(text.utf8.span) == nil) }

  @Test(
    "writes the extremes of 64 bits as prices",
    arguments: [(Int64.max, "922337203685477.5807"), (.min, "-922337203685477.5808")])
  func extremePrices(_ price: Int64, _ expected: String) { #expect(Money.text(ofPrice: price) == expected) }

  @Test(
    "reads PostgreSQL's text",
    arguments: [
      ("0.2500", 2_500), ("12.5", 125_000), ("3", 30_000), ("1.500000", 15_000), ("0.0001", 1),
      ("9999999999.9999", 99_999_999_999_999),
    ])
  func reading(_ text: String, _ expected: Int64) { #expect(Money.tenThousandths(text.utf8.span) == expected) }

  @Test(
    "writes prices in their shortest form",
    arguments: [(0, "0"), (1, "0.0001"), (2_500, "0.25"), (30_000, "3"), (99_999_999_999_999, "9999999999.9999")])
  func prices(_ price: Int64, _ expected: String) { #expect(Money.text(ofPrice: price) == expected) }
}
