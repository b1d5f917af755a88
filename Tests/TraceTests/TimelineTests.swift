// What is made of the calls: which belong to the request, in what order, and who has sent what to whom.

import Testing

@testable import Trace

@Suite struct TimelineTests {
  /// One request through a loop, shortened: microseconds behind 1.000000.
  private static let nginx = [
    call(0, 500, "epoll_wait(11<anon_inode:[eventpoll]>, [{}], 512, 254) = 1"),
    call(510, 10, "recvfrom(8<TCP:[127.0.0.1:80->127.0.0.1:9]>, \"G\"..., 1024, 0, NULL, NULL) = 83"),
    call(530, 10, "writev(9<UNIX-STREAM:[1->2]>, [{iov_base=\"\\1\"..., iov_len=184}], 1) = 184"),
    call(550, 150, "epoll_wait(11<anon_inode:[eventpoll]>, [{}], 512, 38) = 1"),
    call(710, 10, "recvfrom(9<UNIX-STREAM:[1->2]>, \"\\1\"..., 16384, 0, NULL, NULL) = 286"),
    call(730, 10, "writev(8<TCP:[127.0.0.1:80->127.0.0.1:9]>, [{}, ...], 2) = 339"),
    call(750, 36_000, "epoll_wait(11<anon_inode:[eventpoll]>, [], 512, 36) = 0"),
    call(36_760, 10, "write(5</log/access.log>, \"1\"..., 7051) = 7051"),
    "1.036800 epoll_wait(11<anon_inode:[eventpoll]>,  <detached ...>",
  ]
  private static let loop = [
    call(0, 300, "epoll_pwait2(6<anon_inode:[eventpoll]>, [], 256, {tv_sec=0, tv_nsec=300000}, NULL, 8) = 0"),
    call(310, 230, "epoll_pwait2(6<anon_inode:[eventpoll]>, [{}], 256, {tv_sec=1, tv_nsec=0}, NULL, 8) = 1"),
    call(541, 8, "recvfrom(10<UNIX-STREAM:[2->1,\"/run/async.sock\"]>, \"\\1\"..., 8192, MSG_PEEK, NULL, NULL) = 184"),
    call(550, 10, "read(10<UNIX-STREAM:[2->1,\"/run/async.sock\"]>, \"\\1\"..., 131072) = 184"),
    call(570, 10, "epoll_wait(6<anon_inode:[eventpoll]>, [], 256, 0) = 0"),
    call(600, 90, "sendto(10<UNIX-STREAM:[2->1,\"/run/async.sock\"]>, \"\\1\"..., 286, MSG_NOSIGNAL, NULL, 0) = 286"),
  ]

  private static func call(_ at: Int, _ took: Int, _ text: String) -> String {
    func decimals(_ number: Int) -> String { String(repeating: "0", count: 6 - "\(number)".count) + "\(number)" }
    return "1.\(decimals(at)) \(text) <0.\(decimals(took))>"
  }

  private static let timeline = Timeline(
    [(.nginx, nginx.compactMap { TracedCall($0) }), (.forkloop, loop.compactMap { TracedCall($0) })], since: 1_000_400)

  @Test("calls stand in their order, and those before the request, of timers and under way are left out")
  func order() {
    let told = Self.timeline.events.map { "\($0.at) \($0.process) \($0.name) \($0.object) \($0.outcome)" }
    #expect(
      told == [
        "0 nginx epoll_wait epoll 1 event", "20 nginx recvfrom client 83 B", "30 nginx writev forkloop 184 B",
        "40 forkloop epoll_pwait2 epoll 1 event", "49 forkloop recvfrom nginx peek",
        "60 forkloop read nginx 184 B",
        "80 forkloop epoll_wait epoll 0 events", "100 forkloop sendto nginx 286 B",
        "200 nginx epoll_wait epoll 1 event",
        "220 nginx recvfrom forkloop 286 B", "230 nginx writev client 339 B",
      ])
    #expect(Self.timeline.timers == 1)
    #expect(
      Self.timeline.count(.nginx) == 6 && Self.timeline.count(.forkloop) == 5 && Self.timeline.count(.postgres) == 0)
  }

  @Test("what had begun before the request has no duration")
  func waits() { #expect(Self.timeline.events.map(\.took) == [nil, 10, 10, nil, 8, 10, 10, 90, 150, 10, 10]) }

  @Test("a message goes from who has sent it to who has taken it, not to who has only looked at it")
  func messages() {
    #expect(
      Self.timeline.messages == [
        Timeline.Message(from: nil, to: 1), Timeline.Message(from: 2, to: 5), Timeline.Message(from: 7, to: 9),
        Timeline.Message(from: 10, to: nil),
      ])
  }

  @Test("a connection goes from who connects to who accepts, its end from who closes to who reads it")
  func connections() {
    let lines = [
      (
        TracedProcess.nginx,
        Self.call(1, 9, "connect(9<UNIX-STREAM:[1]>, {sa_family=AF_UNIX, sun_path=\"/s\"}, 110) = 0")
      ),
      (.forkloop, Self.call(11, 5, "accept4(3<UNIX-STREAM:[7,\"/s\"]>, NULL, NULL, 0) = 8<UNIX-STREAM:[2->1,\"/s\"]>")),
      (.forkloop, Self.call(21, 5, "close(8<UNIX-STREAM:[2->1,\"/s\"]>) = 0")),
      (.nginx, Self.call(31, 5, "readv(9<UNIX-STREAM:[1->2]>, [{}], 1) = 0")),
    ]
    let calls = TracedProcess.allCases.map { process in
      (process, lines.filter { $0.0 == process }.compactMap { TracedCall($0.1) })
    }
    #expect(
      Timeline(calls, since: 0).messages == [Timeline.Message(from: 0, to: 1), Timeline.Message(from: 2, to: 3)])
  }

  @Test("two columns where they fit, else one beneath the other")
  func columns() {
    let requests = TracedModel.allCases.map {
      TracedRequest(model: $0, timeline: Self.timeline, status: 200, bytes: 339, usual: 0.21)
    }
    let wide = TimelineText.write(requests, width: nil)
    #expect(wide.contains("│") && wide.contains("200, 339 bytes; 0.21 ms without strace"))
    #expect(TimelineText.write(requests, width: 200) == wide)
    let narrow = TimelineText.write(requests, width: 100)
    #expect(!narrow.contains("│") && narrow.split(separator: "\n").allSatisfy { $0.count <= 100 })
  }
}
