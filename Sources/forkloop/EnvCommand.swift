import ArgumentParser
import LocalStack
import Platform
import Postgres

struct EnvCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "env", abstract: "Print export lines for the database in use.",
    discussion: """
      For a shell: eval "$(forkloop env)"; psql
      In the private cluster of 'forkloop up' as the owner of the tables, whom root and the user that started it may be.
      """)

  @OptionGroup var state: StateOption

  func run() throws {
    let reader = try SettingsReader()
    let info = try reader.database(state: state.state ?? reader.stateFolder, as: PrivateCluster.owner)
    let (variables, others) = info.environment()
    // What only .env says of libpq's own variables, the shell does not know either.
    let known = reader.settings.fromFileOnly.filter { $0.key.hasPrefix("PG") }.merging(variables) { $1 }
    for (name, value) in known.sorted(by: { $0.key < $1.key }) {
      let quoted = value.parts(by: "'", keepsEmpty: true).joined(separator: "'\\''")
      print("export \(name)='\(quoted)'")
    }
    if !others.isEmpty {
      Main.tell("left out, since no variable of libpq's says it: \(others.joined(separator: ", "))")
    }
  }
}
