import ArgumentParser
import CLinux
import Glibc
import LoadGenerator
import Platform

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

struct LoadCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "load", abstract: "Make HTTP requests and tell how they were answered.",
    discussion: """
      With --rate requests are sent at that rate whatever becomes of those before, and a latency counts from the moment at which \
      the request was meant to be sent; without, each connection asks again as soon as it has been answered. 'forkloop \
      compare' measures with this.
      """)

  @Argument(help: "What to ask for: http://ADDRESS:PORT/PATH, with an IPv4 address.")
  var url: String?

  @Option(help: "Requests a second; without, as many as the connections come to.")
  var rate: Double?

  @Option(help: "Connections, each with at most one request under way.")
  var connections = 16

  @Option(help: "Seconds to measure.")
  var seconds = 10.0

  @Option(help: "Seconds of load before that.")
  var warmUp = 0.5

  @Option(help: "Seconds after which a request is given up.")
  var timeout = 10.0

  @Option(help: "The method.")
  var method = "GET"

  @Option(name: .customLong("header"), help: "'Name: value', once for each field.")
  var headers: [String] = []

  @Option(help: "A body.")
  var body: String?

  @Option(help: "A file with a whole plan as JSON, in place of all the above.")
  var plan: String?

  @Flag(help: "Print the result as JSON, all histograms included.")
  var json = false

  /// While the arguments are read, so that what is wrong with them is told with this command's usage.
  func validate() throws { if plan == nil { _ = try planned() } }

  func run() throws {
    let plan = try plan.map(Self.read) ?? planned()
    // Whoever measures something else meanwhile is told when, and says by SIGUSR1 that it may begin.
    let isWatched = json && self.plan != nil
    if isWatched { clinux_note_on(SIGUSR1) }
    clinux_flag_on(SIGINT)
    clinux_flag_on(SIGTERM)
    let result: LoadResult
    do {
      let load = try LoadRun(
        plan, tell: { if isWatched { Self.say("\($0)\n") } }, mayMeasure: { !isWatched || clinux_take_note() != 0 })
      result = load.run { clinux_flagged() != 0 }
    } catch {
      throw SettingsError("\(error)")
    }
    Self.say(json ? try Self.encode(result) : Self.summary(result))
  }

  private func planned() throws -> LoadPlan {
    guard let url else { throw ValidationError("say what to ask for: forkloop load http://127.0.0.1:8080/sync/order") }
    let rest = url.hasPrefix("http://") ? url.dropFirst(7) : url[...]
    let slash = rest.utf8.firstIndex(of: UInt8(ascii: "/")) ?? rest.endIndex
    let authority = rest[..<slash].parts(by: ":", keepsEmpty: true)
    guard authority.count <= 2, let port = authority.count == 2 ? UInt16(authority[1]) : 80 else {
      throw ValidationError("'\(url)' is not of the form http://ADDRESS:PORT/PATH")
    }
    var fields: [String: String] = [:]
    for header in headers {
      guard let (name, value) = header.halves(by: ":") else {
        throw ValidationError("'\(header)' is not of the form 'Name: value'")
      }
      fields[String(name)] = String(Substring(value.utf8.drop { $0 == UInt8(ascii: " ") }))
    }
    let path = slash == rest.endIndex ? "/" : String(rest[slash...])
    var plan = LoadPlan(
      port: port, [RequestKind("all", path, method: method, fields: fields, body: body)], connections: connections,
      rate: rate,
      seconds: seconds)
    plan.host = authority[0] == "localhost" ? "127.0.0.1" : String(authority[0])
    plan.warmUp = warmUp
    plan.timeout = timeout
    return plan
  }

  private static func read(_ path: String) throws -> LoadPlan {
    try JSONFile.read(LoadPlan.self, from: path, as: "plan")
  }

  private static func encode(_ result: LoadResult) throws -> String {
    String(decoding: try JSONEncoder().encode(result), as: UTF8.self) + "\n"
  }

  private static func say(_ text: String) {
    var text = text
    text.withUTF8 { bytes in
      var written = 0
      while written < bytes.count {
        let count = write(STDOUT_FILENO, bytes.baseAddress.map { $0 + written }, bytes.count - written)
        if count <= 0 { return }
        written += count
      }
    }
  }

  private static func summary(_ result: LoadResult) -> String {
    func milliseconds(_ microseconds: Double) -> String {
      let hundredths = Int((microseconds / 10).rounded())
      return "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100) ms"
    }
    let latencies = result.latencies
    let timedOut = result.kinds.reduce(0) { $0 + $1.timedOut }
    let broken = result.kinds.reduce(0) { $0 + $1.broken }
    var refused: [String: Int] = [:]
    for kind in result.kinds { refused.merge(kind.refused, uniquingKeysWith: +) }
    let statuses = refused.sorted { $0.key < $1.key }.map { ", \($0.value) × \($0.key)" }.joined()
    return """
      \(Int(result.throughput.rounded())) answers a second
      latency   p50 \(milliseconds(latencies.p50))   p90 \(milliseconds(latencies.p90))   p99 \(milliseconds(latencies.p99))   \
      p99.9 \(milliseconds(latencies.p999))   longest \(milliseconds(latencies.max))
      \(result.answered) answered, \(result.failed) failed (\(timedOut) timed out, \(broken) broken off\(statuses)), \
      \(result.unsent) unsent

      """
  }
}
