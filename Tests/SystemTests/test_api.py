"""One table of requests, sent to both servers through nginx: equal status, headers and bytes."""

import contextlib
import glob
import http.client
import json
import os
import pathlib
import re

import pytest

from local_stack import MODES, descendants, eventually

ORDER = {
    "name": "SO001", "contact_id": 2,
    "order_lines": [{"product_id": 1, "quantity": 1, "price": 0.25}, {"product_id": 2, "quantity": 2, "price": 1.25}],
    "tag_ids": [1, 2],
}
EXAMPLE = (b'{"id":%d,"name":"SO001","contact_id":2,"order_lines":[{"product_id":1,"quantity":1,"price":0.25},'
           b'{"product_id":2,"quantity":2,"price":1.25}],"tags":[{"name":"shopping"},{"name":"food"}],"amount_total":2.75}')


@pytest.mark.parametrize("mode", MODES)
def test_the_contracts_order_is_created_and_read_exactly(stocked, mode):
    created = stocked.request("POST", f"/{mode}/order", ORDER)
    assert (created.status, created.body) == (201, EXAMPLE % 1), created
    assert created.header("Location") == f"/{mode}/order/1"
    assert created.header("Content-Type") == "application/json"
    for other in MODES:
        assert stocked.request("GET", f"/{other}/order/1").body == EXAMPLE % 1
        assert stocked.request("GET", f"/{other}/order").body == b"[" + EXAMPLE % 1 + b"]"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("resource, sent, read", [
    ("contact", {"name": "Ann", "email": "ann@example.org"}, b'{"id":1,"name":"Ann","email":"ann@example.org"}'),
    ("product", {"name": "Pen"}, b'{"id":1,"name":"Pen"}'),
    ("tag", {"name": "IT"}, b'{"id":1,"name":"IT"}'),
])
def test_small_resources_are_created_and_read(stack, mode, resource, sent, read):
    created = stack.request("POST", f"/{mode}/{resource}", sent)
    assert (created.status, created.body, created.header("Location")) == (201, read, f"/{mode}/{resource}/1"), created
    assert stack.both("GET", f"/{resource}/1").body == read
    assert stack.both("GET", f"/{resource}").body == b"[" + read + b"]"


TABLE = [
    # method, path, body, headers, status
    ("GET", "/contact", None, {}, 200),
    ("GET", "/product?limit=1", None, {}, 200),
    ("GET", "/tag?limit=2&after=1", None, {}, 200),
    ("GET", "/order", None, {}, 200),
    ("GET", "/contact/1", None, {}, 200),
    ("HEAD", "/contact", None, {}, 200),
    ("HEAD", "/contact/1", None, {}, 200),
    ("HEAD", "/contact/99", None, {}, 404),
    ("OPTIONS", "/order", None, {}, 204),
    ("OPTIONS", "/order/1", None, {}, 204),
    ("GET", "/contact/99", None, {}, 404),
    ("GET", "/order/1", None, {}, 404),
    ("GET", "/contact/9223372036854775807", None, {}, 404),
    ("GET", "/contact/9223372036854775808", None, {}, 404),
    ("GET", "/contact/99999999999999999999999", None, {}, 404),
    ("GET", "/contact/x", None, {}, 404),
    ("GET", "/nothing", None, {}, 404),
    ("GET", "/", None, {}, 404),
    ("PUT", "/contact/1", "{}", {}, 405),
    ("DELETE", "/contact", None, {}, 405),
    ("POST", "/contact/1", "{}", {}, 405),
    ("BREW", "/contact", None, {}, 405),
    ("GET", "/contact?limit=%zz", None, {}, 400),
    ("GET", "/contact?limit=0", None, {}, 422),
    ("GET", "/contact?limit=1001", None, {}, 422),
    *(("GET", f"/order?{query}", None, {}, 422) for query in ("limit=01", "limit=0001", "after=00", "after=0001", "contact_id=01", "product_id=01", "contact_id=0")),
    *(("GET", f"/order?{query}", None, {}, 200) for query in ("after=0", "limit=10", "limit=%31", "contact_id=10")),
    ("GET", "/contact/01", None, {}, 404),
    ("GET", "/contact?page=1&after=x", None, {}, 422),
    ("GET", "/contact/1?x=1", None, {}, 422),
    ("POST", "/tag", "{", {}, 400),
    ("POST", "/tag", "", {}, 400),
    ("POST", "/tag", b'{"name":"\xff"}', {}, 400),
    ("POST", "/tag", "[" * 65 + "]" * 65, {}, 400),
    ("POST", "/tag", '{"name":"x"}', {"Content-Type": "text/plain"}, 415),
    ("POST", "/tag", '{"name":"x"}', {"Content-Type": ""}, 415),
    ("POST", "/tag", '{"name":"' + "x" * (1 << 20) + '"}', {}, 413),
    ("POST", "/tag", '{"name":"IT"}', {}, 409),
    ("POST", "/tag", {"name": 1}, {}, 422),
    ("POST", "/tag", {"name": "\0"}, {}, 422),
    ("POST", "/tag", {"name": "x" * 256}, {}, 422),
    ("POST", "/contact", {"nmae": "x"}, {}, 422),
    ("POST", "/order", {**ORDER, "contact_id": 9}, {}, 422),
    ("POST", "/order", {**ORDER, "contact_id": 2**63 - 1}, {}, 422),
    ("POST", "/order", {**ORDER, "contact_id": 2**63}, {}, 422),
    ("POST", "/order", {**ORDER, "tag_ids": [1, 8, 9]}, {}, 422),
    ("POST", "/order", '{"name":"a","contact_id":1,"order_lines":[{"product_id":1,"quantity":1,"price":0.12345}]}', {}, 422),
    ("POST", "/order", '{"name":"a","contact_id":1,"order_lines":[{"product_id":1,"quantity":1,"price":1e400}]}', {}, 422),
]


