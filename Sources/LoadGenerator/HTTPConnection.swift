// A client's connection: one request at a time, kept while the server keeps it.

import CLinux
import EventLoop
import Glibc
import Platform

/// Unchecked Sendable: made and used on its loop's thread only.
final class HTTPConnection: @unchecked Sendable {
  /// What became of a request.
  enum Outcome: Equatable {
    case answered(status: Int)
    case broken, timedOut
  }

  private let loop: EventLoop
  private var address: sockaddr_in
  private let buffer: UnsafeMutableRawBufferPointer
  private var descriptor: Int32 = -1
  private var watch: Watch?
  /// Since when a request is under way, in monotonic nanoseconds; 0: none is.
  private var busySince: UInt64 = 0
  private var hasTimedOut = false
  /// What a slow reader takes at a time, ten times a second; 0: all there is.
  private let sip: Int

  /// `buffer` may be shared with every other connection of the loop: what was read is used up at once.
  init(_ loop: EventLoop, _ address: sockaddr_in, buffer: UnsafeMutableRawBufferPointer, bytesPerSecond: Int = 0) {
    self.loop = loop
    self.address = address
    self.buffer = buffer
    sip = bytesPerSecond > 0 ? min(max(bytesPerSecond / 10, 1), buffer.count) : 0
  }

  deinit { close() }

  /// Sends a request and takes its answer. It is never sent twice: whether that is right is not for a generator to say.
  func exchange(_ request: [UInt8], isHead: Bool) async -> Outcome {
    busySince = MonotonicClock.now
    hasTimedOut = false
    let outcome = await attempt(request, isHead: isHead)
    busySince = 0
    if let outcome {
      if outcome.isLast { close() }
      return .answered(status: outcome.status)
    }
    close()
    return hasTimedOut ? .timedOut : .broken
  }

  /// Gives up a request that has been under way for longer than `limit` nanoseconds.
  func enforce(_ limit: UInt64, now: UInt64) {
    guard busySince > 0, now > busySince, now - busySince > limit else { return }
    hasTimedOut = true
    watch?.interrupt()
  }

  /// Gives up the request under way, if there is one.
  func giveUp() { if isBusy { enforce(0, now: .max) } }

  var isBusy: Bool { busySince > 0 }
  /// Whether it is open and nothing is under way.
  var isIdle: Bool { descriptor >= 0 && !isBusy && watch?.isHungUp == false }

  /// Opens the connection and leaves it at that; false if it can't be had.
  func connect() async -> Bool {
    let number = clinux_stream_socket(AF_INET, 1)
    guard number >= 0 else { return false }
    var one: Int32 = 1
    setsockopt(number, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
    if sip > 0 {
      var space = Int32(4096)
      setsockopt(number, SOL_SOCKET, SO_RCVBUF, &space, socklen_t(MemoryLayout<Int32>.size))
    }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(number, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard result == 0 || errno == EINPROGRESS,
      let watch = try? loop.watch(number, for: [.readable, .writable, .hungUp], edgeTriggered: true)
    else {
      Glibc.close(number)
      return false
    }
    descriptor = number
    self.watch = watch
    if result != 0 {
      await watch.writable()
      var code: Int32 = 0
      var size = socklen_t(MemoryLayout<Int32>.size)
      getsockopt(number, SOL_SOCKET, SO_ERROR, &code, &size)
      if code != 0 || hasTimedOut {
        close()
        return false
      }
    }
    return true
  }

  func close() {
    guard descriptor >= 0 else { return }
    watch?.cancel()
    watch = nil
    Glibc.close(descriptor)
    descriptor = -1
  }

  /// Nil if it was broken off.
  private func attempt(_ request: [UInt8], isHead: Bool) async -> (status: Int, isLast: Bool)? {
    // A server may close a connection that nobody uses.
    if watch?.isHungUp == true { close() }
    if descriptor < 0 { guard await connect() else { return nil } }
    guard await send(request) else { return nil }
    var answer = HTTPAnswer(toHead: isHead)
    let buffer = sip > 0 ? UnsafeMutableRawBufferPointer(rebasing: buffer[..<sip]) : buffer
    // There is nothing to be read yet: asking would be a system call for nothing.
    var mayHoldMore = false
    while !answer.isComplete {
      if !mayHoldMore {
        await watch?.readable()
        if hasTimedOut { return nil }
      }
      switch Transfer.read(descriptor, into: buffer) {
      case .bytes(let count):
        guard (try? answer.take(UnsafeRawBufferPointer(rebasing: buffer[..<count]))) != nil else { return nil }
        mayHoldMore = count == buffer.count
        if sip > 0, !answer.isComplete {
          await loop.sleep(.milliseconds(100))
          if hasTimedOut { return nil }
        }
      case .wouldBlock: mayHoldMore = false
      case .end: return answer.endsWithConnection ? (answer.status, true) : nil
      case .failed: return nil
      }
    }
    return (answer.status, answer.isLast)
  }

  private func send(_ request: [UInt8]) async -> Bool {
    var sent = 0
    while sent < request.count {
      let transfer = request.withUnsafeBytes {
        Transfer.write(descriptor, from: UnsafeRawBufferPointer(rebasing: $0[sent...]))
      }
      switch transfer {
      case .bytes(let count): sent += count
      case .wouldBlock:
        await watch?.writable()
        if hasTimedOut { return false }
      case .end, .failed: return false
      }
    }
    return true
  }
}
