// Who gets into the private cluster, and as whom (PostgreSQL's chapter "Client Authentication").

import Glibc
import Platform

extension PrivateCluster {
  /// What our `pg_hba.conf` begins with. Everything below is the user's to change, for as long as this line stands.
  private var mark: String {
    "# forkloop, for the role \(Self.quoted(user)); without this line 'forkloop up' writes the file anew."
  }

  /// The application's role, and those that are members of it, are for whoever gets to the socket; every other is for the
  /// operating system's user of its name, and the two that are above the application for whoever runs the stack.
  private var rules: String {
    """
    \(mark)
    local  all  \(Self.superuser),\(Self.owner)  peer map=forkloop
    local  all  +\(Self.quoted(user))  trust
    local  all  all  peer

    """
  }

  private var names: String {
    let users = account.map { ["root", $0.name] } ?? [Self.currentUser]
    return users.flatMap { user in [Self.superuser, Self.owner].map { "forkloop  \(Self.quoted(user))  \($0)\n" } }
      .joined()
  }

  private static func quoted(_ name: String) -> String { "\"\(name.replacing("\"", with: "\"\""))\"" }

  private static var currentUser: String { getpwuid(geteuid()).map { String(cString: $0.pointee.pw_name) } ?? "" }

  /// Sees to it that only those get in who should. In a cluster that an older program
  /// has made everybody could be everybody. Where there were other rules: the file that has them now.
  package func guardAccess(isNew: Bool) throws(LocalStackError) -> String? {
    let path = "\(folders.postgres)/pg_hba.conf"
    let former = readText(path) ?? ""
    guard !former.hasPrefix("\(mark)\n") else { return nil }
    var kept: String?
    if !isNew, !former.isEmpty { kept = try keep(former, beside: path) }
    try write(names, to: "\(folders.postgres)/pg_ident.conf")
    try write(rules, to: path)
    return kept
  }

  /// Nothing that was kept before is lost.
  private func keep(_ former: String, beside path: String) throws(LocalStackError) -> String {
    for number in 1...1000 {
      let name = number == 1 ? "\(path).before" : "\(path).before-\(number)"
      let there = readText(name)
      if there == nil { try write(former, to: name) }
      if there ?? former == former { return name }
    }
    throw LocalStackError("there are too many \(path).before-*: remove some")
  }

  /// As the cluster's user: who can write in this folder could lead us anywhere.
  private func write(_ text: String, to path: String) throws(LocalStackError) {
    let account = account
    let process: pid_t
    do throws(SystemError) {
      process = try ChildProcess.fork(parentDeathSignal: SIGKILL) {
        guard account?.assume() ?? true else { return 1 }
        umask(0o077)
        do throws(LocalStackError) {
          try writeText(text, to: path)
          return 0
        } catch {
          return 1
        }
      }
    } catch {
      throw LocalStackError("can't write \(path): \(error)")
    }
    guard ChildProcess.wait(for: process).exitCode == 0 else { throw LocalStackError("can't write \(path)") }
  }
}
