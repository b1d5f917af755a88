"""FastCGI 1.0 as a client of our own speaks it: all that the specification allows, and what no web server should say."""

import array
import fcntl
import itertools
import json
import re
import socket
import termios
import time

import pytest

from fastcgi_client import Clients, answer, begin, connect, fastcgi, one_answer, pairs, record, records, stdout, variables, with_id
from local_stack import MODES, eventually, locked
from test_async import LOCKED

CONTACT = pairs(variables("/async/contact/2"))
BOB = b'{"id":2,"name":"Bob","email":"bob@example.org"}'
ENDED = (3, 1, bytes(8))


def posted(body, content_length):
    """A request whose STDIN has `body`, and whose CONTENT_LENGTH says something else."""
    params = pairs(variables("/async/contact", "POST", content_type="application/json") | {"CONTENT_LENGTH": str(content_length)})
    return begin() + record(4, params) + record(4) + record(5, body) + record(5)


def values(*names):
    return record(9, pairs(dict.fromkeys(names, "")), 0)


def multiplexes(*more):
    return (10, 0, pairs({"FCGI_MPXS_CONNS": "1", **dict(more)}))


# What is sent, and the records that come: (type, request id, content), of an answer its status and its body.
CONVERSATIONS = {
    "a request": (fastcgi("/async/contact/2"), [(6, 1, (b"200 OK", BOB)), ENDED]),
    "padding on every record, empty ones too": (
        begin(padding=255) + record(4, CONTACT, padding=3) + record(4, padding=8) + record(5, padding=255),
        [(6, 1, (b"200 OK", BOB)), ENDED]),
    "lengths in four bytes": (
        begin() + record(4, pairs(variables("/async/contact/2"), long=True)) + record(4) + record(5),
        [(6, 1, (b"200 OK", BOB)), ENDED]),
    "variables cut inside a length, over several records": (
        begin() + record(4, pairs({"A": "x" * 300})[:3]) + record(4, pairs({"A": "x" * 300})[3:] + CONTACT[:1]) + record(4, CONTACT[1:]) + record(4) + record(5),
        [(6, 1, (b"200 OK", BOB)), ENDED]),
    "names and values of no length": (
        begin() + record(4, bytes(2) + CONTACT + bytes(2)) + record(4) + record(5), [(6, 1, (b"200 OK", BOB)), ENDED]),
    "a body longer than CONTENT_LENGTH": (
        posted(b'{"name":"a","email":"a@b"} ', 5), [(6, 1, (b"400 Bad Request", None)), ENDED]),
    "a body shorter than CONTENT_LENGTH": (
        posted(b'{"name":"a","email":"a@b"}', 50), [(6, 1, (b"400 Bad Request", None)), ENDED]),
    "a body where none is read": (
        begin() + record(4, CONTACT) + record(4) + record(5, b"x" * 100) + record(5, b"y") + record(5), [(6, 1, (b"200 OK", BOB)), ENDED]),
    "HEAD": (fastcgi("/async/contact/2", "HEAD"), [(6, 1, (b"200 OK", b"")), ENDED]),
    "a DATA record, which only filters have": (
        begin() + record(8, b"data") + record(4, CONTACT) + record(4) + record(8) + record(5), [(6, 1, (b"200 OK", BOB)), ENDED]),
    "an authorizer": (begin(role=2) + record(4, CONTACT) + record(4), [(3, 1, bytes([0, 0, 0, 0, 3, 0, 0, 0]))]),
    "a filter": (begin(role=3) + record(4, CONTACT) + record(4) + record(5) + record(8), [(3, 1, bytes([0, 0, 0, 0, 3, 0, 0, 0]))]),
    "a role that there is not": (begin(role=77), [(3, 1, bytes([0, 0, 0, 0, 3, 0, 0, 0]))]),
    "GET_VALUES before, in and after a request": (
        values("FCGI_MPXS_CONNS") + begin() + values("FCGI_MPXS_CONNS", "OTHER") + record(4, CONTACT) + record(4) + record(5) + values("OTHER"),
        [multiplexes(), multiplexes(), (6, 1, (b"200 OK", BOB)), ENDED, (10, 0, b"")]),
    "management records of an unknown type": (
        record(77, b"abc", 0, padding=5) + begin() + record(99, b"", 0) + record(4, CONTACT) + record(4) + record(5),
        [(11, 0, bytes([77, 0, 0, 0, 0, 0, 0, 0])), (11, 0, bytes([99, 0, 0, 0, 0, 0, 0, 0])), (6, 1, (b"200 OK", BOB)), ENDED]),
    "an application record without a request id": (
        record(5, b"x", 0) + fastcgi("/async/contact/2"), [(11, 0, bytes([5, 0, 0, 0, 0, 0, 0, 0])), (6, 1, (b"200 OK", BOB)), ENDED]),
    "records of a request that has not begun": (
        record(4, CONTACT, 9) + record(5, b"x", 9) + record(2, b"", 9) + record(44, b"x", 9) + fastcgi("/async/contact/2"), [(6, 1, (b"200 OK", BOB)), ENDED]),
    "an abort before the request is whole": (
        begin() + record(4, CONTACT) + record(2) + with_id(fastcgi("/async/contact/2"), 2), [ENDED, (6, 2, (b"200 OK", BOB)), (3, 2, bytes(8))]),
    "two requests one after the other": (
        fastcgi("/async/contact/2") + with_id(fastcgi("/async/nothing"), 7),
        [(6, 1, (b"200 OK", BOB)), ENDED, (6, 7, (b"404 Not Found", None)), (3, 7, bytes(8))]),
    "two requests into each other": (
        begin(1) + begin(2) + record(4, CONTACT, 2) + record(4, CONTACT, 1) + record(4, b"", 2) + record(4, b"", 1) + record(5, b"", 2) + record(5, b"", 1),
        [(6, 1, (b"200 OK", BOB)), ENDED, (6, 2, (b"200 OK", BOB)), (3, 2, bytes(8))]),
    "another version": (record(1, bytes([0, 1, 1, 0, 0, 0, 0, 0]), version=2), ["closed"]),
    "a BEGIN_REQUEST that is too short": (record(1, bytes([0, 1])), ["closed"]),
    "variables that end in the middle of one": (begin() + record(4, CONTACT[:-3]) + record(4) + record(5), ["closed"]),
    "the id of a request that is under way": (begin() + begin(), ["closed"]),
    "a connection that is not to be kept": (fastcgi("/async/contact/2", keep=0), [(6, 1, (b"200 OK", BOB)), ENDED, "closed"]),
}


