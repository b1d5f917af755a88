"""Header fields: those that protect and say nothing, and those that every answer has, with nginx and without."""

import contextlib
import gzip
import itertools
import json
import re
import socket
import subprocess

import pytest

from fastcgi_client import answer, begin, connect, connect_to, record
from local_stack import MODES, PROGRAM, clean_environment
from responder import responder

GUARDS = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "Idempotency-Key")
LISTS = ("If-Match", "If-None-Match")
WELL = {"If-Match": "*", "If-None-Match": '"x"', "Idempotency-Key": "key", "If-Modified-Since": "Thu, 26 Nov 2026 13:05:14 GMT",
        "If-Unmodified-Since": "Thu, 26 Nov 2026 13:05:14 GMT"}
WRITES = (("PATCH", "/tag/1", '{"name":"changed"}'), ("DELETE", "/tag/3", ""), ("POST", "/tag", '{"name":"new"}'))


def exchange(port, data, host="127.0.0.1"):
    """What the server says to these bytes: status, header fields in lower case, body."""
    with socket.create_connection((host, port), timeout=20) as client:
        client.sendall(data)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            # nginx waits for a body that it does not want before it closes.
            while not is_whole(got) and (piece := client.recv(1 << 16)):
                got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = [tuple(line.split(": ", 1)) for line in lines[1:]]
    return int(lines[0].split()[1]), [(name.lower(), value) for name, value in fields], body


def is_whole(answer):
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: (\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


def send(stack, method, path, body, lines):
    """A request with these very header lines."""
    head = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *lines]
    if body:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return exchange(stack.port, "\r\n".join([*head, "", body]).encode())


def of(fields, name):
    return [value for field, value in fields if field == name.lower()]


def tags(stack):
    return stack.psql("select id, name from tag order by id")


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("mode", MODES)
def test_a_guard_that_says_nothing_keeps_everything_from_being_done(stocked, mode, guard):
    before = tags(stocked)
    ways = {"nothing": [f"{guard}:"], "a blank": [f"{guard}: "], "blanks": [f"{guard}:    "], "a tab": [f"{guard}:\t"], "both": [f"{guard}: \t "],
            "twice, the first without": [f"{guard}:", f"{guard}: {WELL[guard]}"], "twice, the second without": [f"{guard}: {WELL[guard]}", f"{guard}:"],
            "twice without": [f"{guard}:", f"{guard}:"], "small letters": [f"{guard.lower()}:"]}
    if guard in LISTS:
        ways |= {"a comma": [f"{guard}: ,"], "commas": [f"{guard}: , ,\t,"]}
    for way, lines in ways.items():
        for method, path, body in (*WRITES, ("GET", "/tag", ""), ("HEAD", "/tag/1", ""), ("GET", "/health", "")):
            status, fields, content = send(stocked, method, f"/{mode}{path}", body, lines)
            assert status == 400, (way, method, status, content)
            assert of(fields, "Content-Type") == ["application/problem+json"], (way, method, fields)
            assert method == "HEAD" or json.loads(content)["status"] == 400
    assert tags(stocked) == before


@pytest.mark.parametrize("mode", MODES)
def test_a_guard_that_says_something_is_heard_and_one_that_is_not_there_is_not_missed(stocked, mode):
    for guard in (None, *GUARDS):
        lines = [f"{guard}: {WELL[guard]}"] if guard else []
        assert send(stocked, "PATCH", f"/{mode}/tag/1", '{"name":"a"}', lines)[0] == 200, guard
        assert send(stocked, "POST", f"/{mode}/tag", json.dumps({"name": f"b {guard}"}), lines)[0] == 201, guard
        assert send(stocked, "GET", f"/{mode}/tag", "", lines)[0] == 200, guard
    # What is no list of tags keeps a write from being done, and nothing from being read.
    for wrong in ("x", '"x', "*x", '"a" "b"', '"x", y', 'W/', 'w/"x"'):
        statuses = [send(stocked, method, f"/{mode}{path}", body, [f"If-None-Match: {wrong}"])[0] for method, path, body in WRITES]
        assert statuses == [412] * 3, (wrong, statuses)
        assert send(stocked, "GET", f"/{mode}/tag", "", [f"If-None-Match: {wrong}"])[0] == 200, wrong


