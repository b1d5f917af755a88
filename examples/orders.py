#!/usr/bin/env python3
"""A client of nothing but the standard library. usage: orders.py [http://127.0.0.1:8080/async]"""
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid

API = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080/async"


def call(method, url, body=None, **headers):
    """(object, headers); an error's explanation ends the program."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method)) as answer:
            return json.loads(answer.read() or "null"), answer.headers
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {url}: {error.code} {error.read().decode()}")


def every(path):
    """All objects of a list, page by page."""
    url = f"{API}/{path}"
    while url:
        page, headers = call("GET", url)
        yield from page
        link = headers.get("Link")
        url = link and urllib.parse.urljoin(API, link[1 : link.index(">")])


contact, _ = call("POST", f"{API}/contact", {"name": "Ann", "email": "ann@example.org"})
product, _ = call("POST", f"{API}/product", {"name": "Pen"})
line = {"product_id": product["id"], "quantity": 3, "price": 0.25}
for number in range(5):
    order = {"name": f"SO{number:03}", "contact_id": contact["id"], "order_lines": [line] * (number + 1)}
    call("POST", f"{API}/order", order, Idempotency_Key=str(uuid.uuid4()))
for order in every(f"order?contact_id={contact['id']}&limit=2"):
    print(order["id"], order["name"], order["amount_total"])
    _, headers = call("GET", f"{API}/order/{order['id']}")
    call("DELETE", f"{API}/order/{order['id']}", If_Match=headers["ETag"])
