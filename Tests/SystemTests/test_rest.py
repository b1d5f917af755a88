"""Changing, deleting, filtering, conditions, idempotency keys and what every answer carries: on both servers."""

import collections
import concurrent.futures
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from fastcgi_client import answer, fastcgi
from local_stack import MODES, PROGRAM, clean_environment, eventually, listens, temporary_folder
from test_api import ORDER

OTHER = {"sync": "async", "async": "sync"}
PARTS = {"contact": {"name": "Ann", "email": "ann@example.org"}, "product": {"name": "Pen"}, "tag": {"name": "shopping"}, "order": ORDER}
PATCHES = [
    ("contact", {"name": "Anna"}), ("contact", {"email": "a@b"}), ("contact", {"name": "A", "email": "a@b"}), ("product", {"name": "Quill"}),
    ("tag", {"name": "errands"}), ("order", {"name": "SO002"}), ("order", {"contact_id": 1}), ("order", {"order_lines": []}),
    ("order", {"order_lines": [{"product_id": 2, "quantity": 7, "price": 0.5}, {"product_id": 1, "quantity": 1, "price": 1}]}),
    ("order", {"tag_ids": [3]}), ("order", {"tag_ids": [3, 2]}), ("order", {"tag_ids": []}), ("order", {"tag_ids": None}),
    ("order", {"name": "x", "contact_id": 1, "order_lines": [], "tag_ids": [1, 2, 3]}), ("order", {}),
]


def changed(before, patch):
    """What a merge patch makes of an order as it reads."""
    after = {**before, **{k: v for k, v in patch.items() if k != "tag_ids"}}
    if "tag_ids" in patch:
        after["tags"] = [{"name": ["shopping", "food", "IT"][i - 1]} for i in sorted(patch["tag_ids"] or [])]
    if "order_lines" in after:
        after["amount_total"] = sum(line["quantity"] * line["price"] for line in after["order_lines"])
    return after


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("resource, patch", PATCHES, ids=[f"{r} {list(p)}" for r, p in PATCHES])
def test_a_patch_changes_what_it_names_and_nothing_else(stocked, mode, resource, patch):
    if resource == "order":
        stocked.request("POST", f"/{mode}/order", ORDER)
        stocked.request("POST", f"/{mode}/order", {**ORDER, "name": "another"})
    path = f"/{mode}/{resource}/1"
    before = stocked.request("GET", path)
    answer = stocked.request("PATCH", path, patch, {"Content-Type": "application/merge-patch+json"})
    assert (answer.status, answer.json) == (200, changed(before.json, patch)), answer
    after = stocked.both("GET", f"/{resource}/1")
    assert (after.body, after.header("ETag")) == (answer.body, answer.header("ETag"))
    assert after.header("ETag") != before.header("ETag")
    if resource == "order":
        assert stocked.both("GET", "/order/2").json == {**before.json, "id": 2, "name": "another"}


@pytest.mark.parametrize("mode", MODES)
def test_a_patch_that_can_t_be_done_changes_nothing(stocked, mode):
    stocked.request("POST", f"/{mode}/order", ORDER)
    before = stocked.request("GET", f"/{mode}/order/1")
    wrong = stocked.request("PATCH", f"/{mode}/order/1", {"name": "x", "contact_id": 9, "order_lines": [{"product_id": 8, "quantity": 1, "price": 1}], "tag_ids": [7, 1]})
    assert [(e["pointer"], e["code"]) for e in wrong.json["errors"]] == [
        ("/contact_id", "not_found"), ("/order_lines/0/product_id", "not_found"), ("/tag_ids/0", "not_found")]
    assert stocked.request("PATCH", f"/{mode}/order/1", {"name": None, "amount_total": 1}).status == 422
    assert stocked.request("PATCH", f"/{mode}/order/1", {"order_lines": [{"product_id": 1}]}).status == 422
    assert stocked.request("PATCH", f"/{mode}/order/1", "[]").status == 422
    assert stocked.request("PATCH", f"/{mode}/order/1", "{}", {"Content-Type": "application/json-patch+json"}).status == 415
    assert stocked.request("PATCH", f"/{mode}/order/2", {"name": "x"}).status == 404
    assert stocked.request("PATCH", f"/{mode}/tag/1", {"name": "IT"}).status == 409
    after = stocked.both("GET", "/order/1")
    assert (after.body, after.header("ETag")) == (before.body, before.header("ETag"))


