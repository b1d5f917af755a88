import ArgumentParser
import LocalStack
import Orders
import Platform
import Postgres

struct MigrateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "migrate", abstract: "Bring the database's schema up to this program's.",
    discussion: """
      Each step is a transaction, recorded in schema_migration; a second run changes nothing. It needs a role that may make \
      tables: where 'forkloop setup' has made the roles, the owner. What the responders need of the server's settings is set for \
      the role, where it has none of its own: a pooler may let nothing be set otherwise.
      """)

  @OptionGroup var state: StateOption

  func run() throws {
    let reader = try SettingsReader()
    let info = try reader.database(state: state.state, as: PrivateCluster.owner)
    do {
      let connection = try Connection.connect(to: info, .init(applicationName: "forkloop migrate"))
      let applied = try Schema.migrations.run(on: connection)
      for migration in applied { print("applied migration \(migration.number): \(migration.name)") }
      if applied.isEmpty { print("the schema is up to date") }
      let set = try SessionSettings.set(statementTimeout: reader.statementTimeout(), on: connection)
      if !set.isEmpty { print("set for the role in this database: \(set.joined(separator: ", "))") }
    } catch let error as SettingsError {
      throw error
    } catch {
      throw CommandFailure(description: "\(error)")
    }
  }
}
