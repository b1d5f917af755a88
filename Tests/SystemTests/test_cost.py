"""Whatever a client sends costs its responder little time: nothing is more than linear in what was sent. A loop that is busy with one request answers nobody else."""

import glob
import json
import pathlib

import pytest

from fastcgi_client import answer, begin, connect, fastcgi, pairs, record, variables
from local_stack import MODES, descendants, eventually

# Of a responder's processor time, for one request; and of what it answers.
MOST_SECONDS, MOST_BYTES = 0.1, 100_000
MIB = 1 << 20
# nginx's own bound is 8 KB for a line; a responder takes 64 KB for all of a header.
LONG_HEADER = 60_000
# Marks out of canonical order: sorting them, as a comparison by canonical equivalence does, takes quadratic time.
MARKS = "\u0301\u0316"
# The same letter in the normalization forms C and D.
FORM_C, FORM_D = "\u00e9", "e\u0301"


def filled(before, piece, after):
    """What makes a text of a size: as many pieces as fit in between, each # in them a number of its own."""
    def make(size):
        text, left = [], size - len(before.encode()) - len(after.encode())
        if "#" not in piece:
            text = [piece * (left // len(piece.encode()))]
        while "#" in piece:
            text.append(piece.replace("#", str(len(text))))
            left -= len(text[-1].encode())
            if left < 0:
                text.pop()
                break
        return (before + "".join(text) + after).encode()

    return make


def joined(one, other):
    return lambda size: one(size // 2) + other(size // 2)


def in_order(member, piece, after="", before=""):
    """An order with this for one of its members."""
    members = {"name": '"a"', "contact_id": "1", "order_lines": "[]", "tag_ids": "[]", member: "|"}
    start, end = ("{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}").split("|")
    return filled(start + before, piece, after + end)


def price(piece, after="", before=""):
    return in_order("order_lines", piece, after + "}]", '[{"product_id":1,"quantity":1,"price":' + before)


# What a POST of an order has for its body, and the status that it gets.
BODIES = {
    "marks in a key": (filled('{"a', MARKS, '":1}'), 422),
    "marks in a key that comes twice": (joined(filled('{"a', MARKS, '":1,'), filled('"a', MARKS, '":1}')), 422),
    "marks in two keys that end unlike": (joined(filled('{"a', MARKS, 'x":1,'), filled('"a', MARKS, 'y":1}')), 422),
    "marks in a key, as escapes": (filled('{"a', "\\u0301\\u0316", '":1}'), 422),
    "marks in a key of a line": (filled('{"order_lines":[{"', MARKS, '":1}]}'), 422),
    "marks behind a key that there is": (filled('{"name', MARKS, '":1}'), 422),
    "marks in many keys": (filled("{", f'"#{MARKS * 100}":1,', '"a":1}'), 422),
    "marks in a name": (filled('{"name":"a', MARKS, '"}'), 422),
    "many keys in both normalization forms": (filled("{", f'"#{FORM_C}":1,"#{FORM_D}":1,', '"a":1}'), 422),
    "many short unknown keys": (filled("{", '"#":1,', '"a":1}'), 422),
    "one short unknown key, many times": (filled("{", '"k":1,', '"a":1}'), 422),
    "a known key, many times": (filled("{", '"name":"",', '"a":1}'), 422),
    "many empty keys": (filled("{", '"":0,', '"a":1}'), 422),
    "one long key": (filled('{"', "k", '":1}'), 422),
    "a long key of what a pointer escapes": (filled('{"', "/~", '":1}'), 422),
    "a long key of what JSON escapes": (filled('{"', "\\u0001", '":1}'), 422),
    "a hundred long keys": (filled("{", f'"#{"~" * 10_000}":1,', '"a":1}'), 422),
    "deep arrays": (filled("[", "[" * 63 + "]" * 63 + ",", "1]"), 422),
    "deep objects": (filled("[", '{"":' * 63 + "1" + "}" * 63 + ",", "1]"), 422),
    "too deep an array": (filled("", "[", ""), 400),
    "too deep an object": (filled("", '{"":', ""), 400),
    "empty arrays": (filled("[", "[],", "1]"), 422),
    "empty objects": (filled("[", "{},", "1]"), 422),
    "objects of one": (filled("[", '{"":1},', "1]"), 422),
    "texts that are an escape": (filled("[", '"\\n",', "1]"), 422),
    "empty texts": (filled("[", '"",', "1]"), 422),
    "texts of 16 bytes": (filled("[", f'"{"x" * 16}",', "1]"), 422),
    "booleans": (filled("[", "true,", "1]"), 422),
    "a number of a million digits": (price("9"), 422),
    "a number of a million zeros": (price("0", before="1"), 422),
    "a million decimals": (price("3", before="1."), 422),
    "a million zeros behind the point": (price("0", before="1."), 422),
    "a million zeros before the last decimal": (price("0", "1", "1."), 422),
    "an exponent of a million digits": (price("9", before="1e"), 422),
    "a negative exponent of a million digits": (price("9", before="1e-"), 422),
    "an exponent of a million zeros": (price("0", "9999", "1e"), 422),
    "digits in an array": (in_order("tag_ids", "1,", "1]", "["), 422),
    "numbers of twenty digits": (filled("[", "12345678901234567890,", "1]"), 422),
    "exponents in an array": (filled("[", "1e9,", "1]"), 422),
    "lines of nothing": (lambda size: filled('{"order_lines":[', "{},", "{}]}")(3_000), 422),
    "lines of unknown keys": (in_order("order_lines", '{"' + "k" * 1_040 + '":1},', "{}]", "["), 422),
    "lines that are no objects": (lambda size: filled('{"order_lines":[', "1,", "1]}")(2_000), 422),
    "one line of unknown keys": (in_order("order_lines", '"#":1,', '"a":1}]', "[{"), 422),
    "a hundred tags of ten thousand digits": (in_order("tag_ids", "1" * 10_500 + ",", "1]", "["), 422),
    "one name of escapes": (filled('{"name":"', "\\n", '"}'), 422),
    "one name of code points as escapes": (filled('{"name":"', "\\u00e9", '"}'), 422),
    "one name of surrogate pairs as escapes": (filled('{"name":"', "\\ud83d\\ude00", '"}'), 422),
    "one name of spaces": (filled('{"name":"', " ", '"}'), 422),
    "one name of wide spaces": (filled('{"name":"', "\u3000", '"}'), 422),
    "one name of emoji that join": (filled('{"name":"', "\U0001f468\u200d", '"}'), 422),
    "one name of flags": (filled('{"name":"', "\U0001f1e6", '"}'), 422),
    "one name of Hangul": (filled('{"name":"', "\u1100\u1161\u11a8", '"}'), 422),
    "nothing but spaces": (filled("", " ", ""), 400),
    "line feeds around it": (joined(filled("", "\n", "{}"), filled("", "\n", "")), 422),
    "no UTF-8 at its end": (lambda size: filled('{"name":"', FORM_C, "")(size - 3) + b'\xff"}', 400),
}

QUERIES = {
    "marks": (filled("tag=", MARKS, ""), 422),
    "marks in a name": (filled("", MARKS, "=1"), 422),
    "marks in two names": (joined(filled("", MARKS, "=1&"), filled("", MARKS, "=2")), 422),
    "marks behind a known name": (filled("limit", MARKS, "=1"), 422),
    "marks, encoded": (filled("a", "%CC%81%CC%96", "=1"), 422),
    "many &": (filled("limit=1", "&", ""), 200),
    "many =": (filled("tag", "=", ""), 422),
    "many names": (filled("", "a&", ""), 422),
    "many different names": (filled("", "#&", ""), 422),
    "one name many times": (filled("", "limit=1&", ""), 422),
    "plus signs": (filled("tag=", "+", ""), 422),
    "percent signs": (filled("tag=", "%", ""), 400),
    "digits": (filled("after=", "9", ""), 422),
    "a tag of 255": (lambda size: filled("tag=a", MARKS, "")(513), 200),
}

TEXTS = [",", '"', '\\"', MARKS, '"1",', 'W/"1",', "W/", " ", "*,", '",', "1", "1-", "application/json;"]
# Of a variable, the method that it comes with and the statuses that there may be.
VARIABLES = {
    "HTTP_IF_MATCH": ("DELETE", {400, 404, 412}), "HTTP_IF_NONE_MATCH": ("GET", {200, 304, 400}), "HTTP_IDEMPOTENCY_KEY": ("POST", {400}),
    "HTTP_TRACEPARENT": ("GET", {200}), "HTTP_X_REQUEST_ID": ("GET", {200}), "CONTENT_TYPE": ("POST", {400, 415}),
    "REQUEST_METHOD": ("GET", {405}), "CONTENT_LENGTH": ("POST", {400, 413}), "HTTP_COOKIE": ("GET", {200}),
}

PATHS = {
    "marks": filled("/MODE/", MARKS, ""), "marks behind a resource": filled("/MODE/tag", MARKS, ""), "marks and a slash": filled("/MODE/tag", MARKS, "/"),
    "marks for an id": filled("/MODE/tag/", MARKS, ""), "slashes": filled("/MODE/tag", "/", ""), "dots": filled("/MODE/", "../", "tag"), "digits": filled("/MODE/tag/", "9", ""),
}


def rested(processes):
    """The processor time that the threads of some processes have spent, once all of them wait."""
    def states():
        return {pathlib.Path(path).read_text().rsplit(")", 1)[1].split()[0] for p in processes for path in glob.glob(f"/proc/{p}/task/*/stat")}

    eventually(lambda: states() == {"S"}, 30, "the responder did not come to rest")
    return sum(int(pathlib.Path(path).read_text().split()[0]) for p in processes for path in glob.glob(f"/proc/{p}/task/*/schedstat")) / 1e9


def ask(stack, mode, request):
    """Status and body of the answer to a request, and the processor time that its responder has spent on it."""
    masters = stack.children(mode)
    processes = masters + descendants(masters[0], 2)
    before = rested(processes)
    with connect(stack, mode) as client:
        client.sendall(request)
        head, body = answer(client).split(b"\r\n\r\n", 1)
    return int(head.split()[1]), body, rested(processes) - before


def assert_cheap(stack, statuses, request, what):
    """That both responders answer so, in little time and with little. `request` makes it for a mode."""
    for mode in MODES:
        status, body, seconds = ask(stack, mode, request(mode))
        assert status in statuses, f"{what}: {mode} answers {status}, not {statuses}: {body[:300]}"
        assert seconds < MOST_SECONDS, f"{what}: {mode} was busy for {seconds * 1000:.0f} ms"
        assert len(body) < MOST_BYTES, f"{what}: {mode} answers with {len(body)} bytes"


@pytest.mark.parametrize("what", BODIES)
def test_a_mebibyte_of_body_costs_little_whatever_is_in_it(stack, what):
    make, status = BODIES[what]
    body = make(MIB)
    assert len(body) <= MIB
    assert_cheap(stack, {status}, lambda mode: fastcgi(f"/{mode}/order", "POST", body=body, content_type="application/json"), what)


@pytest.mark.parametrize("what", QUERIES)
def test_a_full_query_string_costs_little(stack, what):
    make, status = QUERIES[what]
    assert_cheap(stack, {status}, lambda mode: fastcgi(f"/{mode}/order", query=make(LONG_HEADER).decode()), what)


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_full_header_costs_little(stack, variable):
    method, statuses = VARIABLES[variable]
    body = b'{"name":"\xff"}' if method == "POST" else b""

    def request(mode, text):
        given = variables(f"/{mode}/tag/1" if method == "DELETE" else f"/{mode}/tag", method, body=body, content_type="application/json")
        params = pairs(given | {variable: filled("", text, "")(LONG_HEADER).decode()})
        return begin() + record(4, params) + record(4) + (record(5, body) if body else b"") + record(5)

    for text in TEXTS:
        assert_cheap(stack, statuses, lambda mode: request(mode, text), f"{variable} of {text}")


@pytest.mark.parametrize("what", PATHS)
def test_a_long_path_costs_little(stack, what):
    assert_cheap(stack, {404}, lambda mode: fastcgi(PATHS[what](LONG_HEADER).decode().replace("MODE", mode)), what)


def errors(stack, mode, body):
    status, answered, _ = ask(stack, mode, fastcgi(f"/{mode}/tag", "POST", body=body.encode(), content_type="application/json"))
    assert status == 422, answered
    return [(error["pointer"], error["code"]) for error in json.loads(answered)["errors"]]


@pytest.mark.parametrize("mode", MODES)
def test_keys_are_the_same_if_their_bytes_are(stack, mode):
    assert errors(stack, mode, f'{{"name":"a","{FORM_C}":1,"{FORM_D}":1}}') == [(f"/{FORM_C}", "unknown"), (f"/{FORM_D}", "unknown")]
    assert errors(stack, mode, f'{{"name":"a","{FORM_D}":1,"{FORM_D}":1}}') == [(f"/{FORM_D}", "unknown"), (f"/{FORM_D}", "duplicate_key")]


@pytest.mark.parametrize("mode", MODES)
def test_of_thousands_of_faults_some_hundreds_are_told_and_how_many_there_are(stack, mode):
    many = '{"name":"a","contact_id":1,"order_lines":[' + "{}," * 999 + "{}]}"
    status, body, _ = ask(stack, mode, fastcgi(f"/{mode}/order", "POST", body=many.encode(), content_type="application/json"))
    problem = json.loads(body)
    assert (status, len(problem["errors"])) == (422, 300), f"{len(problem['errors'])} faults are told"
    assert problem["detail"] == "There are 3000 faults in the request, of which the first 300 are told."
    status, body, _ = ask(stack, mode, fastcgi(f"/{mode}/order", query="a&" * 4000))
    problem = json.loads(body)
    assert (status, len(problem["errors"])) == (422, 300), f"{len(problem['errors'])} faults are told"
    assert problem["detail"] == "There are 4000 faults in the request, of which the first 300 are told."
