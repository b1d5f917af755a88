"""Conditions count for every method (RFC 9110 §13): each is tried on each route of both servers, in each state of the thing."""

import concurrent.futures
import itertools

import pytest

from local_stack import MODES, eventually
from test_api import ORDER
from test_rest import PARTS

OTHER, GARBAGE = '"0123456789abcdef"', "0123456789abcdef"
# The endings that compressing servers give to a tag.
ENDINGS = ("-gzip", "-br", "-zstd", "--gzip", ";gzip", ";br", "-deflate", "-GZIP", ":gzip", "-gzip-gzip", "-br-gzip")

# (name of the field, its value for a tag, whether it names the tag). `If-Match` compares strongly, `If-None-Match` weakly.
MATCH = [
    ("If-Match", lambda tag: tag, True), ("If-Match", lambda tag: "*", True), ("If-Match", lambda tag: f"{OTHER}, {tag}", True),
    ("If-Match", lambda tag: f",{tag} ,", True), ("If-Match", lambda tag: OTHER, False), ("If-Match", lambda tag: f"W/{tag}", False),
    ("If-Match", lambda tag: tag.strip('"'), False), ("If-Match", lambda tag: GARBAGE, False), ("If-Match", lambda tag: '"', False),
    ("If-Match", lambda tag: '"-gzip"', False), ("If-Match", lambda tag: f'{tag[:-1]}-other"', False),
]
NONE_MATCH = [
    ("If-None-Match", lambda tag: tag, True), ("If-None-Match", lambda tag: f"W/{tag}", True), ("If-None-Match", lambda tag: "*", True),
    ("If-None-Match", lambda tag: f'{OTHER},W/{tag}', True), ("If-None-Match", lambda tag: OTHER, False), ("If-None-Match", lambda tag: '""', False),
]
# What is neither `*` nor a list of tags, although the tag, or a `*`, stands in most of it.
MALFORMED = (
    lambda tag: "W/*", lambda tag: f"{OTHER}, W/*", lambda tag: f"*, {OTHER}", lambda tag: "*, *", lambda tag: "**", lambda tag: f"{tag}*", lambda tag: f"*{tag}",
    lambda tag: f"garbage, {tag}", lambda tag: f"{tag}, garbage", lambda tag: f"{tag} garbage", lambda tag: f"garbage {tag}", lambda tag: f"{tag}{tag}",
    lambda tag: f"{tag} {tag}", lambda tag: f'{tag}, "open', lambda tag: f'"open, {tag}', lambda tag: f'"open {tag}', lambda tag: f"W/{tag}{tag}",
    lambda tag: f'{tag[:-1]}-gzip"*', lambda tag: f"w/{tag}", lambda tag: f"W/ {tag}", lambda tag: f"W/W/{tag}, {tag}", lambda tag: f"{tag}; {OTHER}",
    lambda tag: f'{tag}, "a b"', lambda tag: f"'{tag}'", lambda tag: f"{tag}, W/", lambda tag: f"{tag}/W", lambda tag: "W/", lambda tag: '"')
ENDED = [(name, lambda tag, ending=ending: f'{tag[:-1]}{ending}"', True) for name in ("If-Match", "If-None-Match") for ending in ENDINGS]
BOTH = list(itertools.product([MATCH[0], MATCH[4]], [NONE_MATCH[0], NONE_MATCH[4]]))
CONDITIONS = [(c,) for c in MATCH + NONE_MATCH] + BOTH
METHODS = ("GET", "HEAD", "PATCH", "DELETE", "POST", "OPTIONS", "PUT")


def status(method, conditions, otherwise):
    """What §13.2.2 says of a thing that is there, for a request that is answered with `otherwise` where there are no conditions."""
    if not 200 <= otherwise < 300 or method == "OPTIONS":
        return otherwise
    for name, _, names_it in conditions:
        if name == "If-Match" and not names_it:
            return 412
    for name, _, names_it in conditions:
        if name == "If-None-Match" and names_it:
            return 304 if method in ("GET", "HEAD") else 412
    return otherwise


