// Deadlines in order: a binary heap of moments, each with what waits for it.

/// A priority queue of deadlines. A value: who waits, and how time passes, is the loop's business.
struct Timers<Waiter> {
  private struct Entry {
    let deadline: UInt64
    let serial: UInt64
    let waiter: Waiter

    /// Equal deadlines keep the order in which they were set.
    func precedes(_ other: Entry) -> Bool {
      deadline != other.deadline ? deadline < other.deadline : serial < other.serial
    }
  }

  private var heap: [Entry] = []
  private var serials: UInt64 = 0

  var isEmpty: Bool { heap.isEmpty }
  /// The earliest deadline, in monotonic nanoseconds.
  var next: UInt64? { heap.first?.deadline }

  mutating func add(deadline: UInt64, _ waiter: Waiter) {
    serials += 1
    heap.append(Entry(deadline: deadline, serial: serials, waiter: waiter))
    var child = heap.count - 1
    while child > 0, heap[child].precedes(heap[(child - 1) / 2]) {
      heap.swapAt(child, (child - 1) / 2)
      child = (child - 1) / 2
    }
  }

  /// Takes out the earliest waiter whose deadline is not after `now`.
  mutating func takeDue(_ now: UInt64) -> Waiter? {
    guard let first = heap.first, first.deadline <= now else { return nil }
    heap.swapAt(0, heap.count - 1)
    heap.removeLast()
    var parent = 0
    while true {
      var smallest = parent
      for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && heap[child].precedes(heap[smallest]) {
        smallest = child
      }
      if smallest == parent { break }
      heap.swapAt(parent, smallest)
      parent = smallest
    }
    return first.waiter
  }
}