@pytest.mark.parametrize("method, path, body, headers, status", TABLE, ids=[f"{t[0]} {t[1]} {t[4]}" for t in TABLE])
def test_both_servers_answer_alike(stocked, method, path, body, headers, status):
    answer = stocked.both(method, path, body, headers)
    assert answer.status == status, answer
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert answer.header("X-Request-Id")
    if status in (204, 405):
        assert answer.header("Allow"), answer
    if method == "HEAD" or status == 204:
        assert answer.body == b""
    elif status >= 400:
        assert answer.header("Content-Type") == "application/problem+json", answer
        problem = answer.json
        assert set(problem) >= {"type", "title", "status", "detail"} and problem["status"] == status, problem
        assert ("errors" in problem) == (status == 422), problem


def test_head_tells_the_length_of_get(stocked):
    get, head = stocked.both("GET", "/contact"), stocked.both("HEAD", "/contact")
    assert head.header("Content-Length") == get.header("Content-Length") == str(len(get.body))


def test_a_422_names_every_fault_and_every_missing_id(stocked):
    wrong = stocked.both("POST", "/order", {"name": "", "contact_id": "1", "order_lines": [{"price": 1, "qty": 2}], "tag_ids": [1, 1]})
    assert [(e["pointer"], e["code"]) for e in wrong.json["errors"]] == [
        ("/name", "blank"), ("/contact_id", "wrong_type"), ("/order_lines/0/qty", "unknown"), ("/order_lines/0/product_id", "missing"),
        ("/order_lines/0/quantity", "missing"), ("/tag_ids/1", "repeated")]
    line = {"product_id": 7, "quantity": 1, "price": 1}
    missing = stocked.both("POST", "/order", {"name": "a", "contact_id": 8, "order_lines": [line, {**line, "product_id": 1}, line], "tag_ids": [1, 9]})
    assert [(e["pointer"], e["code"]) for e in missing.json["errors"]] == [
        ("/contact_id", "not_found"), ("/order_lines/0/product_id", "not_found"), ("/order_lines/2/product_id", "not_found"), ("/tag_ids/1", "not_found")]
    assert stocked.psql('select count(*) from "order"') == [("0",)]