def unread(client):
    """How much of what was sent the other side has not read yet."""
    left = array.array("i", [0])
    fcntl.ioctl(client, termios.TIOCOUTQ, left)
    return left[0]


def outcome(stack, pieces, expected):
    """What comes when the pieces are sent, each after the one before has been read. Requests have no order among each other."""
    got = {}
    with connect(stack, "async") as client:
        for piece in pieces:
            client.sendall(piece)
            while len(pieces) > 1 and unread(client):
                pass
        stream, left = records(client), len(expected)
        while left > 0:
            kind, request_id, content = next(stream, ("closed", 0, b""))
            of = got.setdefault(request_id, [])
            if kind == 6 and of and of[-1][0] == 6:
                of[-1] = (6, request_id, of[-1][2] + content)
                continue
            of.append("closed" if kind == "closed" else (kind, request_id, content))
            left -= 1
        if "closed" not in expected:  # Nothing else comes, and the connection goes on.
            client.sendall(with_id(fastcgi("/async/nothing"), 500))
            assert next(stream)[:2] == (6, 500)
    return got


def seen(item, expected):
    """An answer without what changes from time to time."""
    if not isinstance(item, tuple) or item[0] != 6:
        return item
    head, _, body = item[2].partition(b"\r\n\r\n")
    status = re.search(rb"^Status: ([^\r]*)", head, re.MULTILINE)[1]
    return (6, item[1], (status, None if expected and expected[2][1] is None else body))


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_is_the_same_wherever_it_is_cut(stocked, name):
    """Whole, in two pieces cut at every byte, and byte by byte."""
    sent, expected = CONVERSATIONS[name]
    wanted = {}
    for item in expected:
        wanted.setdefault(0 if item == "closed" else item[1], []).append(item)
    ways = [[sent], *([sent[:cut], sent[cut:]] for cut in range(1, len(sent))), [bytes([byte]) for byte in sent]]
    for pieces in ways:
        try:
            got = outcome(stocked, pieces, expected)
        except (BrokenPipeError, ConnectionResetError):
            assert "closed" in expected, f"closed on pieces of {[len(p) for p in pieces]} bytes"
            continue
        found = {of: [seen(item, want) for item, want in itertools.zip_longest(items, wanted.get(of, []))] for of, items in got.items()}
        assert found == wanted, f"sent in pieces of {[len(p) for p in pieces]} bytes"


