// How much memory a process has.

import CLinux
import Glibc

package enum Memory {
  /// More than this, in bytes, is kept by no buffer for the next time; and after a request or an answer that has more, what it took
  /// is given back to the system.
  @inlinable package static var large: Int { 256 << 10 }

  /// Gives back to the system what this process has freed, wherever it lies: what is freed below something that is still used stays
  /// otherwise. Takes some milliseconds where that is much.
  package static func trim() { clinux_trim_heap() }

  /// Bytes that this process has allocated and not freed, mallinfo(3).
  package static var heap: Int { clinux_heap() }

  /// Resident bytes (RSS), pages shared with others counted in full, from /proc/PID/statm; 0 if the process has gone.
  package static func resident(of process: pid_t) -> Int {
    let number = clinux_open_read("/proc/\(process)/statm")
    guard number >= 0 else { return 0 }
    let descriptor = Descriptor(owning: number)
    return withUnsafeTemporaryAllocation(byteCount: 128, alignment: 1) { buffer in
      let count = read(descriptor.number, buffer.baseAddress, buffer.count)
      guard count > 0 else { return 0 }
      // The second field, in pages.
      let fields = buffer[..<count].split(separator: UInt8(ascii: " "), maxSplits: 2)
      guard fields.count > 1 else { return 0 }
      return (Int(String(decoding: fields[1], as: UTF8.self)) ?? 0) * Int(getpagesize())
    }
  }
}