def pairs(*values):
    """Name-value pairs, of which a name may be there twice."""
    def length(text):
        return bytes([len(text)]) if len(text) < 128 else (len(text) | 1 << 31).to_bytes(4, "big")
    encoded = [(name.encode(), value.encode()) for name, value in values]
    return b"".join(length(name) + length(value) + name + value for name, value in encoded)


def ask(client, method, path, body="", *more):
    """The answer to a request with these variables besides."""
    params = pairs(("REQUEST_METHOD", method), ("PATH_INFO", path), ("QUERY_STRING", ""), ("CONTENT_TYPE", "application/json"),
                   ("CONTENT_LENGTH", str(len(body)) if body else ""), *more)
    params = b"".join(record(4, params[at:at + 60_000]) for at in range(0, len(params), 60_000))
    client.sendall(begin(keep=0) + params + record(4) + (record(5, body.encode()) if body else b"") + record(5))
    head, _, content = answer(client).partition(b"\r\n\r\n")
    fields = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n")]
    return int(fields[0][1].split()[0]), [(name.lower(), value) for name, value in fields], content


def directly(stack, mode, method, path, body="", *more):
    with connect(stack, mode) as client:
        return ask(client, method, f"/{mode}{path}", body, *more)


@pytest.mark.parametrize("mode", MODES)
def test_a_guard_that_says_nothing_says_so_without_nginx_too(stocked, mode):
    before = tags(stocked)
    for guard in GUARDS:
        name, well = "HTTP_" + guard.upper().replace("-", "_"), WELL[guard]
        ways = [[(name, "")], [(name, " ")], [(name, "\t \t")], [(name, ""), (name, well)], [(name, well), (name, " ")], [(name, well), ("HTTP_HOST", "x"), (name, "")]]
        if guard in LISTS:
            ways += [[(name, ",")], [(name, " , ")]]
        for way in ways:
            for method, path, body in WRITES:
                status, _, content = directly(stocked, mode, method, path, body, *way)
                assert (status, guard in json.loads(content)["detail"]) == (400, True), (way, method, content)
    assert tags(stocked) == before
    # In several lines it is one list (RFC 9110 §5.3), and a key is none.
    tag = stocked.request("GET", f"/{mode}/tag/1").header("ETag")
    assert directly(stocked, mode, "PATCH", "/tag/1", "{}", ("HTTP_IF_MATCH", '"x"'), ("HTTP_IF_MATCH", tag))[0] == 200
    tag = stocked.request("GET", f"/{mode}/tag/1").header("ETag")
    assert directly(stocked, mode, "PATCH", "/tag/1", "{}", ("HTTP_IF_NONE_MATCH", tag), ("HTTP_IF_NONE_MATCH", '"x"'))[0] == 412
    assert directly(stocked, mode, "POST", "/tag", '{"name":"k"}', ("HTTP_IDEMPOTENCY_KEY", "a"), ("HTTP_IDEMPOTENCY_KEY", "a"))[0] == 400


KEYS = [("a", "a"), ('"a"', "a"), ('"a b"', "a b"), (r'"a\"b"', 'a"b'), (r'"\\"', "\\"), ('a"b', 'a"b'), ("a\\b", "a\\b"), ('"' + "k" * 255 + '"', "k" * 255)]
NO_KEYS = ['""', '" "', '"a', '"', '"a"b', '"a";x=1', '"a", "b"', r'"\a"', '"a\\', "a b", "a, a", '"' + "k" * 256 + '"']


