// Before anything is measured: that all models answer the same.

import JSON

extension Comparison {
  /// Asks every model the same of the same data, and compares what they say.
  func compareAnswers() throws {
    progress.say("seeing that all models answer the same")
    let order =
      #"{"name":"A","contact_id":1,"order_lines":[{"product_id":1,"quantity":2,"price":0.125}],"tag_ids":[2,1]}"#
    let requests: [(method: String, path: String, body: String?, status: Int)] = [
      ("GET", "/contact/7", nil, 200), ("GET", "/contact?limit=3", nil, 200),
      ("GET", "/order?limit=20&after=100", nil, 200),
      ("GET", "/order/\(Testbed.smallOrders + 1)", nil, 200), ("GET", "/contact/999999", nil, 404),
      ("POST", "/order", order, 201), ("POST", "/order", "{}", 422),
    ]
    // What benches ask for besides, and the contact that they are answered with.
    let hooks = [(["Bench-Delay": "1"], 7), (["Bench-Statements": "3"], 9), (["Bench-Spin": "1"], 7)]
    var expected: [Int: String] = [:]
    for model in [.prefork, .loop, .loopShared] + others {
      if shouldStop() { throw Interrupted() }
      testbed.stopResponder()
      try testbed.resetDatabase()
      _ = try testbed.start(Setup(model, connections: Scenarios.connections))
      // A baseline has no rules of its own.
      for (index, (method, path, body, status)) in requests.enumerated()
      where model.isOurs || path.hasPrefix("/contact/7") || path.contains("limit=20") || body == order {
        let answer = Fetch.answer(port: testbed.port, method, model.prefix + path, body: body)
        let text = answer.map { "\($0.status) \($0.body)" } ?? "no answer"
        let name = "\(method) \(path)"
        if answer?.status != status {
          report.answersThatDiffer.append("\(name): \(model.title) answers \(text.prefix(3))")
        }
        if let first = expected[index] {
          // Ours to the byte; a baseline may have an object's members in another order.
          let isEqual = model.isOurs ? text == first : Self.isSame(text, first)
          if !isEqual { report.answersThatDiffer.append("\(name): \(model.title)") }
        } else {
          expected[index] = text
          report.answersCompared.append(name)
        }
      }
      if model.isOurs { compareHooks(hooks, model) }
    }
    testbed.stopResponder()
    try testbed.resetDatabase()
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

  private func compareHooks(_ hooks: [(fields: [String: String], contact: Int)], _ model: Model) {
    for (fields, contact) in hooks {
      let plain = Fetch.answer(port: testbed.port, "GET", "\(model.prefix)/contact/\(contact)")
      let hooked = Fetch.answer(port: testbed.port, "GET", "\(model.prefix)/contact/7", fields: fields)
      if hooked?.status != 200 || hooked?.body != plain?.body {
        report.answersThatDiffer.append("GET /contact/7 with \(fields.keys.joined()): \(model.title)")
      }
    }
  }
}