class Thing:
    """One object of a kind that nothing refers to, or the list of its kind."""

    def __init__(self, stack, mode, resource):
        self.stack, self.mode, self.resource = stack, mode, resource
        self.list, self.count = f"/{mode}/{resource}", 0
        self.make()

    def body(self):
        self.count += 1
        return {**PARTS[self.resource], "name": f"{self.mode} {self.count}"}

    def make(self):
        made = self.stack.request("POST", self.list, self.body())
        assert made.status == 201, made
        self.path = made.header("Location")

    def state(self):
        return [(a.status, a.header("ETag"), a.body) for a in (self.stack.request("GET", path) for path in (self.path, self.list))]

    def ask(self, method, path, headers):
        body = self.body() if method in ("POST", "PATCH", "PUT") else None
        return self.stack.request(method, path, body, headers)


@pytest.mark.parametrize("resource", PARTS)
@pytest.mark.parametrize("mode", MODES)
def test_what_does_not_hold_keeps_every_method_from_being_carried_out(stocked, mode, resource):
    thing = Thing(stocked, mode, resource)
    success = {"GET": 200, "HEAD": 200, "PATCH": 200, "DELETE": 204, "POST": 201, "OPTIONS": 204, "PUT": 405}
    wrong = []
    for method, conditions in itertools.product(METHODS, CONDITIONS):
        before = thing.state()
        is_list = method == "POST"
        path, tag = (thing.list, before[1][1]) if is_list else (thing.path, before[0][1])
        fields = {name: value(tag) for name, value, _ in conditions}
        answer = thing.ask(method, path, fields)
        wanted = status(method, conditions, success[method])
        if answer.status != wanted:
            wrong.append((method, fields, f"{wanted} and not {answer.status}"))
        if answer.status == 412 and method != "HEAD" and answer.json["status"] != 412:
            wrong.append((method, fields, answer))
        if answer.status not in (200, 201, 204) or method in ("GET", "HEAD", "OPTIONS"):
            if thing.state() != before:
                wrong.append((method, fields, f"{answer.status}, and yet something was done"))
        elif method == "DELETE":
            thing.make()
        if answer.status == 412 and is_list and stocked.request("POST", thing.list, thing.body()).status != 201:
            wrong.append((method, fields, "what was not done is in the way"))
    assert not wrong, wrong


@pytest.mark.parametrize("mode", MODES)
def test_lists_and_health_have_conditions_too(stocked, mode):
    stocked.request("POST", f"/{mode}/order", ORDER)
    wrong = []
    for path in (*(f"/{mode}/{resource}" for resource in PARTS), f"/{mode}/order?limit=1", f"/{mode}/health"):
        tag = stocked.request("GET", path).header("ETag")
        for method, conditions in itertools.product(("GET", "HEAD"), CONDITIONS):
            fields = {name: value(tag) for name, value, _ in conditions}
            answer, wanted = stocked.request(method, path, headers=fields), status(method, conditions, 200)
            if answer.status != wanted or (wanted == 304 and answer.header("ETag") != tag):
                wrong.append((method, path, fields, f"{wanted} and not {answer}"))
    assert not wrong, wrong


@pytest.mark.parametrize("mode", MODES)
def test_a_tag_counts_without_what_a_compressing_server_has_put_at_its_end(stocked, mode):
    thing, wrong = Thing(stocked, mode, "order"), []
    for method, condition in itertools.product(("GET", "PATCH"), ENDED):
        tag = stocked.request("GET", thing.path).header("ETag")
        name, value, _ = condition
        answer, wanted = thing.ask(method, thing.path, {name: value(tag)}), status(method, [condition], 200)
        if answer.status != wanted:
            wrong.append((method, name, value(tag), f"{wanted} and not {answer.status}"))
    assert not wrong, wrong


@pytest.mark.parametrize("name", ("If-Match", "If-None-Match"))
@pytest.mark.parametrize("resource", ("contact", "order"))
@pytest.mark.parametrize("mode", MODES)
def test_what_is_no_list_of_tags_holds_for_no_write(stocked, mode, resource, name):
    thing, wrong = Thing(stocked, mode, resource), []
    read = {"GET": 412 if name == "If-Match" else 200}
    for method, value in itertools.product(("GET", "HEAD", "PATCH", "DELETE", "POST"), MALFORMED):
        before = thing.state()
        path, tag = (thing.list, before[1][1]) if method == "POST" else (thing.path, before[0][1])
        answer, wanted = thing.ask(method, path, {name: value(tag)}), read["GET"] if method in ("GET", "HEAD") else 412
        if answer.status != wanted or thing.state() != before:
            wrong.append((method, name, value(tag), f"{wanted} and not {answer}"))
            if method == "DELETE":
                thing.make()
        if answer.status == 412 and method != "HEAD" and "must be * or entity tags in quotes" not in answer.json["detail"]:
            wrong.append((method, name, value(tag), answer))
    assert not wrong, wrong


