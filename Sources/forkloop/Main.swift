// The command. One file a subcommand; what they do lives in the targets below.

import ArgumentParser
import Glibc
import Orders
import Platform
import ProcessPool
import SyncServer

@main
struct Main {
  /// Exit codes: 0 stopped as asked, 1 failed, 2 wrong usage or settings.
  static func main() {
    InheritedSignals.drop(keepsMask: Invocation.isContinued)
    Descriptor.fillStandardStreams()
    do {
      if PlainCGI.isAsked { exit(answerCGI()) }
      var command = try Forkloop.parseAsRoot()
      try command.run()
    } catch let code as ExitCode {
      exit(code.rawValue)
    } catch let error as SettingsError {
      fail("\(error)", 2)
    } catch {
      let message = Forkloop.fullMessage(for: error)
      // Help and --version that were asked for are no failures.
      if Forkloop.exitCode(for: error).isSuccess {
        print(message)
        exit(0)
      }
      if error is CommandFailure { fail("\(error)", 1) }
      complain(message)
      exit(2)
    }
  }

  /// For one request, where a web server runs the program as a CGI script.
  private static func answerCGI() -> Int32 {
    let settings = Result { () throws(SettingsError) in
      let reader = try SettingsReader(remarks: false)
      return (reader: reader, application: try ServedApplication(nil, reader))
    }
    // Where the settings are wrong, somebody has to say so.
    let application = (try? settings.get().application) ?? .orders
    return PlainCGI.run(Mode.allCases.map { application.make($0) }) {
      let reader = try settings.get().reader
      return PlainCGI.Service(
        database: try reader.database(state: nil),
        options: try ResponderOptions.parse([]).connectionOptions(reader, "forkloop cgi"),
        log: try reader.log("cgi"))
    }
  }

  private static func fail(_ message: String, _ code: Int32) -> Never {
    tell(message)
    exit(code)
  }

  /// One line, whatever a setting has put into it.
  static func tell(_ message: String) {
    let line = message.utf8.map { $0 < 0x20 || $0 == 0x7F ? UInt8(ascii: " ") : $0 }
    complain("forkloop: \(String(decoding: line, as: UTF8.self))")
  }

  private static func complain(_ message: String) {
    var text = message + "\n"
    text.withUTF8 { _ = write(STDERR_FILENO, $0.baseAddress, $0.count) }
  }
}

/// A failure to be told in one line, exit code 1.
struct CommandFailure: Error, CustomStringConvertible { let description: String }

struct Forkloop: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "forkloop",
    abstract: "One orders API behind nginx through two process models: prefork and event loop.",
    discussion: """
      Settings come from a flag, else from the environment, else from .env, else from a default. The database: DB_HOST, \
      DB_PORT, DB_NAME, DB_USER, DB_PASSWORD, or DATABASE_URL; libpq's PG* variables for the rest. \
      The responders' log has what is at least as grave as [FORKLOOP_LOG_LEVEL] (default: info).
      """,
    version: Orders.version,
    subcommands: [
      UpCommand.self, SyncCommand.self, AsyncCommand.self, SetupCommand.self, MigrateCommand.self, DemoDataCommand.self,
      EnvCommand.self,
      OpenAPICommand.self, LoadCommand.self, CompareCommand.self, TraceCommand.self,
    ])
}