@pytest.mark.parametrize("mode", MODES)
def test_what_is_deleted_is_gone_and_what_is_referred_to_stays(stocked, mode):
    stocked.request("POST", f"/{mode}/order", ORDER)
    for path in ("contact/2", "product/1", "product/2", "tag/1", "tag/2"):
        refused = stocked.request("DELETE", f"/{mode}/{path}")
        assert (refused.status, refused.json["detail"]) == (409, f"Something still refers to this {path.split('/')[0]}."), refused
    gone = stocked.request("DELETE", f"/{mode}/order/1")
    assert (gone.status, gone.body, gone.header("Content-Length")) == (204, b"", None), gone
    assert stocked.psql("select (select count(*) from order_line), (select count(*) from order_tag_rel)") == [("0", "0")]
    for path in ("contact/2", "product/1", "tag/1"):
        assert stocked.request("DELETE", f"/{mode}/{path}").status == 204
    for path in ("order/1", "contact/2", "product/1", "tag/1"):
        assert stocked.both("GET", f"/{path}").status == 404
        assert stocked.both("DELETE", f"/{path}").status == 404


@pytest.mark.parametrize("resource", PARTS)
def test_who_has_it_already_gets_304(stocked, resource):
    stocked.request("POST", "/sync/order", ORDER)
    for path in (f"/{resource}", f"/{resource}?limit=1", f"/{resource}/1"):
        whole = stocked.both("GET", path)
        tag = whole.header("ETag")
        assert re.fullmatch(r'"[0-9a-f-]+"', tag), whole
        for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            for method in ("GET", "HEAD"):
                same = stocked.both(method, path, headers={"If-None-Match": condition})
                assert (same.status, same.body, same.header("ETag")) == (304, b"", tag), same
                assert same.header("Link") == whole.header("Link")
        assert stocked.both("GET", path, headers={"If-None-Match": '"other"'}).body == whole.body
    assert stocked.both("GET", f"/{resource}/99", headers={"If-None-Match": "*"}).status == 404


def test_an_entity_tag_changes_with_everything_that_the_body_shows(stocked):
    stocked.request("POST", "/sync/order", ORDER)
    seen = {stocked.both("GET", "/order/1").header("ETag")}

    def is_new():
        tag = stocked.both("GET", "/order/1").header("ETag")
        assert tag not in seen
        seen.add(tag)

    stocked.request("PATCH", "/async/tag/1", {"name": "errands"})
    is_new()
    stocked.psql("update order_line set quantity = 3 where id = 1")
    is_new()
    stocked.psql("delete from order_line where id = 1")
    is_new()
    stocked.psql("delete from order_tag_rel where tag_id = 1; insert into order_tag_rel values (1, 3)")
    is_new()
    stocked.request("PATCH", "/sync/contact/2", {"name": "not shown in the order"})
    assert stocked.both("GET", "/order/1").header("ETag") in seen


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("resource", PARTS)
def test_if_match_lets_only_those_write_who_have_seen_the_latest(stocked, mode, resource):
    stocked.request("POST", f"/{mode}/order", ORDER)
    path = f"/{mode}/{resource}/{3 if resource == 'tag' else 1}"
    old = stocked.request("GET", path).header("ETag")
    for wrong in ('"1"', '"1-2-3"', f"W/{old}", '"', '"x\'y"'):
        for method, body in (("PATCH", {"name": "no"}), ("DELETE", None)):
            refused = stocked.request(method, path, body, {"If-Match": wrong})
            assert (refused.status, refused.header("Content-Type")) == (412, "application/problem+json"), (wrong, refused)
    first = stocked.request("PATCH", path, {"name": "one"}, {"If-Match": f'"7", {old}'})
    assert (first.status, first.json["name"]) == (200, "one")
    assert stocked.request("PATCH", path, {"name": "two"}, {"If-Match": old}).status == 412
    assert stocked.request("DELETE", path, headers={"If-Match": old}).status == 412
    assert stocked.request("PATCH", path, {"name": "three"}, {"If-Match": "*"}).json["name"] == "three"
    latest = stocked.request("GET", f"/{OTHER[mode]}/{path.split('/', 2)[2]}").header("ETag")
    if resource in ("order", "tag"):
        assert stocked.request("DELETE", path, headers={"If-Match": latest}).status == 204
        assert stocked.request("DELETE", path, headers={"If-Match": latest}).status == 404


