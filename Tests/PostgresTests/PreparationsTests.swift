import Testing

@testable import Postgres

@Suite("What a connection knows of names")
struct PreparationsTests {
  private let one = Statement("one", readOnly: true, "select 1")
  private let two = Statement("two", readOnly: true, "select 2")

  private func error(_ state: SQLState) -> PostgresError { .statement(.init(state: state, message: "")) }

  @Test("begins with nothing, and forgets what was refused")
  func states() {
    let preparations = Preparations(areUsed: true)
    #expect(!preparations.knows(one))
    #expect(preparations.prepare(one) == nil)
    #expect(preparations.knows(one) && !preparations.knows(two))
    preparations.isOfNoUse(one, error(.invalidSQLStatementName))
    #expect(!preparations.knows(one))
    #expect(preparations.prepare(one) == nil && preparations.name(of: one) == one.preparedName)
    preparations.isOfNoUse(one, error(.featureNotSupported))
    #expect(!preparations.knows(one))
    #expect(preparations.prepare(one) == one.preparedName, "what is left of it goes first")
    #expect(preparations.name(of: one) != one.preparedName && preparations.name(of: two) == two.preparedName)
    preparations.couldNotPrepare(one)
    #expect(!preparations.knows(one) && preparations.prepare(one) == nil)
  }

  @Test("uses no names where the same one has been lost three times", arguments: ["26000", "42P05"])
  func lost(state: String) {
    let preparations = Preparations(areUsed: true)
    let lost = error(SQLState(rawValue: state))
    #expect(![one, two, one, two].contains { preparations.count(lost, for: $0) })
    #expect(preparations.areUsed)
    #expect(preparations.count(lost, for: one))
    #expect(!preparations.areUsed)
    #expect(!preparations.count(lost, for: two), "it is told once")
  }

  @Test("uses no names where what is prepared anew is of no use again and again")
  func outdated() {
    let preparations = Preparations(areUsed: true)
    let outdated = error(.featureNotSupported)
    let count = (1...20).first { _ in
      _ = preparations.prepare(one)
      preparations.isOfNoUse(one, outdated)
      return preparations.count(outdated, for: one)
    }
    #expect(count == 8 && !preparations.areUsed)
  }

  @Test("names another text otherwise, and the same text the same")
  func names() {
    #expect(one.preparedName != Statement("one", readOnly: true, "select 11").preparedName)
    #expect(one.preparedName == Statement("one", readOnly: true, "select 1").preparedName)
  }
}

@Suite("A schema's state")
struct SchemaStateTests {
  @Test(
    "is that of its newest step", arguments: [(-1, "missing"), (0, "missing"), (1, "older"), (2, "ok"), (3, "newer")])
  func states(step: Int64, state: String) {
    let migrations = Migrations([Migration(1, "one", ""), Migration(2, "two", "")])
    #expect(migrations.state(at: step).rawValue == state)
  }
}
