// nginx's configuration for a stack, from the templates that a site is also installed from.

import Glibc
import Platform

/// The `nginx/` folder, and what to put in for its variables.
package struct NginxSite: Sendable {
  /// The folder with `templates/`, `snippets/` and `html/`.
  package let source: String

  package init(source: String) { self.source = source }

  /// Looks for the folder: where we stand, above the program, and where a package would put it.
  package static func find(program: String) throws(LocalStackError) -> NginxSite {
    var candidates = ["nginx"]
    var folder = program[...]
    while let slash = folder.utf8.lastIndex(of: UInt8(ascii: "/")), slash > folder.startIndex {
      folder = folder[..<slash]
      candidates.append("\(folder)/nginx")
      candidates.append("\(folder)/share/forkloop/nginx")
    }
    for candidate in candidates where access("\(candidate)/templates/forkloop.conf.template", R_OK) == 0 {
      guard let path = realpath(candidate, nil) else { continue }
      defer { free(path) }
      let source = String(cString: path)
      try Folders.refuseUnusable(source)
      return NginxSite(source: source)
    }
    throw LocalStackError("the folder nginx/ was not found: start in the project's folder")
  }

  /// Replaces `${NAME}` by its value, as envsubst does; other variables are nginx's own.
  package static func render(_ template: String, _ values: [String: String]) -> String {
    var text = ""
    var rest = template[...]
    while let dollar = rest.utf8.firstIndex(of: UInt8(ascii: "$")) {
      text += rest[..<dollar]
      rest = rest[dollar...]
      if rest.utf8.dropFirst().first == UInt8(ascii: "{"), let end = rest.utf8.firstIndex(of: UInt8(ascii: "}")),
        let value = values[String(Substring(rest[..<end].utf8.dropFirst(2)))]
      {
        text += value
        rest = rest[rest.utf8.index(after: end)...]
      } else {
        text += "$"
        rest = Substring(rest.utf8.dropFirst())
      }
    }
    return text + rest
  }

  /// What a site has beyond the usual.
  package struct Additions: Sendable {
    /// Lines for the server, and for the http context around it.
    package var server = ""
    package var http = ""
    /// What the listening socket has.
    package var listen = ""
    /// Of each of nginx's workers.
    package var connections = 4096

    package init() {}
  }

  /// Writes the configuration into the state folder and returns nginx's command line.
  package func write(
    folders: Folders, port: UInt16, accounts: Accounts, additions: Additions = Additions()
  ) throws(LocalStackError) -> [String] {
    guard let nginx = findProgram("nginx") else {
      throw LocalStackError("nginx is not installed: apt-get install nginx")
    }
    let values = [
      "FORKLOOP_LISTEN": "127.0.0.1:\(port)\(additions.listen)",
      "FORKLOOP_RUN": folders.run,
      "FORKLOOP_HTML": "\(source)/html",
      "FORKLOOP_ASSETS": "\(source)/assets",
      "FORKLOOP_SNIPPETS": "\(source)/snippets",
      "FORKLOOP_LOG": "\(folders.log)/access.log",
      "FORKLOOP_NGINX": folders.nginx,
      "FORKLOOP_TEMPORARY": folders.nginxTemporary,
      "FORKLOOP_ERROR_LOG": "\(folders.log)/nginx-error.log",
      "FORKLOOP_USER": accounts.web.map { "user \($0.name);" } ?? "",
      "FORKLOOP_CONNECTIONS": "\(additions.connections)",
      "FORKLOOP_DESCRIPTORS": "\(min(4 * additions.connections, Descriptor.hardLimit))",
    ]
    for (template, name) in [("templates/forkloop.conf.template", "site.conf"), ("up.conf.template", "nginx.conf")] {
      guard let text = readText("\(source)/\(template)") else {
        throw LocalStackError("can't read \(source)/\(template)")
      }
      var rendered = Self.render(text, values)
      if name == "site.conf" {
        rendered =
          additions.http
          + rendered.replacing("\nserver {\n", with: "\nserver {\n\(additions.server)", maxReplacements: 1)
      }
      try writeText(rendered, to: "\(folders.nginx)/\(name)")
    }
    return [nginx, "-c", "\(folders.nginx)/nginx.conf", "-e", "\(folders.log)/nginx-error.log"]
  }
}