@pytest.mark.parametrize("mode", MODES)
def test_where_nothing_is_a_condition_does_not_matter(stocked, mode):
    malformed = [(name, MALFORMED[0], False) for name in ("If-Match", "If-None-Match")]
    for resource, condition in itertools.product(PARTS, MATCH[:3] + NONE_MATCH + malformed):
        fields = {condition[0]: condition[1](OTHER)}
        for method, body in (("GET", None), ("HEAD", None), ("PATCH", {}), ("DELETE", None)):
            answer = stocked.request(method, f"/{mode}/{resource}/99", body, fields)
            assert answer.status == 404, (method, resource, fields, answer)
    for fields in ({"If-None-Match": "*"}, {"If-Match": OTHER}, {"If-None-Match": "W/*"}, {"If-Match": "W/*"}):
        assert stocked.request("POST", f"/{mode}/tag", {"name": 1}, fields).status == 422, "a fault is told before a condition"
        assert stocked.request("POST", f"/{mode}/tag", "{", fields).status == 400


@pytest.mark.parametrize("resource", ("tag", "order"))
@pytest.mark.parametrize("mode", MODES)
def test_what_changes_between_reading_and_writing_is_read_again(stocked, mode, resource):
    thing = Thing(stocked, mode, resource)
    identifier = thing.path.rsplit("/", 1)[1]
    for more, wanted in ((lambda tag: {}, 200), (lambda tag: {"If-Match": tag}, 412)):
        fields = {"If-None-Match": OTHER, **more(stocked.request("GET", thing.path).header("ETag"))}
        lock = stocked.psql_open(f'begin; select from "{resource}" where id = {identifier} for update')
        try:
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                patch = pool.submit(stocked.request, "PATCH", thing.path, {"name": "patched"}, fields)
                eventually(lambda: stocked.psql("select 1 from pg_stat_activity where wait_event_type = 'Lock'"), 5, "the patch does not wait")
                lock.stdin.write(f"update \"{resource}\" set name = 'changed' where id = {identifier}; commit;\n")
                lock.stdin.flush()
                answer = patch.result()
        finally:
            lock.kill()
            lock.wait()
        assert answer.status == wanted, (fields, answer)
        assert stocked.request("GET", thing.path).json["name"] == ("patched" if wanted == 200 else "changed")


@pytest.mark.parametrize("resource", ("tag", "order"))
@pytest.mark.parametrize("mode", MODES)
def test_a_key_counts_for_more_than_a_condition(stocked, mode, resource):
    path, key = f"/{mode}/{resource}", {"Idempotency-Key": "k"}
    body = {**PARTS[resource], "name": "once"}
    tag = stocked.request("GET", path).header("ETag")
    refused = stocked.request("POST", path, body, {**key, "If-None-Match": tag})
    assert refused.status == 412, refused
    first = stocked.request("POST", path, body, {**key, "If-Match": tag})
    assert (first.status, first.header("Idempotency-Replayed")) == (201, None), first
    again = stocked.request("POST", path, body, {**key, "If-Match": tag})
    assert (again.status, again.body, again.header("Idempotency-Replayed")) == (201, first.body, "true"), again
    other = stocked.request("POST", path, {**body, "name": "twice"}, {**key, "If-Match": tag})
    assert (other.status, other.json["errors"][0]["code"]) == (422, "reused"), other
    assert stocked.request("POST", path, {**body, "name": "twice"}, {"If-Match": tag}).status == 412
    assert "twice" not in stocked.request("GET", path).body.decode()
    for name in ("If-Match", "If-None-Match"):
        assert stocked.request("POST", path, body, {**key, name: "W/*"}).status == 412, name
