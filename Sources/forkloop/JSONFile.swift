// Files that one command writes and another reads.

import CLinux
import Glibc
import Platform

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

enum JSONFile {
  /// What a file holds. What is wrong with it is one line for a person, not Foundation's own account of it.
  static func read<Value: Decodable>(_: Value.Type, from path: String, as kind: String) throws(SettingsError) -> Value {
    let number = clinux_open_read(path)
    guard number >= 0 else { throw SettingsError("\(path) can't be read: \(String(cString: strerror(errno)))") }
    let file = Descriptor(owning: number)
    var bytes = Data()
    let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
    defer { chunk.deallocate() }
    while true {
      let count = Glibc.read(file.number, chunk.baseAddress, chunk.count)
      if count == 0 { break }
      guard count > 0 else { throw SettingsError("\(path) can't be read: \(String(cString: strerror(errno)))") }
      bytes.append(contentsOf: chunk[..<count])
    }
    do {
      return try JSONDecoder().decode(Value.self, from: bytes)
    } catch let error as DecodingError {
      throw SettingsError("\(path) is no \(kind) that can be read: \(describe(error))")
    } catch {
      throw SettingsError("\(path) is no \(kind) that can be read")
    }
  }

  private static func describe(_ error: DecodingError) -> String {
    func place(_ context: DecodingError.Context) -> String {
      context.codingPath.map(\.stringValue).joined(separator: ".")
    }
    return switch error {
    case .keyNotFound(let key, let context):
      "'\(key.stringValue)' is missing" + (context.codingPath.isEmpty ? "" : " in \(place(context))")
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
      context.codingPath.isEmpty ? "it is no such JSON" : "\(place(context)) is not what it should be"
    @unknown default: "it is not understood"
    }
  }
}
