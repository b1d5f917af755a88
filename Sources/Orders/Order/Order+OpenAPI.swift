// What the description of the API says of orders.

import JSON

extension Order {
  static let description = ResourceDescription(
    shown: [
      "name": OpenAPI.name, "contact_id": OpenAPI.id,
      "order_lines": ["type": "array", "items": line(price: read), "maxItems": OpenAPI.number(OrderInput.mostLines)],
      "tags": [
        "type": "array",
        "items": [
          "type": "object", "properties": ["name": OpenAPI.name], "required": ["name"], "additionalProperties": false,
        ],
      ],
      "amount_total": [
        "type": "number", "minimum": 0,
        "description": "The sum of quantity × price, exact, then rounded half-even to two decimals.",
      ],
    ],
    sent: ["name": OpenAPI.name, "contact_id": OpenAPI.id, "order_lines": lines, "tag_ids": tagIDs("array")],
    patched: [
      "name": OpenAPI.name, "contact_id": OpenAPI.id, "order_lines": lines, "tag_ids": tagIDs(["array", "null"]),
    ],
    required: ["name", "contact_id", "order_lines"],
    input: ["name": "SO001", "contact_id": 2, "order_lines": someLines, "tag_ids": [1, 2]],
    patch: ["order_lines": otherLines, "tag_ids": [1]],
    made: [
      "id": 1, "name": "SO001", "contact_id": 2, "order_lines": someLines,
      "tags": [["name": "shopping"], ["name": "food"]], "amount_total": decimal(275),
    ],
    changed: [
      "id": 1, "name": "SO001", "contact_id": 2, "order_lines": otherLines, "tags": [["name": "shopping"]],
      "amount_total": decimal(75),
    ])

  // MARK: Schemas

  private static let lines: JSONValue = [
    "type": "array", "items": line(price: written), "maxItems": OpenAPI.number(OrderInput.mostLines),
  ]

  private static func tagIDs(_ type: JSONValue) -> JSONValue {
    ["type": type, "items": OpenAPI.id, "maxItems": OpenAPI.number(OrderInput.mostTags), "uniqueItems": true]
  }

  private static let read: JSONValue = [
    "type": "number", "minimum": 0,
    "maximum": .number(ExactDecimal(Money.prices.upperBound, places: Money.priceDecimals)),
  ]
  private static let written: JSONValue =
    read + ["multipleOf": .number(ExactDecimal(1, places: Money.priceDecimals))]

  private static func line(price: JSONValue) -> JSONValue {
    OpenAPI.object(
      [
        "product_id": OpenAPI.id,
        "quantity": [
          "type": "integer", "minimum": OpenAPI.number(OrderInput.quantities.lowerBound),
          "maximum": OpenAPI.number(OrderInput.quantities.upperBound),
        ],
        "price": price,
      ], required: ["product_id", "quantity", "price"])
  }

  // MARK: Examples

  private static let someLines: JSONValue = [
    ["product_id": 1, "quantity": 1, "price": decimal(25)], ["product_id": 2, "quantity": 2, "price": decimal(125)],
  ]
  private static let otherLines: JSONValue = [["product_id": 1, "quantity": 3, "price": decimal(25)]]

  private static func decimal(_ hundredths: Int64) -> JSONValue { .number(ExactDecimal(hundredths, places: 2)) }
}