# What stands in CONTENT_LENGTH before a body of 13 bytes, and the status. Where it is no number the end of STDIN says how long the
# body is: Caddy 2.6 sends -1 for one in chunks.
LENGTHS = {
    "13": 201, "0013": 201, "0" * 30 + "13": 201, "": 201, "-1": 201, "+13": 201, " 13": 201, "13 ": 201, "\t13": 201, "0x0d": 201, "1e1": 201, "13, 13": 201,
    "\u0661\u0663": 201, "-9223372036854775809": 201, "12": 400, "14": 400, "0": 400, "0000": 400, "1048576": 400, "1048577": 413,
    "9223372036854775807": 413, "9223372036854775808": 413, "18446744073709551629": 413, "9" * 60: 413,
}


@pytest.mark.parametrize("mode", MODES)
def test_the_length_of_a_body_is_what_a_number_says_and_else_what_has_come(stocked, mode):
    got = {}
    for number, length in enumerate(LENGTHS):
        body = b'{"name":"%02d"}' % number
        assert len(body) == 13
        params = pairs(variables(f"/{mode}/tag", "POST", content_type="application/json") | {"CONTENT_LENGTH": length})
        got[length] = status(stocked, mode, begin(keep=0) + record(4, params) + record(4) + record(5, body) + record(5))
    assert got == LENGTHS


@pytest.mark.parametrize("length, size, wanted", [("-1", 1 << 20, 201), ("-1", (1 << 20) + 1, 413), ("", 3 << 20, 413), ("x", 0, 400)])
@pytest.mark.parametrize("mode", MODES)
def test_a_body_of_unknown_length_is_taken_up_to_the_bound(stocked, mode, length, size, wanted):
    start = b'{"name":"long"'
    body = start + b" " * (size - len(start) - 1) + b"}" if size else b""
    params = pairs(variables(f"/{mode}/tag", "POST", content_type="application/json") | {"CONTENT_LENGTH": length})
    bodies = b"".join(record(5, body[at:at + 60_000]) for at in range(0, size, 60_000))
    assert status(stocked, mode, begin(keep=0) + record(4, params) + record(4) + bodies + record(5)) == wanted


def status(stack, mode, whole):
    """Of the answer to a request."""
    with connect(stack, mode) as client:
        client.sendall(whole)
        return int(answer(client).split()[1])