@pytest.mark.parametrize("name", [
    "😀" * 255, "\"quotes\" and \\back\\slashes\\", "x" * 255, "line\nbreak\ttab", "<script>&amp;", "ünïcödé ‮ \u2028", "\x01\x1f\x7f", "null", "'; drop table tag; --",
], ids=range(9))
def test_names_come_back_as_they_were_sent(stack, name):
    for mode in MODES:
        created = stack.request("POST", f"/{mode}/product", {"name": name})
        assert created.status == 201 and created.json["name"] == name, created
    assert {p["name"] for p in stack.both("GET", "/product").json} == {name}


@pytest.mark.parametrize("price, quantity, total", [
    ("0.005", 1, "0"), ("0.015", 1, "0.02"), ("0.025", 1, "0.02"), ("0.0051", 1, "0.01"), ("1.10", 3, "3.3"), ("9999999999.9999", 1000000, "9999999999999900"),
    ("0", 1, "0"), ("1e-4", 50, "0"), ("1E-4", 150, "0.02"), ("100", 1, "100"),
])
def test_money_is_exact_and_totals_are_rounded_half_even(stocked, price, quantity, total):
    body = '{"name":"a","contact_id":1,"order_lines":[{"product_id":1,"quantity":%d,"price":%s}]}' % (quantity, price)
    for mode in MODES:
        created = stocked.request("POST", f"/{mode}/order", body)
        assert created.status == 201, created
        assert created.body.endswith(b'"amount_total":%s}' % total.encode()), created.body


def test_lines_keep_their_order_and_tags_read_by_id(stocked):
    lines = [{"product_id": 1 + i % 2, "quantity": 1 + i, "price": i} for i in range(1000)]
    for mode in MODES:
        created = stocked.request("POST", f"/{mode}/order", {"name": "a", "contact_id": 1, "order_lines": lines, "tag_ids": [3, 1, 2]})
        assert created.status == 201
        assert [line["quantity"] for line in created.json["order_lines"]] == list(range(1, 1001))
        assert [tag["name"] for tag in created.json["tags"]] == ["shopping", "food", "IT"]
        assert stocked.request("GET", created.header("Location")).body == created.body


def test_lists_are_walked_by_their_links(stocked):
    stocked.psql('insert into "order" (name, contact_id) select \'o\' || i, 1 from generate_series(1, 25) i;'
                 "insert into order_line (order_id, product_id, quantity, price) select o, 1, o, 1 from generate_series(1, 25) o")
    seen, path, pages = [], "/order?limit=7", 0
    while path:
        page = stocked.both("GET", path)
        seen += page.json
        link = page.header("Link")
        assert link is None or link.endswith('; rel="next"')
        path = link and link.split(">")[0].removeprefix("</sync")
        pages += 1
    assert pages == 4 and [o["id"] for o in seen] == list(range(1, 26))
    assert all(o["order_lines"][0]["quantity"] == o["id"] for o in seen)


def test_there_is_no_link_when_the_last_page_is_exactly_full(stocked):
    assert stocked.both("GET", "/tag?limit=3").header("Link") is None
    assert stocked.both("GET", "/tag?limit=2").header("Link") == '</sync/tag?limit=2&after=2>; rel="next"'


def test_a_client_s_sane_request_id_is_kept_and_another_replaced(stack):
    assert stack.request("GET", "/async/tag", headers={"X-Request-Id": "abc-1.2_3"}).header("X-Request-Id") == "abc-1.2_3"
    for bad in ("a b", "x" * 129, '"', "a;b"):
        assert stack.request("GET", "/sync/tag", headers={"X-Request-Id": bad}).header("X-Request-Id") not in (bad, None)


def test_no_two_requests_have_one_id_of_nginx_s_and_the_log_has_the_same(stack):
    ids = []
    for client in [http.client.HTTPConnection("127.0.0.1", stack.port) for _ in range(8)]:
        for mode in (*MODES, "no/such", *MODES):
            client.request("GET", f"/{mode}/tag")
            answer = client.getresponse()
            answer.read()
            ids.append(answer.headers["X-Request-Id"])
        client.close()
    assert len(set(ids)) == 8 * 5 and all(re.fullmatch(r"[0-9]+\.[0-9]{3}-[0-9]+-[1-5]", id) for id in ids), ids
    log = pathlib.Path(stack.path("log/access.log"))
    eventually(lambda: all(f'"id":"{id}"' in log.read_text() for id in ids), message="nginx has not logged every id")


