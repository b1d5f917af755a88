import Glibc
import Testing

@testable import Platform

@Suite("ListenAddress")
struct ListenAddressTests {
  @Test(
    "understands what users write",
    arguments: [
      ("unix:/run/x.sock", ListenAddress.unix(path: "/run/x.sock")),
      ("127.0.0.1:9000", .tcp(host: "127.0.0.1", port: 9000)),
      ("[::1]:9000", .tcp(host: "::1", port: 9000)), ("localhost:1", .tcp(host: "localhost", port: 1)),
      ("fd:0", .inherited(0)),
    ])
  func understood(_ text: String, _ expected: ListenAddress) throws {
    let address = try ListenAddress(text)
    #expect(address == expected)
    #expect(address.description == text)
  }

  @Test(
    "refuses the rest",
    arguments: [
      "", "unix:", "/run/x.sock", "9000", ":9000", "host:0", "host:70000", "fd:", "fd:-1", "fd:x",
      "unix:/" + String(repeating: "x", count: 107),
    ])
  func refused(_ text: String) { #expect(throws: ListenAddress.Malformed.self, "\(text)") { try ListenAddress(text) } }
}

@Suite("ListeningSocket")
struct ListeningSocketTests {
  private func withPath(_ body: (String) throws -> Void) rethrows {
    var template = Array("/tmp/forkloop-test-XXXXXX".utf8CString)
    let folder = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
    defer {
      unlink("\(folder)/s")
      rmdir(folder)
    }
    try body("\(folder)/s")
  }

  private func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  @Test("makes a socket of mode 0660 and removes it again")
  func mode() throws {
    try withPath { path in
      let socket = try ListeningSocket(.unix(path: path))
      var status = stat()
      #expect(lstat(path, &status) == 0)
      #expect(status.st_mode & 0o777 == 0o660)
      _ = socket.refuseNewConnections()
      #expect(!exists(path))
    }
  }

  @Test("takes over a path that nobody answers on, but not one that somebody does")
  func stale() throws {
    try withPath { path in
      do { _ = try ListeningSocket(.unix(path: path)) }
      #expect(exists(path), "the descriptor was closed, the path is left")
      let second = try ListeningSocket(.unix(path: path))
      #expect(throws: ListeningSocket.Failure.self) { _ = try ListeningSocket(.unix(path: path)) }
      _ = second.number
    }
  }

  @Test("does not touch a file that is no socket")
  func noSocket() {
    withPath { path in
      close(creat(path, 0o600))
      #expect(throws: ListeningSocket.Failure.self) { _ = try ListeningSocket(.unix(path: path)) }
      #expect(exists(path))
    }
  }

  @Test("leaves a path alone that another server has taken over meanwhile")
  func takenOver() throws {
    try withPath { path in
      let first = try ListeningSocket(.unix(path: path))
      unlink(path)
      let second = try ListeningSocket(.unix(path: path))
      _ = first.refuseNewConnections()
      #expect(exists(path))
      _ = second.number
    }
  }
}

@Suite("Settings")
struct SettingsTests {
  @Test("prefers the environment, and takes an empty value for none")
  func precedence() throws {
    let settings = Settings(
      environment: ["A": "env", "B": ""], file: try EnvFile(Array("A=file\nB=file\nC=file\nD=\n".utf8)))
    #expect(settings["A"] == "env")
    #expect(settings["B"] == "file")
    #expect(settings["C"] == "file")
    #expect(settings["D"] == nil)
    #expect(settings["E"] == nil)
  }

  @Test("names the nearest setting for one that does not exist")
  func remarks() throws {
    let file = try EnvFile(Array("FORKLOOP_PROT=1\nFORKLOOP_PORT=1\nOTHER=1\nFORKLOOP_X=\n".utf8))
    let settings = Settings(environment: ["FORKLOOP_STAT": "x"], file: file)
    #expect(
      settings.remarks(known: ["FORKLOOP_PORT", "FORKLOOP_STATE"]) == [
        "there is no setting FORKLOOP_PROT (.env, line 1), the nearest is FORKLOOP_PORT",
        "there is no setting FORKLOOP_STAT, the nearest is FORKLOOP_STATE",
      ])
  }
}

@Suite("EnvFile")
struct EnvFileTests {
  @Test(
    "is read as docker compose reads it",
    arguments: [
      ("# comment\n\nA=1\nB = two words \nC=\n", ["A": "1", "B": "two words", "C": ""]),
      ("A=v # comment\nB=a#b\nC=\"x # y\"# comment\n", ["A": "v", "B": "a#b", "C": "x # y"]),
      ("# comment\r\nA=1\r\nB=\"2\"\r\n\r\n", ["A": "1", "B": "2"]),
      ("\u{FEFF}A=1", ["A": "1"]), ("A=1\nA=2", ["A": "2"]),
      ("export A=1\nexport\tB=2\nexport=3", ["A": "1", "B": "2", "export": "3"]),
      (#"A="a\"b\\"\#nB='it\'s \\ \n'"#, ["A": #"a"b\"#, "B": #"it's \\ \n"#]),
      (#"A="\ta\nb\x\$HOME""#, ["A": "\ta\nb\\x$HOME"]),
      ("A=$$HOME\nB=a$1$\nC='$HOME'", ["A": "$HOME", "B": "a$1$", "C": "$HOME"]),
      ("A: 1\nB: 'x\ny'\nC.d-e[0]=1", ["A": "1", "B": "x\ny", "C.d-e[0]": "1"]),
      (
        "\u{A0}A=\u{A0}1\u{A0}\nB=\u{301}e\nC='\u{301}'\nD=\"\u{301}\"",
        ["A": "1", "B": "\u{301}e", "C": "\u{301}", "D": "\u{301}"]
      ),
    ])
  func read(_ text: String, _ values: [String: String]) throws {
    let file = try EnvFile(Array(text.utf8))
    #expect(file.values == values)
  }

  @Test(
    "says which line is wrong, and shows no value",
    arguments: [
      "A=1\nsecret", "A=1\n=secret", "A=1\nB=\"secret", "A=1\nB=\"secret\" secret", "A=1\nB='secret'secret",
      "A=1\nB secret=1",
      "A=1\nsecret:1", "A=1\nsécret=1", "A=1\nB=secret$A", "A=1\nB=\"secret${A}\"", "A=1\nB= #secret",
      "A=1\nB=secret\rC=1",
      "A=1\n#\rB=secret\n", "A=1\nB=secret\0", "A=1\nB=\"secret\\0\"",
    ])
  func wrong(_ text: String) throws {
    let error = #expect(throws: SettingsError.self) { try EnvFile(Array(text.utf8)) }
    #expect(error?.description.contains("line 2:") == true)
    #expect(error?.description.contains("secret") == false)
  }

  @Test("refuses what is no UTF-8", arguments: [[0xFF, 0xFE, 0x41, 0], [0x41, 0x3D, 0xE9]] as [[UInt8]])
  func noText(_ bytes: [UInt8]) throws {
    let error = #expect(throws: SettingsError.self) { try EnvFile(bytes) }
    #expect(error?.description == ".env, line 1: this is no UTF-8 text")
  }

  @Test("text is divided at bytes, whatever is written behind them")
  func parts() {
    #expect("a\r\nb\n\nc".lines == ["a", "b", "", "c"])
    #expect("a\r\n".lines == ["a"])
    #expect(
      "a,\u{301}b,".parts(by: ",", keepsEmpty: true).map { Array($0.utf8) }
        == ["a", "\u{301}b", ""].map { Array($0.utf8) })
    #expect("a=\u{301}".halves(by: "=")?.1.utf8.count == 2)
  }
}
