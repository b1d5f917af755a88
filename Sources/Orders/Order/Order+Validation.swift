// An order as a client sends it.

import JSON
import Postgres
import Text

extension UTF8Text {
  fileprivate static let contactKey: UTF8Text = "contact_id"
  fileprivate static let linesKey: UTF8Text = "order_lines"
  fileprivate static let tagsKey: UTF8Text = "tag_ids"
  fileprivate static let productKey: UTF8Text = "product_id"
  fileprivate static let quantityKey: UTF8Text = "quantity"
  fileprivate static let priceKey: UTF8Text = "price"
}

/// `{name, contact_id, order_lines: [{product_id, quantity, price}], tag_ids}`, checked as far as it can be without the
/// database; what a merge patch leaves out is nil.
struct OrderInput: Sendable {
  static let mostLines = 1_000
  static let mostTags = 100
  static let quantities: ClosedRange<Int64> = 1...1_000_000

  private static let keys: [UTF8Text] = [.nameKey, .contactKey, .linesKey, .tagsKey]

  struct Line: Sendable {
    private static let keys: [UTF8Text] = [.productKey, .quantityKey, .priceKey]

    let productID: Int64
    let quantity: Int64
    /// Ten-thousandths.
    let price: Int64

    init?(_ value: JSONValue, _ pointer: JSONPointer, _ validation: inout Validation) {
      guard let object = validation.object(value, pointer, keys: Self.keys) else {
        return nil
      }
      let productID = validation.id(object, .productKey, pointer)
      let quantity = validation.integer(object, .quantityKey, pointer, OrderInput.quantities)
      let price = validation.price(object, .priceKey, pointer)
      guard let productID, let quantity, let price else { return nil }
      self.productID = productID
      self.quantity = quantity
      self.price = price
    }
  }

  let name: UTF8Text?
  let contactID: Int64?
  let lines: [Line]?
  let tagIDs: [Int64]?

  init?(_ value: JSONValue, _ validation: inout Validation) {
    let root = JSONPointer.root
    guard let object = validation.object(value, root, keys: Self.keys) else { return nil }
    name = validation.name(object)
    contactID = validation.id(object, .contactKey, root)
    lines = validation.array(object, .linesKey, root, most: Self.mostLines, isRequired: true).map { lines in
      let pointer = root.member(.linesKey)
      return lines.enumerated().compactMap { index, line in Line(line, pointer.element(index), &validation) }
    }
    tagIDs = validation.array(object, .tagsKey, root, most: Self.mostTags, isRequired: false).map { tags in
      var ids: [Int64] = []
      for (index, tag) in tags.enumerated() {
        func pointer() -> JSONPointer { root.member(.tagsKey).element(index) }
        guard let id = validation.integer(tag, "A tag's id", pointer(), 1...Int64.max) else { continue }
        if ids.contains(id) { validation.report(pointer(), .repeated, "The tag \(id) is given more than once.") }
        ids.append(id)
      }
      return ids
    }
  }

  /// Name, contact, products, quantities and prices of the lines, tags; NULL for what is not there.
  func append(to parameters: inout Parameters) {
    parameters.append(name)
    parameters.append(contactID)
    parameters.append(array: lines?.map(\.productID))
    parameters.append(array: lines?.map(\.quantity))
    parameters.append(array: lines?.map(\.price), decimals: Money.priceDecimals)
    parameters.append(array: tagIDs)
  }

  /// What the statement found missing.
  private struct Missing {
    private(set) var contact = false
    private(set) var products: Set<Int64> = []
    private(set) var tags: Set<Int64> = []

    var isEmpty: Bool { !contact && products.isEmpty && tags.isEmpty }

    init(_ rows: ResultSet) {
      for row in 0..<rows.rowCount {
        switch rows.integer(row, 1) {
        case 3: contact = true
        case 4: products.insert(rows.integer(row, 0))
        case 5: tags.insert(rows.integer(row, 0))
        default: break
        }
      }
    }
  }

  /// What stands in the way, if something that it refers to is missing.
  func problem(with rows: ResultSet) -> Problem? {
    let missing = Missing(rows)
    return missing.isEmpty ? nil : .unprocessable(faults(for: missing))
  }

  /// A fault for every place that names something missing.
  private func faults(for missing: Missing) -> Faults {
    let root = JSONPointer.root
    var faults = Faults()
    if missing.contact, let contactID {
      faults.report(Fault(root.member(.contactKey), .notFound, "There is no contact \(contactID)."))
    }
    for (index, line) in (lines ?? []).enumerated() where missing.products.contains(line.productID) {
      let pointer = root.member(.linesKey).element(index).member(.productKey)
      faults.report(Fault(pointer, .notFound, "There is no product \(line.productID)."))
    }
    for (index, tag) in (tagIDs ?? []).enumerated() where missing.tags.contains(tag) {
      faults.report(Fault(root.member(.tagsKey).element(index), .notFound, "There is no tag \(tag)."))
    }
    return faults
  }
}