def test_a_body_of_20_mb_is_refused(stack):
    answer = stack.both("POST", "/tag", b" " * (20 << 20))
    assert answer.status == 413 and answer.json["status"] == 413


def test_a_chunked_body_is_taken(stack):
    import http.client
    for mode in MODES:
        connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=30)
        connection.request("POST", f"/{mode}/tag", iter([b'{"na', b'me":"' + mode.encode(), b'"}']), {"Content-Type": "application/json"}, encode_chunked=True)
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["name"]) == (201, mode)
        connection.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_body_just_below_the_limit_is_taken(stack, mode):
    body = b'{"name":"big"' + b" " * (1048576 - 14) + b"}"
    assert len(body) == 1048576
    answer = stack.request("POST", f"/{mode}/tag", body)
    assert answer.status == 201, answer


@pytest.mark.parametrize("mode", MODES)
def test_hundreds_of_header_fields_are_no_harm(stack, mode):
    answer = stack.request("GET", f"/{mode}/tag", headers={f"X-{i}": "v" for i in range(500)})
    assert (answer.status, answer.body) == (200, b"[]"), answer


def test_a_header_that_is_too_long_is_a_problem_too(stack):
    answer = stack.request("GET", "/sync/tag", headers={"X-Long": "v" * 40_000})
    assert (answer.status, answer.header("Content-Type"), answer.json["status"]) == (431, "application/problem+json", 431), answer


@pytest.mark.parametrize("length", [8_000, 9_000, 40_000, 200_000])
def test_a_uri_that_is_too_long_is_a_problem_too(stack, length):
    answer = stack.request("GET", "/sync/product?limit=1&x=" + "x" * length)
    expected = 422 if length < 8_192 else 414
    assert (answer.status, answer.header("Content-Type"), answer.json["status"]) == (expected, "application/problem+json", expected), answer
    assert answer.header("X-Request-Id") and answer.header("Server-Timing") and answer.header("X-Content-Type-Options") == "nosniff"


def test_nginx_s_own_404_is_a_problem_too(stack):
    answer = stack.request("GET", "/nowhere")
    assert (answer.status, answer.header("Content-Type"), answer.json["status"]) == (404, "application/problem+json", 404)


def test_the_front_page_links_to_both_servers(stack):
    page = stack.request("GET", "/")
    assert page.status == 200 and b"/sync/order" in page.body and b"/async/order" in page.body


def test_reads_see_what_was_written_before_them(stack):
    for number in range(50):
        created = stack.request("POST", f"/{MODES[number % 2]}/tag", {"name": f"t{number}"})
        for mode in MODES:
            assert created.json in stack.request("GET", f"/{mode}/tag?limit=1000").json


def test_connections_that_are_kept_are_shared_out_among_nginx_workers(stack):
    workers = [w for master in stack.children("nginx") for w in descendants(master, 1)]
    clients = [http.client.HTTPConnection("127.0.0.1", stack.port) for _ in range(32 * len(workers))]
    try:
        for client in clients:
            client.request("GET", "/async/tag")
            assert client.getresponse().read() == b"[]"
        held = {worker: sockets_of(worker) & established(stack.port) for worker in workers}
        # Of 32 each, if it is left to chance.
        assert len(workers) == os.cpu_count() and all(len(s) >= 8 for s in held.values()), {w: len(s) for w, s in held.items()}
    finally:
        for client in clients:
            client.close()


def sockets_of(process):
    """The inodes of a process' sockets."""
    inodes = set()
    for path in glob.glob(f"/proc/{process}/fd/*"):
        with contextlib.suppress(OSError):  # Closed in between.
            link = os.readlink(path)
            if link.startswith("socket:["):
                inodes.add(link[8:-1])
    return inodes


def established(port):
    """The inodes of the TCP connections that have been accepted on a port."""
    rows = [line.split() for line in open("/proc/net/tcp").readlines()[1:]]
    return {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"}
