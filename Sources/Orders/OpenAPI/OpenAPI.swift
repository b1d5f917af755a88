// The API's description for machines (OpenAPI 3.1): paths and operations. Routes, methods, parameters and limits are those of
// the code beside it; schemas and answers have files of their own.

import CGI
import HTTPTypes
import JSON
import Postgres
import Text

/// What `forkloop openapi` prints and nginx serves as `/openapi.json`.
package enum OpenAPI {
  /// The whole document, for people and machines.
  package static func document() -> [UInt8] {
    var writer = JSONWriter(capacity: 256 << 10)
    writer.pretty(description)
    writer.raw("\n")
    return writer.take()
  }

  static let description: JSONValue = [
    "openapi": "3.1.0",
    "info": [
      "title": "forkloop",
      "version": "\(Orders.version)",
      "summary": "One orders API through two process models: a prefork pool and an event loop.",
      "description": """
      Contacts, products, tags and sale orders. Every route exists twice, under `/sync` and under `/async`, on one database, \
      and answers alike. Wherever GET is, HEAD is too; OPTIONS tells the methods of a path; a path with a slash at its end \
      is answered with 308. Every answer has `X-Request-Id` and `Server-Timing`. Errors are problem details (RFC 9457).
      """,
      "license": ["name": "Apache License 2.0", "identifier": "Apache-2.0"],
    ],
    "servers": [["url": "/"]],
    "tags": [
      [
        "name": "Sync routes",
        "description": "The prefork pool: a process for each request under way, which waits for the database.",
      ],
      [
        "name": "Async routes",
        "description": "The event loop: one thread for all requests, whose statements go in pipelines.",
      ],
    ],
    "paths": .object(Mode.allCases.flatMap(paths)),
    "components": [
      "schemas": schemas,
      "parameters": parameters,
      "headers": headers,
      "responses": responses,
    ],
  ]

  private static func paths(_ mode: Mode) -> [JSONValue.Member] {
    Resource.allCases.flatMap { resource in
      [
        JSONValue.Member(
          name: "\(mode.prefix)/\(resource.rawValue)", value: path(.collection(resource), mode)),
        JSONValue.Member(
          name: "\(mode.prefix)/\(resource.rawValue)/{id}", value: path(.item(resource, 1), mode)),
      ]
    } + [
      JSONValue.Member(name: "\(mode.prefix)/health", value: path(.health, mode)),
      JSONValue.Member(name: "\(mode.prefix)/live", value: path(.live, mode)),
    ]
  }

  /// The operations of a route; HEAD and OPTIONS go without saying.
  private static func path(_ route: Route, _ mode: Mode) -> JSONValue {
    let methods = route.methods.list.filter { $0 != .head && $0 != .options }
    return .object(
      methods.map {
        JSONValue.Member(name: UTF8Text($0.rawValue.lowercased()), value: operation($0, route, mode))
      })
  }

  private static func operation(_ method: HTTPRequest.Method, _ route: Route, _ mode: Mode) -> JSONValue {
    let tag: JSONValue = ["tags": [mode == .sync ? "Sync routes" : "Async routes"]]
    switch (route, method) {
    case (.collection(let resource), .post): return tag + creation(resource, mode)
    case (.collection(let resource), _): return tag + listing(resource, mode)
    case (.item(let resource, _), .patch): return tag + change(resource, mode)
    case (.item(let resource, _), .delete): return tag + deletion(resource, mode)
    case (.item(let resource, _), _): return tag + reading(resource, mode)
    case (.health, _): return tag + health(mode)
    case (.live, _): return tag + live(mode)
    }
  }

  private static func listing(_ resource: Resource, _ mode: Mode) -> JSONValue {
    [
      "operationId": id("List", mode, resource, "s"),
      "summary": "List \(resource.rawValue)s",
      "description": """
      In the order of their ids. Where there are more, `Link` leads to the next page, which costs what the first \
      costs.\(resource == .order ? orderPages : "")
      """,
      "parameters": parameters(Page.parameters(of: resource) + ["if_match", "if_none_match_read"]),
      "responses": [
        "200": [
          "description": "A page of \(resource.rawValue)s.",
          "headers": refs("ETag", "Link"),
          "content": json(
            ["type": "array", "items": schema(resource.schema)], example: .array([resource.description.made])),
        ]
      ] + answers("304", "400", "412", "414", "422", "500", "503", "504"),
    ]
  }

  private static let orderPages = """
     A page also ends before the order with which its lines would come to more than \(Order.mostLines), or its tags to more than \
    \(Order.mostLinks), and with the one that brings its JSON to \(Order.longestPage) bytes: it then has fewer than `limit`, at \
    least one.
    """

  private static func creation(_ resource: Resource, _ mode: Mode) -> JSONValue {
    let known: JSONValue = ["id": "$response.body#/id"]
    func link(_ verb: String) -> JSONValue {
      ["operationId": id(verb, mode, resource), "parameters": known]
    }
    return [
      "operationId": id("Create", mode, resource),
      "summary": "Create \(resource.article) \(resource.rawValue)",
      "parameters": parameters(["idempotency_key", "if_match", "if_none_match"]),
      "requestBody": [
        "required": true,
        "content": json(schema("New\(resource.schema)"), example: resource.description.input),
      ],
      "responses": [
        "201": [
          "description": "The \(resource.rawValue), as GET shows it.",
          "headers": refs("ETag", "Location", "Idempotency-Replayed"),
          "content": json(schema(resource.schema), example: resource.description.made),
          "links": ["read": link("Read"), "change": link("Change"), "delete": link("Delete")],
        ]
      ] + answers("400", "409", "412", "413", "414", "415", "422", "500", "503", "504"),
    ]
  }

  private static func reading(_ resource: Resource, _ mode: Mode) -> JSONValue {
    [
      "operationId": id("Read", mode, resource),
      "summary": "Read \(resource.article) \(resource.rawValue)",
      "parameters": parameters(["id", "if_match", "if_none_match_read"]),
      "responses": [
        "200": [
          "description": "The \(resource.rawValue).",
          "headers": refs("ETag"),
          "content": json(schema(resource.schema), example: resource.description.made),
        ]
      ] + answers("304", "400", "404", "412", "414", "422", "500", "503", "504"),
    ]
  }

  private static func change(_ resource: Resource, _ mode: Mode) -> JSONValue {
    let body: JSONValue = ["schema": schema("\(resource.schema)Patch"), "example": resource.description.patch]
    return [
      "operationId": id("Change", mode, resource),
      "summary": "Change \(resource.article) \(resource.rawValue)",
      "description": "A JSON Merge Patch (RFC 7396): what is left out stays as it is; arrays are replaced as a whole.",
      "parameters": parameters(["id", "if_match", "if_none_match"]),
      "requestBody": [
        "required": true,
        "content": ["application/merge-patch+json": body, "application/json": body],
      ],
      "responses": [
        "200": [
          "description": "The \(resource.rawValue) as it is now.",
          "headers": refs("ETag"),
          "content": json(schema(resource.schema), example: resource.description.changed),
        ]
      ]
        + answers(
          // The others have no name that can be taken, and refer to nothing that can go meanwhile.
          resource == .order || resource.description.hasUniqueName
            ? ["400", "404", "409", "412", "413", "414", "415-patch", "422", "500", "503", "504"]
            : ["400", "404", "412", "413", "414", "415-patch", "422", "500", "503", "504"]),
    ]
  }

  private static func deletion(_ resource: Resource, _ mode: Mode) -> JSONValue {
    let others: JSONValue =
      if resource == .order {
        ["description": "Its lines and tag links go along."]
      } else if resource.description.isReferredTo {
        ["description": "What an order refers to can't be deleted."]
      } else {
        [:]
      }
    return [
      "operationId": id("Delete", mode, resource),
      "summary": "Delete \(resource.article) \(resource.rawValue)",
    ] + others + [
      "parameters": parameters(["id", "if_match", "if_none_match"]),
      "responses": ["204": ["description": "It is gone."]]
        + answers(
          resource.description.isReferredTo
            ? ["400", "404", "409", "412", "414", "422", "500", "503", "504"]
            : ["400", "404", "412", "414", "422", "500", "503", "504"]),
    ]
  }

  private static func health(_ mode: Mode) -> JSONValue {
    func content(_ status: String, _ database: String, _ schema: SchemaState) -> JSONValue {
      json(
        Self.schema("Health"),
        example: [
          "mode": "\(mode.rawValue)", "status": "\(status)", "database": "\(database)",
          "schema": "\(schema.rawValue)", "version": "\(Orders.version)",
        ])
    }
    return [
      "operationId": "\(mode.rawValue)Health",
      "summary": "Whether requests can be served",
      "description": """
      For whoever decides whether to send them here: a load balancer's check, a readiness probe.
      """,
      "parameters": parameters(["if_match", "if_none_match_read"]),
      "responses": [
        "200": ["description": "They can.", "headers": refs("ETag"), "content": content("ok", "ok", .ok)],
        "503": [
          "description": """
          They can't, or soon won't be: there is no database, its schema is not this program's, or the server is about to stop \
          (`draining`).
          """,
          "headers": refs("Retry-After"),
          "content": content("unavailable", "unavailable", .unknown)
            + ["application/problem+json": ["schema": Self.schema("Problem")]],
        ],
      ] + answers("304", "400", "412", "414", "422", "500", "504"),
    ]
  }

  private static func live(_ mode: Mode) -> JSONValue {
    [
      "operationId": "\(mode.rawValue)Live",
      "summary": "Whether the process answers",
      "description": "Whatever the database does: for whoever decides whether to start it anew, a liveness probe.",
      "parameters": parameters(["if_match", "if_none_match_read"]),
      "responses": [
        "200": [
          "description": "It does.",
          "headers": refs("ETag"),
          "content": json(
            schema("Live"),
            example: ["mode": "\(mode.rawValue)", "status": "ok", "version": "\(Orders.version)"]),
        ]
      ] + answers("304", "400", "412", "414", "422", "503", "504"),
    ]
  }

  // MARK: Pieces

  private static func id(_ verb: String, _ mode: Mode, _ resource: Resource, _ end: String = "") -> JSONValue {
    "\(mode.rawValue)\(verb)\(resource.schema)\(end)"
  }

  static func schema(_ name: String) -> JSONValue { ["$ref": "#/components/schemas/\(name)"] }

  private static func json(_ schema: JSONValue, example: JSONValue) -> JSONValue {
    ["application/json": ["schema": schema, "example": example]]
  }

  /// All parameters of an operation, those in its path too: Swagger UI does not resolve what a path item only refers to.
  private static func parameters(_ names: [UTF8Text]) -> JSONValue {
    .array(names.map { ["$ref": "#/components/parameters/\($0)"] })
  }

  static func refs(_ headers: String...) -> JSONValue {
    .object(headers.map { JSONValue.Member(name: UTF8Text($0), value: ["$ref": "#/components/headers/\($0)"]) })
  }

  private static func answers(_ statuses: String...) -> JSONValue { answers(statuses) }

  /// The web server's own are everywhere.
  private static func answers(_ names: [String]) -> JSONValue {
    .object(
      (names + ["431", "502"]).sorted().map {
        JSONValue.Member(name: UTF8Text(String($0.prefix(3))), value: ["$ref": "#/components/responses/\($0)"])
      })
  }
}

extension Resource {
  /// The name of its schema.
  var schema: String { rawValue.prefix(1).uppercased() + rawValue.dropFirst() }
  fileprivate var article: String { self == .order ? "an" : "a" }
}
