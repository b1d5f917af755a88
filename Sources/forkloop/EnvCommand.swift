import ArgumentParser
import Postgres

struct EnvCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "env", abstract: "Print export lines for the database in use.",
    discussion: "For a shell: eval \"$(forkloop env)\"; psql")

  @OptionGroup var state: StateOption

  func run() throws {
    let reader = try SettingsReader()
    let info = try reader.database(state: state.state ?? reader.stateFolder)
    for (name, value) in info.environment().sorted(by: { $0.key < $1.key }) {
      let quoted = value.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''")
      print("export \(name)='\(quoted)'")
    }
  }
}
