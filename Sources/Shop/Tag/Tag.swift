// A tag: a word on an order; no two have the same name.

import JSON
import Postgres

/// `{name}` as a client sends it.
struct TagInput: Sendable {
  let name: String

  init?(_ value: JSONValue, _ validation: inout Validation) {
    guard let object = validation.object(value, JSONPointer(), keys: ["name"]), let name = validation.name(object)
    else {
      return nil
    }
    self.name = name
  }

  var insert: Operation {
    var parameters = Parameters()
    parameters.append(name)
    return Operation(statement: Tag.insert, parameters: parameters, reply: .created(.tag), isHead: false)
  }
}

enum Tag {
  static let list = Statement(
    "tag_list", readOnly: true, "select id, name from tag where id > $1 order by id limit $2")
  static let item = Statement("tag_item", readOnly: true, "select id, name from tag where id = $1")
  static let insert = Statement(
    "tag_insert", readOnly: false, "insert into tag (name) values ($1) returning id, name")
}
