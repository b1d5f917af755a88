// Before anything is measured: that all models answer the same.

import JSON

extension Comparison {
  /// Asks every model the same of the same data, and compares what they say.
  func compareAnswers() throws {
    progress.say("seeing that all models answer the same")
    let order =
      #"{"name":"A","contact_id":1,"order_lines":[{"product_id":1,"quantity":2,"price":0.125}],"tag_ids":[2,1]}"#
    let orders: [Request] = [
      ("GET", "/contact/7", nil, 200), ("GET", "/contact?limit=3", nil, 200),
      ("GET", "/order?limit=20&after=100", nil, 200),
      ("GET", "/order/\(Testbed.smallOrders + 1)", nil, 200), ("GET", "/contact/999999", nil, 404),
      ("POST", "/order", order, 201), ("POST", "/order", "{}", 422),
    ]
    let work: [Request] = [
      ("GET", "/work?rows=2&bytes=5&key=7&share=rendering", nil, 200),
      ("GET", "/work?statements=3&rows=1&bytes=9&key=1", nil, 200),
      ("GET", "/work?statements=3&rows=1&bytes=9&key=1&together=1", nil, 200),
      ("GET", "/work?time=1&rows=1&bytes=5", nil, 200), ("GET", "/work?time=1&by=work&rows=1&bytes=5", nil, 200),
      ("GET", "/work?statements=0&processor=1&wait=1", nil, 200), ("POST", "/work", order, 200),
      ("GET", "/work?time=1&rows=x&y=1", nil, 422),
    ]
    var expected: [String: String] = [:]
    for model in [.prefork, .loop, .loopShared] + others {
      try testbed.resetDatabase()
      // A baseline has no rules of its own.
      try compareAnswers(
        of: model,
        to: orders.filter {
          model.isOurs || $0.path.hasPrefix("/contact/7") || $0.path.contains("limit=20") || $0.body == order
        }, by: .orders, &expected)
      if model.isOurs { try compareAnswers(of: model, to: work, by: .workload, &expected) }
    }
    try testbed.resetDatabase()
  }

  private typealias Request = (method: String, path: String, body: String?, status: Int)

  private func compareAnswers(
    of model: Model, to requests: [Request], by application: Testbed.Application, _ expected: inout [String: String]
  ) throws {
    if shouldStop() { throw Interrupted() }
    _ = try testbed.start(Setup(model, connections: Scenarios.connections), application)
    for (method, path, body, status) in requests {
      let answer = Fetch.answer(port: testbed.port, method, model.prefix + path, body: body)
      let text = answer.map { "\($0.status) \($0.body)" } ?? "no answer"
      let name = "\(method) \(path)"
      if answer?.status != status {
        report.answersThatDiffer.append("\(name): \(model.title) answers \(text.prefix(3))")
      }
      let key = "\(name) \(status)"
      if let first = expected[key] {
        // Ours to the byte; a baseline may have an object's members in another order.
        let isEqual = model.isOurs ? text == first : Self.isSame(text, first)
        if !isEqual { report.answersThatDiffer.append("\(name): \(model.title)") }
      } else {
        expected[key] = text
        report.answersCompared.append(name)
      }
    }
    testbed.stopResponder()
  }

  /// Whether two answers have the same status and the same JSON, whatever the order of members.
  private static func isSame(_ one: String, _ other: String) -> Bool {
    func sorted(_ value: JSONValue) -> JSONValue {
      switch value {
      case .object(let members):
        .object(
          members.map { .init(name: $0.name, value: sorted($0.value)) }.sorted { $0.name < $1.name })
      case .array(let elements): .array(elements.map(sorted))
      default: value
      }
    }
    func parsed(_ answer: String) -> JSONValue? { try? JSONReader.read(Array(answer.dropFirst(4).utf8)) }
    guard let one = parsed(one), let other = parsed(other) else { return one == other }
    return sorted(one) == sorted(other)
  }
}