@pytest.mark.parametrize("mode", MODES)
def test_a_key_is_the_same_with_and_without_its_quotes(stocked, mode):
    for number, (sent, key) in enumerate(KEYS):
        stocked.psql("truncate idempotency_key")
        body = json.dumps({"name": f"key {number}"})
        status, fields, first = send(stocked, "POST", f"/{mode}/tag", body, [f"Idempotency-Key: {sent}"])
        assert (status, of(fields, "Idempotency-Replayed")) == (201, []), (sent, first)
        assert stocked.psql("select key from idempotency_key") == [(key,)], sent
        quoted = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for same in (sent, quoted, *([key] if " " not in key else [])):
            status, fields, again = send(stocked, "POST", f"/{mode}/tag", body, [f"Idempotency-Key: {same}"])
            assert (status, of(fields, "Idempotency-Replayed"), again) == (201, ["true"], first), (sent, same, again)
    before = tags(stocked)
    for wrong in NO_KEYS:
        assert send(stocked, "POST", f"/{mode}/tag", '{"name":"wrong"}', [f"Idempotency-Key: {wrong}"])[0] == 400, wrong
    assert tags(stocked) == before


# What every answer has

def test_every_answer_has_its_id_once_and_nosniff_once_behind_nginx(stocked):
    for mode in MODES:
        for method, path in (("GET", "tag"), ("GET", "tag/1"), ("GET", "tag/9"), ("GET", "tag/"), ("PUT", "tag"), ("OPTIONS", "tag"), ("GET", "status"),
                             ("GET", "metrics"), ("GET", "health"), ("GET", "nothing"), ("DELETE", "status")):
            status, fields, _ = send(stocked, method, f"/{mode}/{path}", "", ["X-Request-Id: mine-1"])
            assert of(fields, "X-Request-Id") == ["mine-1"] and of(fields, "X-Content-Type-Options") == ["nosniff"], (method, path, fields)
            assert len(of(fields, "Server-Timing")) == 1, (method, path, fields)


SANE = ["a", "A.b_c-9", "x" * 128, "-", "0"]
ODD = ["", " ", "a b", "é", "x" * 129, "a,b", 'a"b', "a/b", "a:b", "a\tb", "<script>"]


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_has_the_client_s_id_else_the_web_server_s_else_ours_behind_any_server(stocked, mode):
    def named(*variables):
        status, fields, _ = directly(stocked, mode, "GET", "/tag", "", *variables)
        assert (status, of(fields, "X-Content-Type-Options")) == (200, ["nosniff"]), fields
        (name,) = of(fields, "X-Request-Id")
        return name

    for sane in SANE:
        assert named(("HTTP_X_REQUEST_ID", sane), ("UNIQUE_ID", "web-server")) == sane
    for odd in ODD:
        assert named(("HTTP_X_REQUEST_ID", odd), ("UNIQUE_ID", "aZ9@-web+/=")) == "aZ9@-web+/=", odd
        assert named(("REQUEST_ID", "0123456789abcdef"), ("HTTP_X_REQUEST_ID", odd)) == "0123456789abcdef", odd
    ours = [named(*variables) for variables in ([], [("HTTP_X_REQUEST_ID", "a b")], [("UNIQUE_ID", "a\r\nb")], [("UNIQUE_ID", "x" * 129)])]
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in ours) and len(set(ours)) == len(ours), ours


