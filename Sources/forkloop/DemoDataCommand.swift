import ArgumentParser
import Orders
import Postgres

struct DemoDataCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo-data", abstract: "Load a small believable data set into an empty database.")

  @OptionGroup var state: StateOption

  func run() throws {
    let reader = try SettingsReader()
    let info = try reader.database(state: state.state)
    do {
      let connection = try Connection.connect(to: info, .init(applicationName: "forkloop demo-data"))
      let isLoaded = try DemoData.load(on: connection)
      print(isLoaded ? "loaded the demo data" : "nothing done: the database is not empty")
    } catch {
      throw CommandFailure(description: "\(error)")
    }
  }
}