def at_once(stack, requests):
    """The answers to many requests sent together."""
    with concurrent.futures.ThreadPoolExecutor(len(requests)) as threads:
        return list(threads.map(lambda r: stack.request(*r[0], **r[1]), requests))


@pytest.mark.parametrize("resource", PARTS)
def test_of_fifty_patches_with_one_tag_exactly_one_wins(stocked, resource):
    stocked.request("POST", "/sync/order", ORDER)
    for _ in range(3):
        tag = stocked.request("GET", f"/sync/{resource}/1").header("ETag")
        answers = at_once(stocked, [
            (("PATCH", f"/{MODES[i % 2]}/{resource}/1", {"name": f"n{i}"}), {"headers": {"If-Match": tag}}) for i in range(50)])
        assert collections.Counter(a.status for a in answers) == {200: 1, 412: 49}
        (winner,) = [a for a in answers if a.status == 200]
        assert stocked.both("GET", f"/{resource}/1").body == winner.body


def test_patches_of_one_order_at_once_leave_the_lines_of_one_of_them(stocked):
    stocked.request("POST", "/sync/order", ORDER)
    patches = [{"order_lines": [{"product_id": 1 + i % 2, "quantity": i + 1, "price": 1}] * (1 + i % 5), "tag_ids": [1 + i % 3]} for i in range(40)]
    answers = at_once(stocked, [(("PATCH", f"/{MODES[i % 2]}/order/1", patch), {}) for i, patch in enumerate(patches)])
    assert {a.status for a in answers} == {200}
    for answer, patch in zip(answers, patches):
        assert answer.json["order_lines"] == patch["order_lines"] and len(answer.json["tags"]) == 1, "an answer mixes two patches"
    assert stocked.both("GET", "/order/1").body in [a.body for a in answers]
    assert len({a.header("ETag") for a in answers}) == 40


