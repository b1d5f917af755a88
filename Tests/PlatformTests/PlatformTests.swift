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
  @Test("reads .env as docker compose does")
  func file() throws {
    let values = try Settings.parse(
      "# comment\n\nA=1\nexport B = two words \nC=\"x # y\"\nD='q'\nE=v # comment\nF=a#b\nG=\n")
    #expect(values == ["A": "1", "B": "two words", "C": "x # y", "D": "q", "E": "v", "F": "a#b", "G": ""])
  }

  @Test("says which line is wrong", arguments: ["A=1\nnonsense", "A=1\n=x", "A=1\nB=\"open"])
  func wrong(_ text: String) throws {
    let error = #expect(throws: SettingsError.self) { try Settings.parse(text) }
    #expect(error?.description.contains("line 2") == true)
  }

  @Test("prefers the environment, and takes an empty value for none")
  func precedence() {
    let settings = Settings(
      environment: ["A": "env", "B": ""], file: ["A": "file", "B": "file", "C": "file", "D": ""])
    #expect(settings["A"] == "env")
    #expect(settings["B"] == "file")
    #expect(settings["C"] == "file")
    #expect(settings["D"] == nil)
    #expect(settings["E"] == nil)
  }
}
