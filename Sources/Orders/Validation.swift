// What every resource's validation is made of. It goes on after a fault, so that a client hears of all of them at once.

import JSON
import Text

extension UTF8Text {
  /// Keys are made once, and not each time that one is looked for.
  static let nameKey: UTF8Text = "name"
}

/// Takes values out of JSON and gathers what is wrong.
struct Validation {
  /// Of a name, in characters.
  static let longestName = 255

  /// Whether what comes is a merge patch (RFC 7396): at its root, what is absent stays as it is, and null removes.
  let isPatch: Bool
  private(set) var faults = Faults()

  init(isPatch: Bool = false) { self.isPatch = isPatch }

  /// `pointer` is made only where something is wrong, and told: each part of one is an allocation.
  mutating func report(
    _ pointer: @autoclosure () -> JSONPointer, _ code: Fault.Code, _ detail: @autoclosure () -> String
  ) {
    faults.report(Fault(pointer(), code, detail()))
  }

  /// What an object has under the few keys that it may have.
  struct Members {
    fileprivate let keys: [UTF8Text]
    fileprivate var values: [JSONValue?]

    subscript(key: UTF8Text) -> JSONValue? { keys.firstIndex(of: key).flatMap { values[$0] } }
  }

  /// The members of an object; unknown and repeated names are faults.
  mutating func object(_ value: JSONValue, _ pointer: JSONPointer, keys: [UTF8Text]) -> Members? {
    guard case .object(let members) = value else {
      report(pointer, .wrongType, "This must be an object, not \(value.kind).")
      return nil
    }
    var known = Members(keys: keys, values: Array(repeating: nil, count: keys.count))
    // As many as are told, at most: behind them it is all one which of both faults each is.
    var unknown: Set<UTF8Text> = []
    for member in members {
      let index = keys.firstIndex(of: member.name)
      if index.map({ known.values[$0] != nil }) ?? unknown.contains(member.name) {
        faults.report(.key(member.name, of: pointer, .duplicateKey, "The key is given more than once."))
      } else if index == nil {
        faults.report(.key(member.name, of: pointer, .unknown, "There is no such key here."))
        if unknown.count < Faults.most { unknown.insert(member.name) }
      }
      if let index { known.values[index] = member.value }
    }
    return known
  }

  /// The member `key`, which must be there, but for the root of a patch.
  private mutating func required(_ object: Members, _ key: UTF8Text, _ pointer: JSONPointer) -> JSONValue? {
    let isPatched = isPatch && pointer == .root
    guard let value = object[key] else {
      if !isPatched { report(pointer.member(key), .missing, "\(key) is required.") }
      return nil
    }
    if isPatched, case .null = value {
      report(pointer.member(key), .missing, "\(key) can't be removed.")
      return nil
    }
    return value
  }

  /// A string without U+0000, of at most `longest` characters (code points, as PostgreSQL counts them), not blank. One that is
  /// not required may be null: then it is nil, but the empty text where a patch removes it.
  mutating func text(
    _ object: Members, _ key: UTF8Text, _ pointer: JSONPointer, longest: Int, isRequired: Bool = true
  ) -> UTF8Text? {
    if !isRequired, object[key] == nil || object[key] == .null {
      return isPatch && object[key] == .null ? "" : nil
    }
    guard let value = required(object, key, pointer) else { return nil }
    guard case .string(let text) = value else {
      report(pointer.member(key), .wrongType, "\(key) must be a string, not \(value.kind).")
      return nil
    }
    if text.contains(0) {
      report(pointer.member(key), .nulCharacter, "\(key) must not hold U+0000.")
    } else if text.isBlank {
      report(pointer.member(key), .blank, "\(key) must not be blank.")
    } else if text.count > longest, text.codePointCount > longest {
      report(pointer.member(key), .tooLong, "\(key) must have at most \(longest) characters.")
    } else {
      return text
    }
    return nil
  }

  /// A name as all resources have one.
  mutating func name(_ object: Members) -> UTF8Text? {
    text(object, .nameKey, .root, longest: Self.longestName)
  }

  /// An integer within `range`; `1.0` and `1e2` are integers (JSON Schema 2020-12 §6.1.1).
  mutating func integer(
    _ object: Members, _ key: UTF8Text, _ pointer: JSONPointer, _ range: ClosedRange<Int64>
  ) -> Int64? {
    required(object, key, pointer).flatMap { integer($0, key, pointer.member(key), range) }
  }

  /// What there is at `pointer`, whose name is `what`.
  mutating func integer(
    _ value: JSONValue, _ what: UTF8Text, _ pointer: @autoclosure () -> JSONPointer, _ range: ClosedRange<Int64>
  ) -> Int64? {
    guard case .number(let number) = value else {
      report(pointer(), .wrongType, "\(what) must be an integer, not \(value.kind).")
      return nil
    }
    do throws(ExactDecimal.Misfit) {
      let integer = try number.scaled(by: 0)
      if range.contains(integer) { return integer }
      throw .outOfRange
    } catch {
      switch error {
      case .tooManyDecimals: report(pointer(), .wrongType, "\(what) must be an integer.")
      case .outOfRange:
        report(pointer(), .outOfRange, "\(what) must be from \(range.lowerBound) to \(range.upperBound).")
      }
      return nil
    }
  }

  /// An id: any positive 64-bit integer. Whether it exists the database knows.
  mutating func id(_ object: Members, _ key: UTF8Text, _ pointer: JSONPointer) -> Int64? {
    integer(object, key, pointer, 1...Int64.max)
  }

  /// A price in ten-thousandths.
  mutating func price(_ object: Members, _ key: UTF8Text, _ pointer: JSONPointer) -> Int64? {
    guard let value = required(object, key, pointer) else { return nil }
    guard case .number(let number) = value else {
      report(pointer.member(key), .wrongType, "\(key) must be a number, not \(value.kind).")
      return nil
    }
    do throws(ExactDecimal.Misfit) {
      let price = try number.scaled(by: Money.priceDecimals)
      if Money.prices.contains(price) { return price }
      throw .outOfRange
    } catch {
      switch error {
      case .tooManyDecimals:
        report(pointer.member(key), .tooManyDecimals, "\(key) must have at most \(Money.priceDecimals) decimals.")
      case .outOfRange:
        report(
          pointer.member(key), .outOfRange, "\(key) must be from 0 to \(Money.text(ofPrice: Money.prices.upperBound)).")
      }
      return nil
    }
  }

  /// An array's elements, at most `most`; nil if it is absent from a patch or wrong. One that is not required is empty where
  /// it is absent, or removed by a patch.
  mutating func array(
    _ object: Members, _ key: UTF8Text, _ pointer: JSONPointer, most: Int, isRequired: Bool
  ) -> [JSONValue]? {
    if !isRequired, isPatch ? object[key] == .null : object[key] == nil { return [] }
    guard let value = required(object, key, pointer) else { return nil }
    guard case .array(let elements) = value else {
      report(pointer.member(key), .wrongType, "\(key) must be an array, not \(value.kind).")
      return nil
    }
    guard elements.count <= most else {
      report(pointer.member(key), .tooManyItems, "\(key) must have at most \(most) items, not \(elements.count).")
      return nil
    }
    return elements
  }
}
