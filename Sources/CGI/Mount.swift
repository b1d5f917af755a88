// What an answer refers to where the application does not stand at the root of its server.

import HTTPTypes

extension Request {
  /// The mount as it is written into a reference (RFC 3986 §3.3): what a path may not have is percent-encoded. It begins with one
  /// slash, since what follows two is a host, and ends with none.
  package var mountReference: String {
    let mount = mount
    var (start, end) = (0, mount.count)
    while start < end, mount[start] == UInt8(ascii: "/") { start += 1 }
    while end > start, mount[end - 1] == UInt8(ascii: "/") { end -= 1 }
    return start == end ? "" : "/" + QueryString.encoded(mount.extracting(start..<end), keeping: "!$&'()*+,;=:@/")
  }
}

extension Response {
  /// Puts the mount in front of every path of the application that a field refers to.
  package mutating func mount(at place: String) {
    for index in fields.indices {
      switch fields[index].name {
      case .location where fields[index].value.utf8.first == UInt8(ascii: "/"):
        fields[index].value = place + fields[index].value
      case .link where fields[index].value.utf8.starts(with: "</".utf8):
        fields[index].value = "<" + place + fields[index].value.dropFirst()
      default: break
      }
    }
  }
}