def test_orders_are_filtered_and_walked(stocked):
    chosen = [(1 + i % 2, 1 + i // 2 % 2, [1 + i % 3] if i % 4 else []) for i in range(24)]
    for contact, product, tags in chosen:
        line = {"product_id": product, "quantity": 1, "price": 1}
        assert stocked.request("POST", "/sync/order", {"name": "o", "contact_id": contact, "order_lines": [line, line], "tag_ids": tags}).status == 201
    names = ["shopping", "food", "IT"]
    for contact in (None, 1, 2, 3):
        for product in (None, 1, 2, 3):
            for tag in (None, "shopping", "IT", "none"):
                wanted = [i + 1 for i, (c, p, t) in enumerate(chosen)
                          if contact in (None, c) and product in (None, p) and (tag is None or tag in [names[j - 1] for j in t])]
                query = "".join(f"&{n}={v}" for n, v in (("contact_id", contact), ("product_id", product), ("tag", tag)) if v)
                seen, path = [], f"/order?limit=3{query}"
                while path:
                    page = stocked.both("GET", path)
                    seen += page.json
                    path = page.header("Link") and page.header("Link").split(">")[0].removeprefix("</sync")
                assert [o["id"] for o in seen] == wanted, query
                assert all(len(o["order_lines"]) == 2 for o in seen)
    assert [o["id"] for o in stocked.both("GET", "/order?contact_id=1&after=10").json] == list(range(11, 25, 2))


def test_a_tag_with_odd_letters_stays_in_the_link(stocked):
    tag = stocked.request("POST", "/sync/tag", {"name": "é & ü/=?"}).json["id"]
    for _ in range(3):
        stocked.request("POST", "/sync/order", {**ORDER, "tag_ids": [tag]})
    path, seen = "/order?limit=1&tag=%C3%A9+%26%20%C3%BC/%3D?", 0
    while path:
        page = stocked.both("GET", path)
        seen += len(page.json)
        path = page.header("Link") and page.header("Link").split(">")[0].removeprefix("</sync")
    assert seen == 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("resource", PARTS)
def test_the_same_key_and_body_get_the_first_answer_again_from_either_server(stocked, mode, resource):
    body = {**PARTS[resource], "name": "once"}
    key = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
    first = stocked.request("POST", f"/{mode}/{resource}", body, key)
    assert (first.status, first.header("Idempotency-Replayed")) == (201, None), first
    stocked.request("PATCH", first.header("Location"), {"name": "changed since"})
    for server in MODES:
        again = stocked.request("POST", f"/{server}/{resource}", body, key)
        assert (again.status, again.body, again.header("Location"), again.header("ETag")) == (201, first.body, first.header("Location"), first.header("ETag")), again
        assert again.header("Idempotency-Replayed") == "true"
        other = stocked.request("POST", f"/{server}/{resource}", {**body, "name": "twice"}, key)
        assert (other.status, other.json["errors"][0]["code"]) == (422, "reused"), other
        elsewhere = stocked.request("POST", f"/{server}/{'tag' if resource == 'product' else 'product'}", {"name": "once"}, key)
        assert elsewhere.status == 422, elsewhere
    assert len(stocked.both("GET", f"/{resource}").json) == 1 + {"contact": 2, "product": 2, "tag": 3, "order": 0}[resource]


@pytest.mark.parametrize("mode", MODES)
def test_the_first_answer_stays_when_all_that_it_tells_of_has_gone(stocked, mode):
    key = {"Idempotency-Key": "k"}
    first = stocked.request("POST", f"/{mode}/order", ORDER, key)
    for path in ("order/1", "contact/2", "product/1", "product/2", "tag/1", "tag/2"):
        assert stocked.request("DELETE", f"/{mode}/{path}").status == 204
    for server in MODES:
        again = stocked.request("POST", f"/{server}/order", ORDER, key)
        assert (again.status, again.body, again.header("Idempotency-Replayed")) == (201, first.body, "true"), again
        assert stocked.request("POST", f"/{server}/order", {**ORDER, "name": "x"}, key).json["errors"][0]["code"] == "reused"
    assert stocked.request("POST", f"/{mode}/order", ORDER).json["errors"][0]["code"] == "not_found"


@pytest.mark.parametrize("mode", MODES)
def test_what_was_refused_leaves_its_key_free(stocked, mode):
    key = {"Idempotency-Key": "k"}
    assert stocked.request("POST", f"/{mode}/order", {**ORDER, "contact_id": 9}, key).status == 422
    assert stocked.request("POST", f"/{mode}/tag", {"name": "IT"}, key).status == 409
    assert stocked.request("POST", f"/{mode}/tag", {"name": ""}, key).status == 422
    assert stocked.request("POST", f"/{mode}/tag", {"name": "free"}, key).status == 201
    for bad in ("x" * 256, "a b", "é"):
        assert stocked.request("POST", f"/{mode}/tag", {"name": "x"}, {"Idempotency-Key": bad.encode()}).status == 400


@pytest.mark.parametrize("mode", MODES)
def test_while_the_first_is_under_way_its_key_is_a_409(stocked, mode):
    lock = stocked.psql_open("begin; select from contact where id = 2 for update")
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        first = threads.submit(stocked.request, "POST", f"/{mode}/order", ORDER, {"Idempotency-Key": "k"})
        eventually(lambda: stocked.psql("select 1 from pg_stat_activity where wait_event_type = 'Lock'"), message="the first was not held up")
        for server in MODES:
            second = stocked.request("POST", f"/{server}/order", ORDER, {"Idempotency-Key": "k"})
            assert (second.status, "still under way" in second.json["detail"]) == (409, True), second
        lock.kill()
        assert first.result().status == 201
    assert stocked.request("POST", f"/{OTHER[mode]}/order", ORDER, {"Idempotency-Key": "k"}).body == first.result().body


def test_a_key_counts_for_a_day_and_old_ones_are_cleared_away(stocked):
    key = {"Idempotency-Key": "k"}
    stocked.request("POST", "/sync/tag", {"name": "a"}, key)
    stocked.psql("update idempotency_key set created_at = now() - interval '23 hours 59 minutes'")
    assert stocked.request("POST", "/async/tag", {"name": "a"}, key).header("Idempotency-Replayed") == "true"
    stocked.psql("update idempotency_key set created_at = now() - interval '24 hours 1 minute'")
    assert stocked.request("POST", "/async/tag", {"name": "a"}, key).status == 409, "the old key still counts"
    assert stocked.request("POST", "/async/tag", {"name": "b"}, key).status == 201
    assert stocked.request("POST", "/sync/tag", {"name": "b"}, key).header("Idempotency-Replayed") == "true"
    stocked.psql("insert into idempotency_key select 'old' || i, '', 'sync', '[]', now() - interval '2 days' from generate_series(1, 10) i")
    for number in range(5):
        stocked.request("POST", f"/{MODES[number % 2]}/tag", {"name": f"c{number}"}, {"Idempotency-Key": f"c{number}"})
    assert stocked.psql("select count(*) from idempotency_key where key like 'old%'") == [("0",)]


def test_fifty_equal_posts_at_once_make_one_order_while_workers_are_killed(own_stack):
    body = {**ORDER, "contact_id": 1, "order_lines": ORDER["order_lines"][:1], "tag_ids": []}
    for key in ("one", "two", "three"):
        def ask(number):
            answers = []
            while True:
                answer = own_stack.request("POST", f"/{MODES[number % 2]}/order", body, {"Idempotency-Key": key})
                answers.append(answer)
                if answer.status == 201:
                    return answers
                assert answer.status in (409, 502, 503), answer
                time.sleep(0.05)

        with concurrent.futures.ThreadPoolExecutor(50) as threads:
            asked = [threads.submit(ask, number) for number in range(50)]
            for worker in own_stack.workers() + [p for m in own_stack.children("async") for p in children(m)]:
                try:
                    os.kill(worker, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            answers = [answer for one in asked for answer in one.result()]
        made = [a for a in answers if a.status == 201]
        assert len({(a.body, a.header("Location")) for a in made}) == 1, "two answers differ"
        assert sum(a.header("Idempotency-Replayed") is None for a in made) <= 1
    assert own_stack.psql('select count(*), count(distinct id) from "order"') == [("3", "3")]


def children(process):
    return [int(p) for p in pathlib.Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_a_slash_at_the_end_is_sent_away(stocked):
    for path, query in (("/contact/", ""), ("/order/1/", ""), ("/order/", "?limit=1&tag=a%20b"), ("/health/", ""), ("/status/", "")):
        for method in ("GET", "POST"):
            answer = stocked.both(method, path + query)
            assert (answer.status, answer.header("Location")) == (308, f"/sync{path[:-1]}{query}"), answer
    # What no URI may have in it, as it was sent.
    for sent, shown in (("tag=\u00e9", "tag=%C3%A9"), ("a=\"<>|^`{}[]\\", "a=%22%3C%3E%7C%5E%60%7B%7D%5B%5D%5C"), ("a=%20%c3%a9+!$&'()*,;=:@/?-._~", "a=%20%c3%a9+!$&'()*,;=:@/?-._~")):
        for mode in MODES:
            with socket.create_connection(("127.0.0.1", stocked.port), timeout=20) as client:
                client.sendall(f"GET /{mode}/tag/?{sent} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                got = client.makefile("rb").read()
            assert f"\r\nLocation: /{mode}/tag?{shown}\r\n".encode() in got, (sent, got)
    assert stocked.both("GET", "/nothing/").status == 404
    assert stocked.both("GET", "/order/?%zz").status == 400


@pytest.mark.parametrize("path", ["/sync/status", "/async/status", "/sync/metrics", "/async/metrics", "/openapi.json", "/docs", "/redoc", "/", "/assets/swagger-ui.css"])
def test_what_can_only_be_read_takes_no_other_method(stack, path):
    assert stack.request("GET", path).status == 200
    assert stack.request("HEAD", path).status == 200
    for method, status in (("POST", 405), ("DELETE", 405), ("PATCH", 405), ("OPTIONS", 204)):
        answer = stack.request(method, path)
        assert (answer.status, answer.header("Allow")) == (status, "GET, HEAD, OPTIONS"), answer
        assert answer.header("Server-Timing") and answer.header("X-Request-Id"), answer


def test_where_no_responder_is_the_answer_is_as_complete(own_stack):
    os.rename(own_stack.path("run/sync.sock"), own_stack.path("run/away"))
    answer = own_stack.request("GET", "/sync/tag")
    os.rename(own_stack.path("run/away"), own_stack.path("run/sync.sock"))
    assert answer.status == 503, answer
    for name in ("Retry-After", "Server-Timing", "X-Request-Id", "X-Content-Type-Options"):
        assert answer.header(name), (name, answer)


@pytest.mark.parametrize("mode", MODES)
def test_health_tells_of_the_database(stack, mode):
    well = stack.request("GET", f"/{mode}/health")
    assert (well.status, well.json) == (200, {"mode": mode, "status": "ok", "database": "ok", "schema": "ok", "version": well.json["version"]}), well
    assert stack.request("HEAD", f"/{mode}/health").header("Content-Length") == well.header("Content-Length")
    with temporary_folder() as folder:
        process = subprocess.Popen([PROGRAM, mode, "--listen", f"unix:{folder}/s.sock"], stderr=subprocess.DEVNULL,
                                   env=clean_environment(DB_HOST=folder, DB_NAME="nowhere", DB_USER="nobody"))
        try:
            eventually(lambda: listens(f"{folder}/s.sock"), message="it did not start")
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(f"{folder}/s.sock")
                client.sendall(fastcgi(f"/{mode}/health", keep=0))
                head, body = answer(client).split(b"\r\n\r\n")
            assert head.startswith(b"Status: 503") and b"\r\nRetry-After: 1\r\n" in head, head
            assert json.loads(body) == {**well.json, "status": "unavailable", "database": "unavailable", "schema": "unknown"}
        finally:
            process.terminate()
            process.wait(30)


@pytest.mark.parametrize("mode", MODES)
def test_every_answer_says_how_long_it_took_and_who_it_was_for(stocked, mode):
    for method, path, body in (("GET", f"/{mode}/order", None), ("HEAD", f"/{mode}/order/1", None), ("POST", f"/{mode}/tag", "{"), ("POST", f"/{mode}/tag", '{"name":"t"}'),
                               ("DELETE", f"/{mode}/tag/99", None), ("GET", f"/{mode}/health", None), ("GET", f"/{mode}/status", None), ("GET", f"/{mode}/nothing", None),
                               ("GET", "/nowhere", None), ("POST", f"/{mode}/tag", b" " * (2 << 20)), ("OPTIONS", f"/{mode}/tag", None), ("GET", f"/{mode}/tag/", None)):
        answer = stocked.request(method, path, body, {"X-Request-Id": "who-1"})
        timing = re.fullmatch(r"db;dur=(\d+(?:\.\d+)?), app;dur=(\d+(?:\.\d+)?)", answer.header("Server-Timing") or "")
        assert timing, (method, path, answer)
        asked = answer.status in (200, 201) and not path.endswith("/status") or method in ("HEAD", "DELETE")
        assert (float(timing[1]) > 0) == asked, (method, path, answer)
        assert answer.header("X-Request-Id") == "who-1" and answer.header("X-Content-Type-Options") == "nosniff"


def test_a_traceparent_goes_into_the_logs(own_stack):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    own_stack.psql("alter table tag rename to away")
    for mode in MODES:
        assert own_stack.request("GET", f"/{mode}/tag", headers={"traceparent": trace, "X-Request-Id": f"r-{mode}"}).status == 503
        assert own_stack.request("GET", f"/{mode}/tag", headers={"traceparent": 'evil"\\ text', "X-Request-Id": f"e-{mode}"}).status == 503
    own_stack.psql("alter table away rename to tag")

    def lines(name, word):
        return [line for line in pathlib.Path(own_stack.path(f"log/{name}")).read_text().splitlines() if word in line]

    for mode in MODES:
        assert any(trace in line for line in eventually(lambda: lines(f"{mode}.log", f"r-{mode}"), message="nothing was logged"))
        assert not any("evil" in line for line in lines(f"{mode}.log", f"e-{mode}"))
        access = eventually(lambda: lines("access.log", f'"id":"r-{mode}"'), message="nginx has not logged it")
        assert json.loads(access[0])["traceparent"] == trace


@pytest.mark.parametrize("mode", MODES)
def test_a_tag_that_comes_while_an_order_with_it_is_made_is_in_the_answer_or_refused(stocked, mode):
    """The order waits for its contact; what it refers to comes after it has begun."""
    lock = stocked.psql_open("begin; select from contact where id = 1 for update")
    answers = []
    order = {"name": "early", "contact_id": 1, "order_lines": [], "tag_ids": [1, 77]}
    client = threading.Thread(target=lambda: answers.append(stocked.request("POST", f"/{mode}/order", order)))
    client.start()
    try:
        eventually(lambda: stocked.psql("select count(*) from pg_stat_activity where wait_event_type = 'Lock'") == [("1",)])
        stocked.psql("insert into tag (id, name) values (77, 'late')")
    finally:
        lock.kill()
        client.join()
    (made,) = answers
    assert made.status == 201 and made.json["tags"] == [{"name": "shopping"}, {"name": "late"}], made
    read = stocked.request("GET", made.header("Location"))
    assert (read.body, read.header("ETag")) == (made.body, made.header("ETag"))