REFUSED = (400, 412)
# Variables with a zero in them, which a C string ends with, and the status of a PATCH that has them.
ZEROS = {
    "a path": ({"PATH_INFO": "/MODE/contact/1\0"}, 404), "a path before its end": ({"PATH_INFO": "/MODE/contact/1\0/2"}, 404),
    "a path that is empty before": ({"PATH_INFO": "\0/MODE/contact/1"}, 404), "a mount": ({"SCRIPT_NAME": "/MODE/contact/1\0", "PATH_INFO": ""}, 404),
    "a query": ({"QUERY_STRING": "\0"}, 422), "a query behind a name": ({"QUERY_STRING": "limit=1\0"}, 422),
    "a method": ({"REQUEST_METHOD": "PATCH\0"}, 405), "a type": ({"CONTENT_TYPE": "application/json\0"}, 415),
    "a type behind its parameters": ({"CONTENT_TYPE": "application/json;\0"}, 200), "a length": ({"CONTENT_LENGTH": "1\0"}, 200),
    "a condition": ({"HTTP_IF_MATCH": '"1"\0'}, REFUSED), "a condition that is empty before": ({"HTTP_IF_MATCH": '\0"1"'}, REFUSED),
    "a request's id": ({"HTTP_X_REQUEST_ID": "a\0b"}, 200), "what nobody reads": ({"HTTP_OTHER": "a\0b"}, 200), "a name": ({"HTTP_IF_MATCH\0": '"1"'}, 200),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_zero_ends_no_variable(stocked, mode):
    got = {}
    for what, (values, _) in ZEROS.items():
        values = {name: value.replace("MODE", mode) for name, value in values.items()}
        params = pairs(variables(f"/{mode}/contact/1", "PATCH", body=b"{}", content_type="application/json") | values)
        got[what] = status(stocked, mode, begin(keep=0) + record(4, params) + record(4) + record(5, b"{}") + record(5))
    assert {what: status for what, status in got.items() if status != ZEROS[what][1] and status not in REFUSED} == {}
    assert [what for what in got if got[what] in REFUSED] == [what for what in got if ZEROS[what][1] == REFUSED]


@pytest.mark.parametrize("pieces", ["one", "bytes", "records of a byte", "many records", "behind a question"])
@pytest.mark.parametrize("mode", MODES)
def test_a_zero_ends_no_variable_however_the_header_comes(stocked, mode, pieces):
    params = pairs({"HTTP_COOKIE": "c" * (30_000 if pieces == "many records" else 1)} | variables(f"/{mode}/contact/1\0"))
    size = {"records of a byte": 1, "many records": 700}.get(pieces, len(params))
    header = b"".join(record(4, params[at:at + size], padding=at % 8) for at in range(0, len(params), size))
    whole = begin(keep=0) + header + record(4) + record(5)
    if pieces == "behind a question":
        whole = values("FCGI_MPXS_CONNS") + whole
    with connect(stocked, mode) as client:
        for at in range(0, len(whole), 1 if pieces == "bytes" else len(whole)):
            client.sendall(whole[at:at + 1] if pieces == "bytes" else whole)
        assert answer(client).startswith(b"Status: 404 ")


@pytest.mark.parametrize("mode", MODES)
def test_a_peer_whose_header_does_not_fit_into_its_socket_is_answered(stocked, mode):
    """Nothing more can come before something has been read."""
    params = pairs(variables(f"/{mode}/contact/1") | {"HTTP_COOKIE": "c" * 300})
    with connect(stocked, mode) as client:
        for byte in begin(keep=0) + b"".join(record(4, params[at:at + 1]) for at in range(len(params))) + record(4) + record(5):
            client.sendall(bytes([byte]))
        assert answer(client).startswith(b"Status: 200 ")


@pytest.mark.parametrize("mode", MODES)
def test_what_a_web_server_asks_before_a_request_is_answered_before_it(stocked, mode):
    with connect(stocked, mode) as client:
        stream = records(client)
        for _ in range(2):
            client.sendall(values("FCGI_MPXS_CONNS"))
            assert next(stream) == (10, 0, pairs({"FCGI_MPXS_CONNS": "1" if mode == "async" else "0"}))
        client.sendall(with_id(fastcgi(f"/{mode}/contact/2", keep=0), 9))
        number, whole = one_answer(stream)
        assert number == 9 and whole.endswith(BOB)


@pytest.mark.parametrize("mode", MODES)
def test_a_body_whose_request_comes_in_pieces_is_taken(stocked, mode):
    """Cut in the header, and in the body."""
    body = b'{"name":"' + b"n" * 200 + b'"}'
    whole = with_id(fastcgi(f"/{mode}/tag", "POST", body=body, content_type="application/json", keep=0), 300)
    with connect(stocked, mode) as client:
        for piece in (whole[:60], whole[60:-100], whole[-100:]):
            client.sendall(piece)
            while unread(client):
                time.sleep(0.001)
        number, got = one_answer(records(client))
        assert number == 300 and b"Status: 201 " in got and got.endswith(b"n" * 200 + b'"}')


@pytest.mark.parametrize("what, values, status", [
    ("as long as may be", {"HTTP_COOKIE": "c" * 65_000}, 200), ("too long", {"HTTP_COOKIE": "c" * 66_000}, 431), ("much too long", {"HTTP_COOKIE": "c" * 2_000_000}, 431),
    ("as many as may be", {f"X{number}": "" for number in range(195)}, 200), ("too many", {f"X{number}": "" for number in range(196)}, 431),
    ("many fields of the client's", {f"HTTP_X{number}": "" for number in range(2_000)}, 200)])
@pytest.mark.parametrize("mode", MODES)
def test_a_header_is_taken_up_to_the_bound(stocked, mode, what, values, status):
    params = pairs(variables(f"/{mode}/contact/1") | values)
    with connect(stocked, mode) as client:
        client.sendall(begin(keep=0) + b"".join(record(4, params[at:at + 60_000]) for at in range(0, len(params), 60_000)) + record(4) + record(5))
        assert answer(client).startswith(b"Status: %d " % status), what


# Headers that nobody wants to read: in bytes, and in variables of the web server's own.
TOO_LONG = {"a long field": {"HTTP_COOKIE": "c" * 66_000}, "many fields": {f"HTTP_X{number}": "y" * 300 for number in range(3_000)}, "many variables": {f"X{number}": "" for number in range(300)}}


@pytest.mark.parametrize("what", TOO_LONG)
@pytest.mark.parametrize("mode", MODES)
def test_a_header_that_is_too_long_is_answered_as_any_other(stocked, mode, what):
    for method, is_first, size in itertools.product(("GET", "HEAD", "POST"), (True, False), (60_000, 101)):
        known = variables(f"/{mode}/contact/1", method) | {"HTTP_X_REQUEST_ID": "mine"}
        params = pairs(known | TOO_LONG[what] if is_first else TOO_LONG[what] | known)
        if size < 1_000:
            params = params if is_first else params[-70_000:] if what == "a long field" else pairs({f"X{number}": "" for number in range(300)} | known)
        with connect(stocked, mode) as client:
            client.sendall(begin(keep=0) + b"".join(record(4, params[at:at + size]) for at in range(0, len(params), size)) + record(4) + record(5))
            head, _, body = answer(client).decode().partition("\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.split("\r\n"))
        assert fields["Status"].startswith("431 ") and fields["Content-Type"] == "application/problem+json" and "Server-Timing" in fields, (method, is_first, head)
        assert fields["X-Request-Id"] == "mine" and len(body) == (0 if method == "HEAD" else int(fields["Content-Length"])), (method, is_first, head, body)


@pytest.mark.parametrize("mode", MODES)
def test_only_responders_are_asked(stocked, mode):
    """The same refusal by both servers, whatever comes behind it."""
    contact = pairs(variables(f"/{mode}/contact/2"))
    for role, keep in itertools.product((0, 2, 3, 4, 9, 255), (0, 1)):
        for rest in (b"", record(4, contact, 5) + record(4, b"", 5), record(4, contact, 5) + record(4, b"", 5) + record(5, b"", 5) + record(8, b"", 5)):
            with connect(stocked, mode) as client:
                client.sendall(begin(5, role, keep) + rest)
                assert next(records(client)) == (3, 5, bytes([0, 0, 0, 0, 3, 0, 0, 0])), (role, keep, rest)
    with connect(stocked, mode) as client:
        client.sendall(begin(role=257 % 256) + record(4, contact) + record(4) + record(5))
        assert answer(client).startswith(b"Status: 200 ")


@pytest.mark.parametrize("mode", MODES)
def test_what_is_between_the_records_of_a_request_does_no_harm(stocked, mode):
    contact = record(4, pairs(variables(f"/{mode}/contact/2")))
    stray = (record(8, b"data"), record(8), record(5, b"x", 9), record(44, b"x"), record(4, b"x", 9))
    for one in stray:
        for whole in (begin(keep=0) + one + contact + record(4) + record(5), begin(keep=0) + contact + one + record(4) + record(5),
                      begin(keep=0) + contact + record(4) + one + record(5), begin(keep=0) + contact + record(4) + record(5, b"x") + one + record(5)):
            with connect(stocked, mode) as client:
                client.sendall(whole)
                got = answer(client)
                assert got.startswith(b"Status: 200 ") and got.endswith(BOB), (one, whole, got)
    # As much as libfcgi has never looked at.
    long = record(5, b"x" * 30_000) + record(8, b"y" * 30_000) + record(5, b"z")
    with connect(stocked, mode) as client:
        client.sendall(begin(keep=0) + contact + record(4) + long + record(5))
        assert answer(client).startswith(b"Status: 200 ")


@pytest.mark.parametrize("mode", MODES)
def test_a_request_without_a_method_is_none(stocked, mode):
    whole = variables(f"/{mode}/contact/2")
    without = {name: value for name, value in whole.items() if name != "REQUEST_METHOD"}
    for params in (pairs(without), pairs(whole | {"REQUEST_METHOD": ""}), pairs(without | {"PATH_INFO": f"/{mode}/nothing"}), pairs({"A": "b"}), b""):
        with connect(stocked, mode) as client:
            client.sendall(begin(keep=0) + (record(4, params) if params else b"") + record(4) + record(5))
            got = answer(client)
        assert got.startswith(b"Status: 400 ") and b"application/problem+json" in got and b"The request has no method." in got, (params, got)


# Answers of every kind, and whether they have a Location: method, path, variables, body.
ANSWERS = [
    ("GET", "/tag", {}, b""), ("HEAD", "/tag/1", {}, b""), ("GET", "/tag/1", {"HTTP_IF_NONE_MATCH": "*"}, b""), ("POST", "/tag", {}, b'{"name":"new"}'),
    ("GET", "/tag/", {}, b""), ("OPTIONS", "/tag", {}, b""), ("DELETE", "/tag/1", {}, b""), ("GET", "/tag/99", {}, b""), ("POST", "/tag", {}, b"{"),
    ("GET", "/health", {}, b""), ("PUT", "/tag", {}, b""), ("GET", "/status", {}, b""), ("GET", "/metrics", {}, b""),
]


@pytest.mark.parametrize("mode", MODES)
def test_the_status_stands_behind_every_field(stocked, mode):
    """Before its issue 2865 HAProxy takes a Location that comes later for a redirect."""
    for method, path, more, body in ANSWERS:
        name = f"{mode}-status" if mode == "sync" and path in ("/status", "/metrics") else mode
        with connect(stocked, name) as client:
            client.sendall(fastcgi(f"/{mode}{path}", method, body=body, keep=0, content_type="application/json", **more))
            lines = stdout(client).partition(b"\r\n\r\n")[0].split(b"\r\n")
        assert [line.startswith(b"Status: ") for line in lines] == [False] * (len(lines) - 1) + [True], (method, path, lines)


@pytest.mark.parametrize("script, info", [("/api", "/MODE/tag"), ("/api/MODE", "/tag"), ("/api/MODE/tag", ""), ("/MODE", "/tag"), ("/MODE/tag", "/MODE/tag")])
@pytest.mark.parametrize("mode", MODES)
def test_links_lead_to_where_the_responder_is_mounted(stocked, mode, script, info):
    script, info = script.replace("MODE", mode), info.replace("MODE", mode)
    links = f"/api/{mode}/tag" if script.startswith("/api") else f"/{mode}/tag"

    def field(name, method="GET", body=b"", more="", **variables):
        with connect(stocked, mode) as client:
            here = {"SCRIPT_NAME": script + ("" if info else more), **variables}
            client.sendall(fastcgi(info + (more if info else ""), method, body=body, keep=0, content_type="application/json", **here))
            head = answer(client).partition(b"\r\n\r\n")[0].decode()
        return next((line.partition(": ")[2] for line in head.split("\r\n") if line.startswith(f"{name}: ")), head)

    assert field("Location", "POST", b'{"name":"new"}') == f"{links}/4"
    assert field("Link", query="limit=1") == f'<{links}?limit=1&after=1>; rel="next"'
    if script != info:
        assert field("Location", more="/", query="limit=1") == f"{links}?limit=1"


@pytest.mark.parametrize("script, info", [("", "/MODE/status"), ("/MODE/status", ""), ("/api", "/MODE/status"), ("/api/MODE", "/status")])
@pytest.mark.parametrize("mode", MODES)
def test_the_status_is_found_where_the_responder_is_mounted(stocked, mode, script, info):
    with connect(stocked, "sync-status" if mode == "sync" else "async") as client:
        client.sendall(fastcgi(info.replace("MODE", mode), keep=0, SCRIPT_NAME=script.replace("MODE", mode)))
        assert answer(client).startswith(b"Status: 200 ")


def test_an_answer_of_several_records_is_whole(stocked):
    stocked.psql("insert into contact (name, email) select repeat('x', 255), 'c@example.org' from generate_series(1, 998)")
    with connect(stocked, "async") as client:
        client.sendall(fastcgi("/async/contact", query="limit=1000"))
        got = list(itertools.takewhile(lambda item: item[0] != 3, records(client)))
    assert {kind for kind, _, _ in got} == {6} and [len(content) for _, _, content in got[:-1]] == [65535] * (len(got) - 1)
    whole = b"".join(content for _, _, content in got)
    head, _, body = whole.partition(b"\r\n\r\n")
    assert len(json.loads(body)) == 1000 and b"Content-Length: %d" % len(body) in head


@pytest.mark.parametrize("mode", MODES)
def test_a_peer_that_has_said_everything_and_closes_its_side_gets_its_answer(stocked, mode):
    with locked(stocked, "tag") as lock, connect(stocked, mode) as client:
        client.sendall(fastcgi(f"/{mode}/tag"))
        client.shutdown(socket.SHUT_WR)
        eventually(lambda: stocked.psql("select count(*) from pg_stat_activity where wait_event_type = 'Lock'") == [("1",)])
        lock.kill()
        assert b"shopping" in answer(client)
        assert client.recv(1) == b"", "the connection was not closed"


@pytest.mark.parametrize("mode", MODES)
def test_a_request_in_single_bytes_is_answered(stocked, mode):
    with connect(stocked, mode) as client:
        for byte in fastcgi(f"/{mode}/tag", keep=0):
            client.sendall(bytes([byte]))
        assert answer(client).startswith(b"Status: 200 OK\r\n")


@pytest.mark.parametrize("mode", MODES)
def test_peers_that_go_away_at_every_byte_harm_nobody(stocked, mode):
    whole = fastcgi(f"/{mode}/tag", "POST", body=b'{"name":"gone"}', content_type="application/json")
    for end in range(len(whole)):
        with connect(stocked, mode) as client:
            client.sendall(whole[:end])
    with connect(stocked, mode) as client:
        client.sendall(fastcgi(f"/{mode}/tag", keep=0))
        assert b"gone" not in answer(client), "half a request was carried out"


@pytest.mark.parametrize("mode", MODES)
def test_garbage_harms_nobody(stocked, mode):
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, bytes(range(256)) * 20, record(4, b"\xff" * 50) * 5, record(1, b"\0"), record(3) * 3):
        with connect(stocked, mode) as client:
            client.sendall(garbage)
            client.shutdown(socket.SHUT_WR)
            client.settimeout(10)
            try:
                while client.recv(4096):
                    pass
            except ConnectionResetError:
                pass
    with connect(stocked, mode) as client:
        client.sendall(fastcgi(f"/{mode}/tag", keep=0))
        assert answer(client).startswith(b"Status: 200")


def test_the_loop_keeps_a_connection_and_answers_one_request_after_another(stocked):
    with connect(stocked, "async") as client:
        for number in range(20):
            client.sendall(fastcgi("/async/tag", "POST", body=json.dumps({"name": f"k{number}"}).encode(), content_type="application/json"))
            assert answer(client).startswith(b"Status: 201")
        client.sendall(fastcgi("/async/tag"))
        assert b"k19" in answer(client)
        # An id is taken until its request is answered (FastCGI 1.0, 3.3).
        lock = stocked.psql_open("begin; lock table tag")
        client.sendall(fastcgi("/async/tag") + fastcgi("/async/contact"))
        assert client.recv(1) == b""
        lock.kill()


def test_requests_on_one_connection_are_answered_as_they_are_ready(stocked):
    with locked(stocked, "tag") as lock, connect(stocked, "async") as client:
        first, second = with_id(fastcgi("/async/tag"), 1), with_id(fastcgi("/async/contact/2"), 2)
        # Interleaved record by record.
        client.sendall(first[:16] + second[:16] + first[16:-8] + second[16:] + first[-8:])
        stream = records(client)
        request_id, body = one_answer(stream)
        assert request_id == 2 and body.endswith(b'{"id":2,"name":"Bob","email":"bob@example.org"}')
        client.sendall(with_id(fastcgi("/async/nothing"), 40000))
        assert one_answer(stream)[0] == 40000
        lock.kill()
        request_id, body = one_answer(stream)
        assert request_id == 1 and b"shopping" in body


def test_an_aborted_request_is_ended_and_the_connection_goes_on(stocked):
    with locked(stocked, "tag") as lock, connect(stocked, "async") as client, Clients(stocked, "/async/tag", 1):
        eventually(lambda: stocked.psql(LOCKED) == [("1",)])
        client.sendall(with_id(fastcgi("/async/tag"), 5) + record(2, request_id=5))
        stream = records(client)
        assert next(stream) == (3, 5, bytes(8)), "an aborted request that was not sent yet is ended without an answer"
        client.sendall(with_id(fastcgi("/async/contact/1"), 5))
        assert one_answer(stream)[1].endswith(b'"ann@example.org"}')
        lock.kill()
