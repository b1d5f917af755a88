// What goes in and comes out, with its limits: those that the validation and the schema of the database keep. What a
// viewer can't show well (a pattern, an integer beyond 2^53) is for programs, and the description beside it says it in words.

import JSON
import Postgres

extension OpenAPI {
  static let schemas: JSONValue = [
    "Contact": read(["name": name, "email": email]),
    "NewContact": written(["name": name, "email": email], required: ["name", "email"]),
    "ContactPatch": written(["name": name, "email": email], required: []),
    "Product": read(["name": name]),
    "NewProduct": written(["name": name], required: ["name"]),
    "ProductPatch": written(["name": name], required: []),
    "Tag": read(["name": name]),
    "NewTag": written(["name": name], required: ["name"]),
    "TagPatch": written(["name": name], required: []),
    "Order": read([
      "name": name, "contact_id": id,
      "order_lines": ["type": "array", "items": line(price: read), "maxItems": number(OrderInput.mostLines)],
      "tags": [
        "type": "array",
        "items": [
          "type": "object", "properties": ["name": name], "required": ["name"], "additionalProperties": false,
        ],
      ],
      "amount_total": [
        "type": "number", "minimum": 0,
        "description": "The sum of quantity × price, exact, then rounded half-even to two decimals.",
      ],
    ]),
    "NewOrder": written(
      ["name": name, "contact_id": id, "order_lines": lines, "tag_ids": tagIDs("array")],
      required: ["name", "contact_id", "order_lines"]),
    "OrderPatch": written(
      ["name": name, "contact_id": id, "order_lines": lines, "tag_ids": tagIDs(["array", "null"])], required: []),
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

  private static let name: JSONValue = [
    "type": "string", "minLength": 1, "maxLength": number(Validation.longestName), "pattern": notBlank,
    "description": "Not only white space, and without U+0000.",
  ]
  private static let email: JSONValue = [
    "type": "string", "maxLength": number(ContactInput.longestEmail), "pattern": #"^[^@\u0000]+@[^@\u0000]+$"#,
    "description": "One @ with something on both sides, and without U+0000.",
  ]
  static let id = id(from: 1)

  static func id(from least: Int) -> JSONValue {
    [
      "type": "integer", "format": "int64", "minimum": number(least), "maximum": number(Int64.max),
      "description": "A 64-bit integer: at most \(Int64.max).",
    ]
  }

  private static let lines: JSONValue = [
    "type": "array", "items": line(price: written), "maxItems": number(OrderInput.mostLines),
  ]

  private static func tagIDs(_ type: JSONValue) -> JSONValue {
    ["type": type, "items": id, "maxItems": number(OrderInput.mostTags), "uniqueItems": true]
  }

  private static let read: JSONValue = [
    "type": "number", "minimum": 0,
    "maximum": .number(ExactDecimal(Money.prices.upperBound, places: Money.priceDecimals)),
  ]
  private static let written: JSONValue =
    read + ["multipleOf": .number(ExactDecimal(1, places: Money.priceDecimals))]

  private static func line(price: JSONValue) -> JSONValue {
    object(
      [
        "product_id": id,
        "quantity": [
          "type": "integer", "minimum": number(OrderInput.quantities.lowerBound),
          "maximum": number(OrderInput.quantities.upperBound),
        ],
        "price": price,
      ], required: ["product_id", "quantity", "price"])
  }

  private static func read(_ properties: JSONValue) -> JSONValue {
    let all: JSONValue = ["id": id] + properties
    return object(all, required: names(all))
  }

  private static func written(_ properties: JSONValue, required: [String]) -> JSONValue {
    object(properties, required: required)
  }

  private static func object(_ properties: JSONValue, required: [String]) -> JSONValue {
    let needs: JSONValue = required.isEmpty ? [:] : ["required": .array(required.map { "\($0)" })]
    return ["type": "object", "properties": properties] + needs + ["additionalProperties": false]
  }

  private static func names(_ object: JSONValue) -> [String] {
    guard case .object(let members) = object else { return [] }
    return members.map(\.name.string)
  }

  static func number(_ value: some BinaryInteger) -> JSONValue { .number(ExactDecimal(value)) }

  // MARK: Examples (those to send succeed on the demo data)

  static func input(_ resource: Resource) -> JSONValue {
    switch resource {
    case .contact: ["name": "Ann", "email": "ann@example.org"]
    case .product: ["name": "Pen"]
    case .tag: ["name": "gift"]
    case .order:
      [
        "name": "SO001", "contact_id": 2,
        "order_lines": [
          ["product_id": 1, "quantity": 1, "price": decimal(25)],
          ["product_id": 2, "quantity": 2, "price": decimal(125)],
        ],
        "tag_ids": [1, 2],
      ]
    }
  }

  static func patch(_ resource: Resource) -> JSONValue {
    switch resource {
    case .contact: ["email": "ann@example.com"]
    case .product: ["name": "Fountain pen"]
    case .tag: ["name": "errands"]
    case .order: ["order_lines": [["product_id": 1, "quantity": 3, "price": decimal(25)]], "tag_ids": [1]]
    }
  }

  /// What comes of `input`.
  static func example(_ resource: Resource) -> JSONValue {
    switch resource {
    case .order:
      [
        "id": 1, "name": "SO001", "contact_id": 2,
        "order_lines": [
          ["product_id": 1, "quantity": 1, "price": decimal(25)],
          ["product_id": 2, "quantity": 2, "price": decimal(125)],
        ],
        "tags": [["name": "shopping"], ["name": "food"]], "amount_total": decimal(275),
      ]
    default: ["id": 1] + input(resource)
    }
  }

  /// What comes of `patch` after it.
  static func changed(_ resource: Resource) -> JSONValue {
    switch resource {
    case .contact: ["id": 1, "name": "Ann", "email": "ann@example.com"]
    case .product, .tag: ["id": 1] + patch(resource)
    case .order:
      [
        "id": 1, "name": "SO001", "contact_id": 2,
        "order_lines": [["product_id": 1, "quantity": 3, "price": decimal(25)]],
        "tags": [["name": "shopping"]], "amount_total": decimal(75),
      ]
    }
  }

  private static func decimal(_ hundredths: Int64) -> JSONValue { .number(ExactDecimal(hundredths, places: 2)) }
}
