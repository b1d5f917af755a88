// `forkloop openapi`: the API's description, as it is served under /openapi.json.

import ArgumentParser
import Orders

struct OpenAPICommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "openapi", abstract: "Print the API's description (OpenAPI 3.1), as nginx serves it.")

  func run() { print(String(decoding: OpenAPI.document(), as: UTF8.self), terminator: "") }
}
