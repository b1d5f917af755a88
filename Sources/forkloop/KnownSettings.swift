// Which settings there are: those that the help of some command names, so that none is known that nobody can read about.

import ArgumentParser
import Platform
import ProcessPool

extension Forkloop {
  /// The names of our own settings, those of the database, and of what is for the program alone.
  static var settings: Set<String> {
    let commands: [any ParsableCommand.Type] = [Forkloop.self] + configuration.subcommands
    var names: Set = [Settings.noFile, Rehearsal.variable, Invocation.inheritance]
    names.formUnion([
      "DATABASE_URL", "DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD", "DB_ADMIN", "DB_ADMIN_PASSWORD",
    ])
    for command in commands {
      let help = Forkloop.helpMessage(for: command, includeHidden: true)
      // Of what is no part of a name nothing is in the middle of one.
      for word in help.utf8.split(whereSeparator: { !isOfName($0) }) {
        let word = String(Substring(word))
        if word.hasPrefix(Settings.prefix) { names.insert(word) }
      }
    }
    return names
  }

  private static func isOfName(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: "_") || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
      || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
  }
}
