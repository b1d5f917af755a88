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
    let isPrivate = try reader.privateCluster(state.state) != nil
    let info = try reader.database(state: state.state, as: PrivateCluster.owner)
    let (variables, others) = info.environment()
    // What only .env says of libpq's own variables, the shell does not know either.
    let ofFile = isPrivate ? [:] : reader.settings.fromFileOnly.filter { ConnectionInfo.isOfLibpq($0.key) }
    let known = ofFile.merging(variables) { $1 }
    // What the shell has would lead elsewhere.
    let leading = isPrivate ? ConnectionInfo.variables.intersection(reader.settings.environment.keys) : []
    for name in leading.subtracting(known.keys).sorted() { print("unset \(name)") }
    for (name, value) in known.sorted(by: { $0.key < $1.key }) { print("export \(name)=\(shellQuoted(value))") }
    if !others.isEmpty {
      Main.tell("left out, since no variable of libpq's says it: \(others.joined(separator: ", "))")
    }
  }
}
