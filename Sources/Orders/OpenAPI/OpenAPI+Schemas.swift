// What goes in and comes out, with its limits: those that the validation and the schema of the database keep. What a
// viewer can't show well (a pattern, an integer beyond 2^53) is for programs, and the description beside it says it in words.

import JSON
import Postgres
import Text

extension OpenAPI {
  static let schemas: JSONValue = .object(Resource.allCases.flatMap(schemas)) + shared

  private static func schemas(_ resource: Resource) -> [JSONValue.Member] {
    let (name, description) = (resource.schema, resource.description)
    let shown: JSONValue = ["id": id] + description.shown
    return [
      JSONValue.Member(name: UTF8Text(name), value: object(shown, required: names(shown))),
      JSONValue.Member(name: "New\(name)", value: object(description.sent, required: description.required)),
      JSONValue.Member(name: "\(name)Patch", value: object(description.patched, required: [])),
    ]
  }

  private static let shared: JSONValue = [
    "Health": object(
      [
        "mode": ["enum": .array(Mode.allCases.map { "\($0.rawValue)" })],
        "status": ["enum": ["ok", "unavailable", "draining"]],
        "database": [
          "description": "`encoding`: it is not UTF8.", "enum": ["ok", "unavailable", "encoding"],
        ],
        "schema": [
          "description": "Which the database has, compared with this program's.",
          "enum": .array(SchemaState.allCases.map { "\($0.rawValue)" }),
        ],
        "version": ["type": "string"],
      ], required: ["mode", "status", "database", "schema", "version"]),
    "Live": object(
      [
        "mode": ["enum": .array(Mode.allCases.map { "\($0.rawValue)" })],
        "status": ["const": "ok"],
        "version": ["type": "string"],
      ], required: ["mode", "status", "version"]),
    "Problem": object(
      [
        "type": ["type": "string", "format": "uri-reference"],
        "title": ["type": "string"],
        "status": ["type": "integer", "minimum": 400, "maximum": 599],
        "detail": ["type": "string"],
        "errors": ["type": "array", "items": schema("Fault"), "maxItems": number(Faults.most)],
      ], required: ["type", "title", "status", "detail"]),
    "Fault": object(
      [
        "pointer": ["type": "string", "description": "Where in the body (RFC 6901)."],
        "parameter": ["type": "string", "description": "Which parameter of the query string."],
        "header": ["type": "string", "description": "Which field of the header."],
        "code": ["enum": .array(Fault.Code.allCases.map { "\($0.rawValue)" })],
        "detail": ["type": "string"],
      ], required: ["code", "detail"]),
  ]

  /// Something with a character that is not white space, and without U+0000.
  private static let notBlank: JSONValue =
    #"^[^\u0000]*[^\u0000\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\u0000]*$"#

  static let name = text(longest: Validation.longestName)

  /// What `Validation.text` takes.
  static func text(longest: Int, isRequired: Bool = true) -> JSONValue {
    [
      "type": isRequired ? "string" : ["string", "null"], "minLength": 1, "maxLength": number(longest),
      "pattern": notBlank,
      "description": "Not only white space, and without U+0000.",
    ]
  }

  static let id = id(from: 1)

  static func id(from least: Int) -> JSONValue {
    [
      "type": "integer", "format": "int64", "minimum": number(least), "maximum": number(Int64.max),
      "description": "A 64-bit integer: at most \(Int64.max).",
    ]
  }

  static func object(_ properties: JSONValue, required: [String]) -> JSONValue {
    let needs: JSONValue = required.isEmpty ? [:] : ["required": .array(required.map { "\($0)" })]
    return ["type": "object", "properties": properties] + needs + ["additionalProperties": false]
  }

  private static func names(_ object: JSONValue) -> [String] {
    guard case .object(let members) = object else { return [] }
    return members.map(\.name.string)
  }

  static func number(_ value: some BinaryInteger) -> JSONValue { .number(ExactDecimal(value)) }
}
