// An order as JSON, from the rows of a statement, each of which joins its order here.

import JSON
import Postgres

/// The rows of one result, grouped by order. Its memory is used again for the next result.
struct OrderRows {
  private struct Entry {
    let order: Int64
    let position: Int64
    var row: Int

    static func precedes(_ a: Entry, _ b: Entry) -> Bool {
      a.order != b.order ? a.order < b.order : a.position < b.position
    }
  }

  private struct Part {
    var entries: ContiguousArray<Entry> = []
    private var isSorted = true
    /// How far orders have been written.
    var cursor = 0

    /// How many entries there is memory for when there are none.
    static let mostKept = 8_192

    mutating func clear() {
      // A page of the largest orders should not stay in memory for good.
      entries.removeAll(keepingCapacity: entries.capacity <= Self.mostKept)
      isSorted = true
      cursor = 0
    }

    mutating func append(_ entry: Entry) {
      if isSorted, let last = entries.last, Entry.precedes(entry, last) { isSorted = false }
      entries.append(entry)
    }

    mutating func sort() {
      if !isSorted { entries.sort(by: Entry.precedes) }
    }

    /// The order of an entry; nil if there are not so many.
    func order(at index: Int) -> Int64? { index < entries.count ? entries[index].order : nil }

    /// The row at a position, in a part that has one order's only.
    func row(at position: Int64) -> Int? {
      var (low, high) = (0, entries.count)
      while low < high {
        let middle = (low &+ high) / 2
        if entries[middle].position < position { low = middle &+ 1 } else { high = middle }
      }
      return low < entries.count && entries[low].position == position ? entries[low].row : nil
    }

    /// The next entry of `order`; entries of orders before it are passed over.
    mutating func next(of order: Int64) -> Entry? {
      while cursor < entries.count, entries[cursor].order < order { cursor &+= 1 }
      guard cursor < entries.count, entries[cursor].order == order else { return nil }
      defer { cursor &+= 1 }
      return entries[cursor]
    }
  }

  /// How many columns the rows of a list have.
  private static let listWidth = 7

  private var orders = Part()
  private var lines = Part()
  private var tags = Part()
  private var names = Part()

  /// The first order of which it is known that a page that begins with the first of these can't have it, too.
  private var firstTooMany: Int64?

  /// Orders gathered.
  var count: Int { orders.entries.count }

  /// How many of them one page can have: at least one, if there is any.
  var fitting: Int {
    guard let firstTooMany else { return count }
    return min(count, max(1, orders.entries.firstIndex { $0.order >= firstTooMany } ?? count))
  }

  /// Lets go of the rows' places, and of the memory for them if that is much.
  mutating func clear() {
    orders.clear()
    lines.clear()
    tags.clear()
    names.clear()
  }

  func id(_ index: Int) -> Int64 { orders.entries[index].order }

  /// Sorts the rows into their orders. The columns are described at the statements.
  mutating func gather(_ rows: ResultSet) {
    clear()
    for row in 0..<rows.rowCount {
      let kind = rows.bytes(row, 1)
      if kind.isEmpty { continue }
      let entry = Entry(order: rows.integer(row, 0), position: rows.integer(row, 2), row: row)
      switch kind[0] {
      case UInt8(ascii: "0"): orders.append(entry)
      case UInt8(ascii: "1"): lines.append(entry)
      case UInt8(ascii: "7"): names.append(entry)
      default: tags.append(entry)
      }
    }
    orders.sort()
    lines.sort()
    tags.sort()
    names.sort()
    firstTooMany = lines.order(at: Order.mostLines)
    if let order = tags.order(at: Order.mostLinks) { firstTooMany = min(order, firstTooMany ?? order) }
    // Names of their own are a list's, which has no versions.
    guard rows.columnCount == Self.listWidth else { return }
    var isHidden = false
    for index in tags.entries.indices {
      let row = names.row(at: tags.entries[index].position)
      if row == nil { isHidden = true }
      tags.entries[index].row = row ?? -1
    }
    // A policy of the database's own may hide a tag, and not its links.
    if isHidden { tags.entries.removeAll { $0.row < 0 } }
  }

  /// Writes an order. Orders must be written in the order of their index, each once.
  mutating func write(_ index: Int, of rows: ResultSet, to writer: inout JSONWriter) {
    let order = orders.entries[index]
    var shape = OrderShape()
    shape.begin(rows, order.row, &writer)
    while let line = lines.next(of: order.order) {
      let (quantity, price) = (rows.bytes(line.row, 5), rows.bytes(line.row, 6))
      guard let tenThousandths = Money.tenThousandths(price) else {
        writer.reject(.number)
        continue
      }
      let worth = Int128(rows.integer(line.row, 5)) &* Int128(tenThousandths)
      shape.line(rows.bytes(line.row, 4), quantity: quantity, price: price, worth: worth, &writer)
    }
    shape.endLines(&writer)
    while let tag = tags.next(of: order.order) { shape.tag(rows, tag.row, &writer) }
    shape.end(&writer)
  }
}

/// An order's JSON: begin, lines, endLines, tags, end.
private struct OrderShape {
  /// Ten-thousandths.
  private var total: Int128 = 0
  private var isFirst = true

  func begin(_ rows: ResultSet, _ row: Int, _ writer: inout JSONWriter) {
    writer.raw(#"{"id":"#)
    writer.number(rows.bytes(row, 0))
    writer.raw(#","name":"#)
    writer.text(rows, row, 3)
    writer.raw(#","contact_id":"#)
    writer.number(rows.bytes(row, 4))
    writer.raw(#","order_lines":["#)
  }

  /// Numbers are passed as their text; `worth` is quantity × price, in ten-thousandths.
  @inline(__always)
  mutating func line(
    _ product: Span<UInt8>, quantity: Span<UInt8>, price: Span<UInt8>, worth: Int128, _ writer: inout JSONWriter
  ) {
    if isFirst { writer.raw(#"{"product_id":"#) } else { writer.raw(#",{"product_id":"#) }
    isFirst = false
    writer.number(product)
    writer.raw(#","quantity":"#)
    writer.number(quantity)
    writer.raw(#","price":"#)
    writer.decimal(price)
    writer.raw("}")
    total &+= worth
  }

  mutating func endLines(_ writer: inout JSONWriter) {
    writer.raw(#"],"tags":["#)
    isFirst = true
  }

  @inline(__always)
  mutating func tag(_ rows: ResultSet, _ row: Int, _ writer: inout JSONWriter) {
    if isFirst { writer.raw(#"{"name":"#) } else { writer.raw(#",{"name":"#) }
    isFirst = false
    writer.text(rows, row, 3)
    writer.raw("}")
  }

  func end(_ writer: inout JSONWriter) {
    writer.raw(#"],"amount_total":"#)
    Money.write(total: total, to: &writer)
    writer.raw("}")
  }
}
