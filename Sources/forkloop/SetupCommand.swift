import ArgumentParser
import LocalStack
import Orders
import Postgres

struct SetupCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "setup", abstract: "Make the roles, the database and its schema, as an administrator.",
    discussion: """
      Connects as whom the settings name, or as DB_ADMIN with DB_ADMIN_PASSWORD where that is set beside the responders' own, who has to be allowed to make roles: a superuser, or the administrator of a hosted \
      database. Makes the database if there is none, an owner, and a role for the responders that reads and writes rows and \
      can do nothing else; brings the schema up to date as the owner, and takes over one that is there. In this database \
      nobody but the owner may make tables any more, not even temporary ones. A second run changes nothing.

      Passwords are not for a command line: those of the two roles become what the environment says, where it does. \
      [FORKLOOP_OWNER_PASSWORD, FORKLOOP_ROLE_PASSWORD]
      """)

  @OptionGroup var state: StateOption

  @Option(help: "Who owns the database, and migrates it. [FORKLOOP_OWNER] (default: forkloop_owner)")
  var owner: String?

  @Option(help: "Whom the responders connect as. [FORKLOOP_ROLE] (default: forkloop)")
  var role: String?

  func run() throws {
    let reader = try SettingsReader()
    var info = try reader.database(state: state.state, as: PrivateCluster.superuser)
    var (role, password) = (DatabaseSetup.role, String?.none)
    // Then the settings name the responders' role, as they do for the responders.
    if let administrator = reader.settings["DB_ADMIN"], try reader.privateCluster(state.state) == nil {
      role = info.keywords["user"] ?? reader.settings["PGUSER"] ?? role
      password = info.keywords["password"]
      info.keywords["user"] = administrator
      info.keywords["password"] = reader.settings["DB_ADMIN_PASSWORD"]
    }
    var setup = DatabaseSetup(
      database: info.database ?? DatabaseSetup.database,
      owner: reader.text(owner, "FORKLOOP_OWNER", default: DatabaseSetup.owner),
      role: reader.text(self.role, "FORKLOOP_ROLE", default: role))
    setup.ownerPassword = reader.settings["FORKLOOP_OWNER_PASSWORD"]
    setup.rolePassword = reader.settings["FORKLOOP_ROLE_PASSWORD"] ?? password
    setup.statementTimeout = try reader.statementTimeout()
    var changes = 0
    do throws(SetupError) {
      _ = try setup.run(as: info, name: "forkloop setup", Schema.migrations) {
        print($0)
        changes += 1
      }
    } catch {
      throw CommandFailure(description: "\(error)")
    }
    if changes == 0 { print("the database is set up") }
  }
}
