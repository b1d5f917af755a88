#!/usr/bin/env python3
"""A client in forty lines of the standard library. usage: orders.py [http://127.0.0.1:8080/async]"""
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid

API = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080/async"


def call(method, url, body=None, headers={}):
    """(object, headers); an error's explanation ends the program."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers}, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read() or "null"), answer.headers
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {url}: {error.code} {error.read().decode()}")


def every(url):
    """All objects of a list, page by page."""
    while url:
        page, headers = call("GET", url)
        yield from page
        url = "Link" in headers and urllib.parse.urljoin(url, headers["Link"][1:].split(">")[0])


contact = call("POST", f"{API}/contact", {"name": "Ann", "email": "ann@example.org"})[0]["id"]
line = {"product_id": call("POST", f"{API}/product", {"name": "Pen"})[0]["id"], "quantity": 3, "price": 0.25}
for number in range(5):
    order = {"name": f"SO{number:03}", "contact_id": contact, "order_lines": [line] * (number + 1)}
    call("POST", f"{API}/order", order, {"Idempotency-Key": str(uuid.uuid4())})
for order in every(f"{API}/order?contact_id={contact}&limit=2"):
    print(order["id"], order["name"], order["amount_total"])
    _, headers = call("GET", f"{API}/order/{order['id']}")
    call("DELETE", f"{API}/order/{order['id']}", headers={"If-Match": headers["ETag"]})
