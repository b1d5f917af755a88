// Who runs where.

import Testing

@testable import Comparison

@Suite struct ProcessorsTests {
  @Test("with fewer than four processors all share all", arguments: 1...3)
  func few(_ count: Int) {
    let processors = Processors(allowed: Array(0..<count))
    #expect(!processors.areDivided)
    #expect(processors.servers == Array(0..<count) && processors.count == count)
  }

  @Test("from four on the generator has a quarter to itself", arguments: [(4, 1), (7, 1), (8, 2), (64, 16)])
  func many(_ count: Int, _ own: Int) {
    let processors = Processors(allowed: Array(0..<count))
    #expect(processors.generator.count == own && processors.count == count)
    #expect(Set(processors.generator).isDisjoint(with: processors.servers))
  }

  @Test("the kernel's lists are read, and what is none is nothing")
  func lists() {
    #expect(Processors.parse("\t0-3,8") == [0, 1, 2, 3, 8])
    #expect(Processors.parse("5") == [5])
    for text in ["", "a", "3-1", "1-2-3", "-1", "0-99999999", "1,x"] {
      #expect(Processors.parse(text) == [], "\(text)")
    }
  }

  @Test("this machine's are as many as it lets this process have")
  func current() {
    let processors = Processors.current()
    #expect(processors.count >= 1)
    #expect(Set(processors.servers).count == processors.servers.count)
  }

  @Test("only what is divided is run on some of them")
  func arguments() {
    var tools = Tools(program: "forkloop", taskset: "/usr/bin/taskset", processors: Processors(allowed: [0, 1, 2, 3]))
    #expect(
      tools.divided(tools.processors.generator, ["x"]) == ["/usr/bin/taskset", "-c", "3", "x"])
    #expect(tools.divided(tools.processors.servers, ["x"]) == ["/usr/bin/taskset", "-c", "0,1,2", "x"])
    tools.processors = Processors(allowed: [0, 1])
    #expect(tools.divided(tools.processors.servers, ["x"]) == ["x"])
    tools.taskset = nil
    #expect(tools.on([1], ["x"]) == ["x"])
  }
}
