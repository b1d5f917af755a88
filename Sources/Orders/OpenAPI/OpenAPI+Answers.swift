// Parameters, header fields and what can go wrong, each described once and referred to.

import JSON

extension OpenAPI {
  static let parameters: JSONValue = [
    "id": ["name": "id", "in": "path", "required": true, "description": "Its id.", "schema": id],
    "limit": parameter(
      "limit", "How many at most.",
      [
        "type": "integer", "minimum": number(Page.limits.lowerBound), "maximum": number(Page.limits.upperBound),
        "default": number(Page.defaultLimit),
      ]),
    "after": parameter(
      "after", "Only those with a greater id.",
      id(from: 0) + ["default": 0]),
    "contact_id": parameter("contact_id", "Only orders of this contact.", id),
    "product_id": parameter("product_id", "Only orders with a line of this product.", id),
    "tag": parameter(
      "tag", "Only orders with the tag of this name.",
      [
        "type": "string", "minLength": 1, "maxLength": number(Validation.longestName), "pattern": #"^[^\u0000]+$"#,
        "description": "Without U+0000.",
      ]),
    "if_none_match_read": header(
      "If-None-Match", "Entity tags that the client has, or `*`: 304 if it is still one of them.",
      ["type": "string", "minLength": 1]),
    "if_none_match": header(
      "If-None-Match", "Entity tags, or `*`: 412, and nothing is done, if what is there has one of them.", entityTags),
    "if_match": header(
      "If-Match", "Entity tags that the client has seen, or `*`: 412 if it is none of them any more.", entityTags),
    "idempotency_key": header(
      "Idempotency-Key",
      """
      Chosen by the client. For 24 hours the same key and body get the first answer again, from both prefixes. It may stand in \
      quotes (a string of RFC 9651, which may hold spaces), and is the same key then.
      """,
      [
        "type": "string",
        "pattern": "\(keyPattern)",
      ]),
  ]

  /// By itself, or in quotes, where `"` and `\` have a `\` before them and there is not only space.
  private static let keyPattern =
    #"^([!#-~][!-~]{0,\#(Idempotency.longestKey - 1)}|"(?! *"$)([ !#-\[\]-~]|\\["\\]){1,\#(Idempotency.longestKey)}")$"#

  private static let entityTags: JSONValue = [
    "type": "string",
    "pattern": #"^(\*|(W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)$"#,
  ]

  private static func parameter(_ name: String, _ description: String, _ schema: JSONValue) -> JSONValue {
    ["name": "\(name)", "in": "query", "description": "\(description)", "schema": schema]
  }

  private static func header(_ name: String, _ description: String, _ schema: JSONValue) -> JSONValue {
    ["name": "\(name)", "in": "header", "description": "\(description)", "schema": schema]
  }

  static let headers: JSONValue = [
    "ETag": field("Changes whenever the answer does (RFC 9110 §8.8.3).", #"^"[0-9a-f-]+"$"#),
    "Link": field("Where the next page is, if there is one (RFC 8288).", #"^<[!-~]+>; rel="next"$"#),
    "Location": field("Where it can be read.", #"^/[!-~]+$"#),
    "Retry-After": field("Seconds after which to try again.", #"^[0-9]+$"#),
    "Accept": field("What a body may be.", "^application/json$"),
    "Accept-Patch": field("What a patch may be (RFC 5789 §3.1).", "^[!-~ ]+$"),
    "Idempotency-Replayed": field("Present where the answer is that of an earlier request.", #"^true$"#),
  ]

  private static func field(_ description: String, _ pattern: String) -> JSONValue {
    ["description": "\(description)", "schema": ["type": "string", "pattern": "\(pattern)"]]
  }

  static let responses: JSONValue = [
    "304": ["description": "The client has it already.", "headers": refs("ETag")],
    "400": problem(
      "The body is no JSON, the query string can't be decoded, or a header field is malformed or says nothing.",
      .badRequest(detail: "The query string can't be decoded: it must be percent-encoded UTF-8.")),
    "404": problem("There is no such thing.", .notFound(detail: "There is no order with this id.")),
    "409": problem(
      "Something still refers to it, its name is taken, or the first request with its key is still under way.",
      .conflict(detail: "The name is taken.")),
    "412": problem(
      "It is no longer what If-Match says, or it is what If-None-Match says. Nothing was done.", .preconditionFailed),
    "413": problem("The body is too long.", .bodyTooLarge),
    "414": problem(
      "Path and query are too long.", Problem(status: .uriTooLong, detail: "The URI is too long.")),
    "415": problem(
      "The body is not sent as JSON; or with a Content-Encoding, which is not taken: then there is `Accept-Encoding`.",
      .notJSON)
      + ["headers": refs("Accept")],
    "415-patch": problem(
      "The body is not sent as a merge patch; or with a Content-Encoding, which is not taken: then there is `Accept-Encoding`.",
      .notPatch) + ["headers": refs("Accept-Patch")],
    "422": problem(
      "It is JSON, but not what the route takes; or it refers to something that is not there. All faults are told, of more than \(Faults.most) the first.",
      .unprocessable([
        Fault(
          JSONPointer.root.member("order_lines").element(0).member("price"), .tooManyDecimals,
          "price must have at most \(Money.priceDecimals) decimals.")
      ])),
    "431": problem(
      "The header is too long.", Problem(status: .requestHeaderFieldsTooLarge, detail: "The header is too long.")),
    "500": problem(
      "A fault of ours, which our log knows by its request id.",
      Problem(status: .internalServerError, detail: "Something went wrong here.")),
    "502": problem(
      "A responder broke off in the middle. Nobody knows how far it got.",
      Problem(status: .badGateway, detail: "The server behind this one broke off.")),
    "503": problem(
      "The database is away or takes no writes, or the server is full.",
      Problem(status: .serviceUnavailable, detail: "The database can't be reached at the moment."))
      + ["headers": refs("Retry-After")],
    "504": problem(
      "It took too long and was given up.",
      Problem(status: .gatewayTimeout, detail: "The database took too long.")),
  ]

  private static func problem(_ description: String, _ problem: Problem) -> JSONValue {
    var writer = JSONWriter()
    let example = (try? JSONReader.read(problem.response(&writer).body)) ?? .null
    return [
      "description": "\(description)",
      "content": ["application/problem+json": ["schema": schema("Problem"), "example": example]],
    ]
  }
}
