// Lines as strace 6.1 has written them.

import Testing

@testable import Trace

@Suite struct TracedCallTests {
  @Test("a call has a name, arguments, a result and a duration")
  func call() throws {
    let call = try #require(
      TracedCall(
        #"1795720087.628781 read(8<UNIX-STREAM:[184981308->184981301,"/tmp/s.sock"]>, "\1"..., 8192) = 184 <0.000021>"#)
    )
    #expect(call.name == "read" && call.began == 1_795_720_087_628_781 && call.took == 21)
    #expect(call.arguments == [#"8<UNIX-STREAM:[184981308->184981301,"/tmp/s.sock"]>"#, #""\1"..."#, "8192"])
    #expect(call.value == 184 && call.error == nil && call.ended == 1_795_720_087_628_802)
  }

  @Test(
    "whatever stands in the arguments, they end where they end",
    arguments: [
      (#"1.000001 write(1</tmp/a>, ")"..., 9) = 9 <0.000001>"#, 3),
      (#"1.000001 write(1</tmp/a>, "\""..., 9) = 9 <0.000001>"#, 3),
      (
        #"1.000001 epoll_wait(6<anon_inode:[eventpoll]>, [{events=EPOLLIN, data={u32=1, u64=2}}], 256, 0) = 1 <0.000001>"#,
        4
      ),
      (#"1.000001 connect(9<UNIX-STREAM:[1]>, {sa_family=AF_UNIX, sun_path="/a, (b"}, 110) = 0 <0.000001>"#, 3),
      (
        #"1.000001 poll([{fd=7<UNIX-STREAM:[1->2]>, events=POLLIN}], 1, -1)    = 1 ([{fd=7, revents=POLLIN}]) <0.000007>"#,
        3
      ),
      ("1.000001 gettid()              = 5466 <0.000008>", 0),
    ])
  func arguments(line: String, count: Int) throws {
    let call = try #require(TracedCall(line))
    #expect(call.arguments.count == count && call.value != nil && call.took != nil)
  }

  @Test("a failure has its error's name")
  func failure() throws {
    let call = try #require(
      TracedCall(
        "1.000001 accept4(3<UNIX-STREAM:[1,\"/s\"]>, NULL, NULL, SOCK_CLOEXEC) = -1 EAGAIN (Resource temporarily unavailable) <0.000012>"
      ))
    #expect(call.value == -1 && call.error == "EAGAIN" && call.outcome == "EAGAIN")
  }

  @Test("a result may be a descriptor")
  func descriptor() throws {
    let call = try #require(
      TracedCall(
        #"1.000001 accept4(3<UNIX-STREAM:[1,"/s"]>, NULL, NULL, SOCK_CLOEXEC) = 8<UNIX-STREAM:[5->4,"/s"]> <0.000023>"#)
    )
    #expect(call.value == 8 && call.took == 23)
    #expect(call.descriptor?.kind == .unix(inode: "5", peer: "4", path: "/s"))
  }

  @Test("what has not returned has no result")
  func unfinished() throws {
    for end in [" <detached ...>", "", " <unfinished ...>"] {
      let call = try #require(TracedCall("1.000001 epoll_wait(9<anon_inode:[eventpoll]>, \(end)"))
      #expect(call.name == "epoll_wait" && call.result == nil && call.took == nil && call.ended == nil)
    }
  }

  @Test("what was interrupted and goes on is the call that it was")
  func restarted() throws {
    let call = try #require(
      TracedCall("1.000001 restart_syscall(<... resuming interrupted poll ...>) = 1 <0.219398>"))
    #expect(call.name == "poll" && call.value == 1 && call.isWait)
  }

  @Test(
    "other lines are no calls",
    arguments: [
      "", "1.000001", "1.000001 --- SIGALRM {si_signo=SIGALRM, si_code=SI_KERNEL} ---",
      "1.000001 +++ exited with 0 +++",
      "read(3, \"\", 1) = 0 <0.000001>", "1.1 read(3) = 0 <0.000001>",
      "99999999999999999999.000001 read(3) = 0 <0.000001>",
    ])
  func others(line: String) { #expect(TracedCall(line) == nil) }

  @Test(
    "a descriptor is what its brackets say",
    arguments: [
      (
        "8<TCP:[127.0.0.1:80->127.0.0.1:57678]>",
        TracedDescriptor.Kind.tcp(local: "127.0.0.1:80", peer: "127.0.0.1:57678")
      ),
      ("6<TCP:[127.0.0.1:80]>", .tcp(local: "127.0.0.1:80", peer: nil)),
      ("9<UNIX-STREAM:[1->2]>", .unix(inode: "1", peer: "2", path: nil)),
      (#"3<UNIX-STREAM:[1,"/a.sock"]>"#, .unix(inode: "1", peer: nil, path: "/a.sock")),
      ("5<anon_inode:[eventpoll]>", .anonymous("eventpoll")),
      ("5</var/log/access.log>", .other("/var/log/access.log")), ("4<socket:[12]>", .other("socket:[12]")),
    ])
  func kinds(text: String, kind: TracedDescriptor.Kind) { #expect(TracedDescriptor(text)?.kind == kind) }

  @Test func whatIsNoDescriptorIsNone() {
    for text in ["", "5", "AF_UNIX", "x<y>", "[{fd=5}]", "<... x>"] { #expect(TracedDescriptor(text) == nil) }
  }
}