@pytest.mark.parametrize("mode", MODES)
def test_every_kind_of_answer_has_both_without_nginx(stocked, mode):
    many = [(f"X_{number}", "x") for number in range(210)]
    for method, path, body, more, wanted in [
            ("GET", "/tag", "", (), 200), ("GET", "/tag/9", "", (), 404), ("GET", "/tag/", "", (), 308), ("PUT", "/tag", "", (), 405), ("OPTIONS", "/tag", "", (), 204),
            ("POST", "/tag", "{", (), 400), ("POST", "/tag", '{"name":"made"}', (), 201), ("DELETE", "/tag/1", "", (), 204), ("POST", "/tag", "{}", (), 422),
            ("GET", "/tag", "", (("HTTP_IF_NONE_MATCH", "*"),), 304), ("PATCH", "/tag/2", "{}", (("HTTP_IF_MATCH", '"x"'),), 412), ("GET", "/health", "", (), 200)]:
        status, fields, content = directly(stocked, mode, method, path, body, ("HTTP_X_REQUEST_ID", "mine"), *more)
        assert status == wanted, (method, path, content)
        assert of(fields, "X-Request-Id") == ["mine"] and of(fields, "X-Content-Type-Options") == ["nosniff"], fields
    for variables in (many, [("HTTP_X_LONG", "x" * 60_000), ("HTTP_X_LONGER", "x" * 9_000)]):
        status, fields, _ = directly(stocked, mode, "GET", "/tag", "", *variables)
        assert (status, len(of(fields, "X-Request-Id")), of(fields, "X-Content-Type-Options")) == (431, 1, ["nosniff"]), fields
    # The fields of a header are as many as there is space for.
    for size, wanted in ((64_000, 200), (70_000, 431)):
        status, _, _ = directly(stocked, mode, "GET", "/tag", "", *((f"HTTP_X_{number:04}", "") for number in range(size // 13)))
        assert status == wanted, size
    with connect_to(stocked.path("run/sync-status.sock" if mode == "sync" else "run/async.sock")) as client:
        status, fields, _ = ask(client, "GET", f"/{mode}/status", "", ("HTTP_X_REQUEST_ID", "mine"))
    assert (status, of(fields, "X-Request-Id"), of(fields, "X-Content-Type-Options")) == (200, ["mine"], ["nosniff"]), fields
    for page in ("status", "metrics"):
        many = send(stocked, "GET", f"/{mode}/{page}", "", [f"X-{number}: x" for number in range(500)])
        assert many[0] == 200, many


# What is asked of a page about the server, and the status; "" is the page itself.
PAGES = [
    ("GET", "", "", 200), ("HEAD", "", "", 200), ("OPTIONS", "", "", 204), ("OPTIONS", "", "x=1", 204), ("POST", "", "", 405), ("PUT", "", "", 405), ("PATCH", "", "", 405),
    ("DELETE", "", "", 405), ("TRACE", "", "", 405), ("FOO", "", "", 405), ("DELETE", "", "%", 405), ("GET", "", "x=1", 422), ("HEAD", "", "x=1", 422), ("GET", "", "x", 422), ("GET", "", "%", 400),
    ("GET", "", "x=%ff", 400), ("GET", "", "&&", 200), ("GET", "x", "", 404), ("HEAD", "x", "", 404), ("GET", "/x", "", 404)]


@pytest.mark.parametrize("mode", MODES)
def test_pages_about_the_server_keep_to_the_rules_of_the_others(stocked, mode):
    path = stocked.path("run/sync-status.sock" if mode == "sync" else "run/async.sock")
    for page, (method, more, query, wanted) in itertools.product(("status", "metrics"), PAGES):
        with connect_to(path) as client:
            status, fields, content = ask(client, method, f"/{mode}/{page}{more}", "", ("QUERY_STRING", query), ("HTTP_X_REQUEST_ID", "mine"))
        what = (method, page, more, query, status, fields, content)
        assert status == wanted and of(fields, "X-Request-Id") == ["mine"] and len(of(fields, "Server-Timing")) == 1, what
        assert (of(fields, "Allow") == ["GET, HEAD, OPTIONS"]) == (status in (204, 405)), what
        assert (of(fields, "Content-Type") == ["application/problem+json"]) == (status >= 400) and bool(content) == (method != "HEAD" and status != 204), what
        if content and status >= 400:
            assert json.loads(content)["status"] == status and ("errors" in json.loads(content)) == (status == 422), what
    for method in ("GET", "HEAD"):
        with connect_to(path) as client:
            status, fields, content = ask(client, method, f"/{mode}/status", "", ("HTTP_X_LONG", "x" * 70_000), ("HTTP_X_REQUEST_ID", "mine"))
        assert (status, of(fields, "Content-Type"), of(fields, "X-Request-Id"), bool(content)) == (431, ["application/problem+json"], ["mine"], method == "GET"), fields
        assert len(of(fields, "Server-Timing")) == 1, fields


def test_a_request_that_was_given_up_has_both(stocked):
    settings = dict(DB_HOST=stocked.path("run"), DB_PORT=5432, FORKLOOP_SYNC_WORKERS=1)
    with responder("sync", "--request-timeout", "1", **settings) as one:
        lock = stocked.psql_open("begin; lock table tag")
        try:
            for name in ("mine", "x" * 128):
                with connect_to(one.path) as client:
                    status, fields, _ = ask(client, "GET", "/sync/tag", "", ("HTTP_X_REQUEST_ID", name))
                assert (status, of(fields, "X-Request-Id"), of(fields, "X-Content-Type-Options")) == (504, [name], ["nosniff"]), fields
        finally:
            lock.kill()
            lock.wait()


def test_plain_cgi_has_both(stocked):
    environment = clean_environment(
        GATEWAY_INTERFACE="CGI/1.1", REQUEST_METHOD="GET", PATH_INFO="/sync/tag", QUERY_STRING="", SCRIPT_NAME="", UNIQUE_ID="the-server-s",
        DB_HOST=stocked.path("run"), DB_PORT=5432, DB_NAME="forkloop", DB_USER="forkloop")
    def run(**more):
        return subprocess.run([PROGRAM], env={**environment, **more}, stdin=subprocess.DEVNULL, capture_output=True).stdout.decode()
    for more, status, name in (({}, 200, "the-server-s"), ({"HTTP_X_REQUEST_ID": "mine"}, 200, "mine"), ({"HTTP_IF_MATCH": ""}, 400, "the-server-s"),
                               ({"HTTP_IF_UNMODIFIED_SINCE": " "}, 400, "the-server-s")):
        out = run(**more)
        assert f"\r\nStatus: {status} " in out and f"\r\nX-Request-Id: {name}\r\n" in out and "X-Content-Type-Options: nosniff\r\n" in out, out


# Bodies

@pytest.mark.parametrize("mode", MODES)
def test_a_415_says_what_would_be_right(stocked, mode):
    json_body = b'{"name":"zipped"}'
    for method, path, right in (("POST", f"/{mode}/tag", "Accept: application/json"), ("PATCH", f"/{mode}/tag/1", "Accept-Patch: application/merge-patch+json, application/json")):
        name, value = right.split(": ")
        for wrong in ("text/plain", "", "application/json-patch+json" if method == "PATCH" else "application/jsonp"):
            refused = stocked.request(method, path, json_body, {"Content-Type": wrong})
            assert (refused.status, refused.header(name), refused.header("Accept-Encoding")) == (415, value, None), (wrong, refused)
        for coding in ("gzip", "br", "identity, gzip", "x-unheard-of", "GZIP"):
            refused = stocked.request(method, path, gzip.compress(json_body), {"Content-Type": "application/json", "Content-Encoding": coding})
            assert (refused.status, refused.header("Accept-Encoding")) == (415, "identity"), (coding, refused)
        for coding in ("identity", "Identity", ""):
            taken = stocked.request(method, path, json.dumps({"name": f"{method} {coding}."}), {"Content-Type": "application/json", "Content-Encoding": coding})
            assert taken.status in (200, 201), (coding, taken)
    assert "zipped" not in str(tags(stocked))


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_is_not_many_times_as_long_as_a_query(stocked, mode):
    for piece, path in (("a&", "tag"), ("limit=x&", "tag"), ("=&", "order"), ("a&", "tag/1"), ("a&", "health"), ("%41&", "order")):
        query = piece * (8_000 // len(piece))
        refused = stocked.request("GET", f"/{mode}/{path}?{query}")
        assert refused.status == 422, refused
        assert len(refused.json["errors"]) == 300, "more faults are told than anybody reads"
        assert f"There are {query.count('&')} faults" in refused.json["detail"] and len(refused.body) < 40_000, refused
