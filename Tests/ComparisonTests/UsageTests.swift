// What processes have used, and that nothing of it is lost where they end.

import Glibc
import Testing

@testable import Comparison

@Suite struct UsageTests {
  @Test func aProcessKnowsItsTimeAndMemory() {
    let table = ProcessTable()
    #expect(table.family(of: getpid()).contains(getpid()))
    #expect(table.memory(of: getpid()) > 1 << 20)
    var meter = Meter(of: getpid())
    let usage = meter.read(table)
    #expect(usage.switches > 0 && usage.cpu > 0)
    #expect(table.family(of: -1).isEmpty)
  }

  @Test("a thread that has ended counts, to the nanosecond")
  func threads() throws {
    var meter = Meter(of: getpid())
    let before = meter.read(ProcessTable())
    var thread = pthread_t()
    let code = pthread_create(
      &thread, nil,
      { _ in
        var time = timespec()
        while time.tv_nsec < 5_000_000 { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) }
        return nil
      }, nil)
    try #require(code == 0)
    pthread_join(thread, nil)
    #expect(meter.read(ProcessTable()).cpu - before.cpu >= 0.005)
  }

  private func process(_ number: pid_t, start: Int = 1) -> ProcessKey { ProcessKey(process: number, start: start) }

  @Test("a process that has ended counts with what was last seen of it, and not in ticks of the clock")
  func ended() {
    var meter = Meter(of: 1)
    let loop = Usage(cpu: 0.0196, switches: 7)
    _ = meter.update([process(1): Usage(cpu: 0.001, switches: 1), process(2): loop], ended: 0)
    // Both its user and its system time are cut to whole ticks when it has ended: this was all, and seemed to be nothing.
    let after = meter.update([process(1): Usage(cpu: 0.001, switches: 1), process(3): Usage(cpu: 0.004)], ended: 0)
    #expect(after == Usage(cpu: 0.001 + 0.0196 + 0.004, switches: 8))
  }

  @Test("those who came and went unseen count with what the system knows of them")
  func unseen() {
    var meter = Meter(of: 1)
    #expect(meter.update([process(1): Usage(cpu: 1)], ended: 0.5).cpu == 1.5)
    #expect(meter.update([process(1): Usage(cpu: 1)], ended: 0.75).cpu == 1.75)
  }

  @Test("a number that is used again is another process")
  func again() {
    var meter = Meter(of: 1)
    _ = meter.update([process(2): Usage(cpu: 0.3, switches: 3)], ended: 0)
    let after = meter.update([process(2, start: 9): Usage(cpu: 0.1, switches: 1)], ended: 0)
    #expect(abs(after.cpu - 0.4) < 1e-9 && after.switches == 4)
  }

  @Test("what has been used never becomes less, whoever ends")
  func never() {
    var meter = Meter(of: 1)
    var last = 0.0
    for step in 0..<50 {
      let alive = Dictionary(
        uniqueKeysWithValues: (0..<4).filter { (step / ($0 + 1)) % 3 != 0 }.map {
          (process(pid_t($0), start: step / 9), Usage(cpu: Double(step % 9) * 0.001))
        })
      let now = meter.update(alive, ended: Double(step / 10) * 0.01).cpu
      #expect(now >= last || alive.isEmpty, "step \(step)")
      last = max(last, now)
    }
  }
}
