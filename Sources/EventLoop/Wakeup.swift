// How another thread wakes a loop that waits: an eventfd.

import CLinux
import Glibc
import Platform

/// An eventfd(2). `ring` may be called from any thread.
struct Wakeup: ~Copyable {
  private let descriptor: Descriptor

  init() throws(SystemError) { descriptor = Descriptor(owning: try syscall("eventfd") { eventfd(0, clinux_EFD) }) }

  var number: Int32 { descriptor.number }

  func ring() { eventfd_write(descriptor.number, 1) }

  func silence() {
    var value: eventfd_t = 0
    eventfd_read(descriptor.number, &value)
  }
}
