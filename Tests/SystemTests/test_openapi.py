"""The description of the API and the API itself are the same: routes, statuses, limits, examples."""

import json
import pathlib
import re
import subprocess

import pytest

from local_stack import MODES, PROGRAM, ROOT, LocalStack, emptied, temporary_folder
from test_fields import KEYS, NO_KEYS

TOOLS = f"{ROOT}/.build/python/bin"
DOCUMENT = json.loads(pathlib.Path(ROOT, "nginx/html/openapi.json").read_text())
# Whichever are described: a new one is tried as those are that there were.
RESOURCES = [path.split("/")[2] for path in DOCUMENT["paths"] if re.fullmatch(r"/sync/\w+/{id}", path)]
OPERATIONS = [(path, method) for path, operations in DOCUMENT["paths"].items() for method in operations if method != "parameters"]


def operation(path, method):
    return DOCUMENT["paths"][path][method]


def resolved(node):
    while isinstance(node, dict) and "$ref" in node:
        found = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def example(path, method, status):
    (content,) = resolved(operation(path, method)["responses"][str(status)])["content"].values()
    return content["example"]


def sent(path, method):
    return operation(path, method)["requestBody"]["content"]["application/json"]["example"]


def test_the_description_is_the_program_s_own_and_is_served(stack):
    printed = subprocess.run([PROGRAM, "openapi"], capture_output=True, check=True).stdout
    assert printed == pathlib.Path(ROOT, "nginx/html/openapi.json").read_bytes(), "run: .build/release/forkloop openapi > nginx/html/openapi.json"
    answer = stack.request("GET", "/openapi.json")
    assert (answer.status, answer.header("Content-Type"), answer.body) == (200, "application/json", printed)


def test_the_description_is_valid():
    done = subprocess.run([f"{TOOLS}/openapi-spec-validator", f"{ROOT}/nginx/html/openapi.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", DOCUMENT["paths"])
def test_a_path_takes_the_methods_that_are_described_and_no_other(stocked, path):
    described = {m.upper() for m in DOCUMENT["paths"][path] if m != "parameters"}
    real = path.replace("{id}", "1")
    allowed = set(stocked.request("OPTIONS", real).header("Allow").split(", "))
    assert allowed == described | {"HEAD", "OPTIONS"}
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "QUERY"):
        answer = stocked.request(method, real, "{}" if method in ("POST", "PATCH") else None)
        assert (answer.status == 405) == (method not in allowed), answer
        assert answer.status != 405 or set(answer.header("Allow").split(", ")) == allowed


@pytest.mark.parametrize("path, method", OPERATIONS)
def test_an_operation_has_all_parameters_of_its_path_itself(path, method):
    # Swagger UI shows one that a path item refers to as a box without a name, and leaves {id} in what it asks for.
    assert "parameters" not in DOCUMENT["paths"][path]
    own = [p["name"] for p in map(resolved, operation(path, method).get("parameters", [])) if p["in"] == "path" and p["required"]]
    assert own == re.findall(r"{(\w+)}", path)


def unsaid(node, place="", words=""):
    """The patterns and the integers beyond 2^53 that no description says; that of a parameter speaks for its schema."""
    if isinstance(node, list):
        return [fault for n, item in enumerate(node) for fault in unsaid(item, f"{place}/{n}")]
    if not isinstance(node, dict):
        return []
    words = node.get("description", words)
    faults = [f"{place}/{name}: {value}" for name, value in node.items()
              if name == "pattern" and isinstance(value, str) and not words
              or isinstance(value, int) and abs(value) > 1 << 53 and str(value) not in words]
    return faults + [fault for name, value in node.items() for fault in unsaid(value, f"{place}/{name}", words if name == "schema" else "")]


def test_what_a_viewer_can_t_show_is_said_in_words():
    # A pattern is a wall of escapes, and JavaScript has no such integers: docs.js leaves both out.
    assert unsaid(DOCUMENT) == []
    assert unsaid({"a": {"pattern": "^x$"}, "b": {"description": "Up to 9.", "schema": {"maximum": 2**63 - 1}}}) == ["/a/pattern: ^x$", f"/b/schema/maximum: {2**63 - 1}"]


def test_both_prefixes_are_described_alike():
    text = json.dumps({p: DOCUMENT["paths"][p] for p in DOCUMENT["paths"] if p.startswith("/sync")})
    other = json.dumps({p: DOCUMENT["paths"][p] for p in DOCUMENT["paths"] if p.startswith("/async")})
    assert text.replace("sync", "MODE").replace("Sync", "MODE") == other.replace("async", "MODE").replace("Async", "MODE")
    assert {tag for path, method in OPERATIONS for tag in operation(path, method)["tags"]} == {"Sync routes", "Async routes"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("resource", RESOURCES)
def test_the_examples_are_the_program_s_answers(stocked, mode, resource):
    if resource != "order":
        stocked.psql("truncate contact, product, tag restart identity cascade")
    path = f"/{mode}/{resource}"
    created = stocked.request("POST", path, sent(path, "post"))
    assert (created.status, created.json) == (201, example(path, "post", 201))
    assert stocked.request("GET", path).json == example(path, "get", 200)
    assert stocked.request("GET", f"{path}/1").json == example(f"{path}/{{id}}", "get", 200)
    changed = stocked.request("PATCH", f"{path}/1", sent(f"{path}/{{id}}", "patch"))
    assert (changed.status, changed.json) == (200, example(f"{path}/{{id}}", "patch", 200))
    assert stocked.request("GET", f"/{mode}/health").json == example(f"/{mode}/health", "get", 200)


ORDER = {"name": "a", "contact_id": 1, "order_lines": [], "tag_ids": []}
BODIES = {"contact": {"name": "a", "email": "a@b"}, "product": {"name": "a"}, "tag": {"name": "a"}, "order": ORDER}
TABLES = {"order": '"order"'}


def around(schema, stocked):
    """Values that a schema just takes, and such that it just refuses."""
    schema = resolved(schema)
    is_text = "string" in schema["type"]
    good, bad = [], [{}, 1 if is_text else ""]
    if is_text:
        letters = (lambda n: "a@" + "b" * (n - 2)) if "@" in schema["pattern"] else (lambda n: "é" * n)
        good, bad = [letters(schema["maxLength"])], bad + [letters(schema["maxLength"] + 1), "", "\0a@b"]
        (good if "null" in schema["type"] else bad).append(None)
    elif schema["type"] in ("integer", "number"):
        good, bad = [schema["minimum"], schema["maximum"]], bad + [schema["minimum"] - 1, schema["maximum"] + 1]
        if "multipleOf" in schema:
            good, bad = good + [0.0001, 1.9999], bad + [0.00001, 1.99999]
    else:
        bad.append([{}])
    return good, bad


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("resource", RESOURCES)
def test_every_field_is_taken_up_to_its_described_limits_and_not_beyond(stocked, mode, resource):
    schema = resolved({"$ref": f"#/components/schemas/New{resource.capitalize()}"})
    assert set(schema["required"]) <= set(schema["properties"]) and not schema["additionalProperties"]
    patched = resolved({"$ref": f"#/components/schemas/{resource.capitalize()}Patch"})
    assert set(patched["properties"]) == set(schema["properties"]) and "required" not in patched

    def faults(body):
        answer = stocked.request("POST", f"/{mode}/{resource}", body)
        assert answer.status in (201, 409, 422), answer
        # What does not exist is another matter than what can't be.
        return [e for e in answer.json.get("errors", []) if e["code"] != "not_found"]

    valid = BODIES.get(resource) or sent(f"/{mode}/{resource}", "post")
    assert faults({**valid, "unknown": 1}) != []
    for name, field in schema["properties"].items():
        body = {k: v for k, v in valid.items() if k != name}
        assert bool(faults(body)) == (name in schema["required"]), name
        good, bad = around(field, stocked)
        for value in good:
            assert faults({**body, name: value}) == [], (name, str(value)[:80])
        for value in bad:
            assert faults({**body, name: value}) != [], (name, str(value)[:80])
        if field.get("type") == "array":
            items = resolved(field["items"])
            many = lambda n: [{"product_id": 1, "quantity": 1, "price": 1}] * n if items["type"] == "object" else list(range(1, n + 1))
            assert faults({**body, name: many(field["maxItems"])}) == [] and faults({**body, name: many(field["maxItems"] + 1)}) != []
            assert not field.get("uniqueItems") or faults({**body, name: [1, 1]}) != []
            for inner, what in items.get("properties", {}).items():
                line = {"product_id": 1, "quantity": 1, "price": 1}
                assert faults({**body, name: [{k: v for k, v in line.items() if k != inner}]}) != [], inner
                good, bad = around(what, stocked)
                assert all(faults({**body, name: [{**line, inner: v}]}) == [] for v in good), (inner, good)
                assert all(faults({**body, name: [{**line, inner: v}]}) != [] for v in bad), (inner, bad)


@pytest.mark.parametrize("mode", MODES)
def test_every_parameter_is_taken_up_to_its_described_limits_and_not_beyond(stocked, mode):
    for resource in RESOURCES:
        for parameter in map(resolved, operation(f"/{mode}/{resource}", "get")["parameters"]):
            if parameter["in"] != "query":
                continue
            schema = parameter["schema"]
            if schema["type"] == "integer":
                good, bad = [schema["minimum"], schema["maximum"]], [schema["minimum"] - 1, schema["maximum"] + 1, "x", "", "1.0"]
            else:
                good, bad = ["a" * schema["maxLength"]], ["a" * (schema["maxLength"] + 1), "", "%00"]
            for values, status in ((good, 200), (bad, 422)):
                for value in values:
                    answer = stocked.request("GET", f"/{mode}/{resource}?{parameter['name']}={value}")
                    assert answer.status == status, (parameter["name"], value, answer)
                    assert status == 200 or [e["parameter"] for e in answer.json["errors"]] == [parameter["name"]]


@pytest.mark.parametrize("mode", MODES)
def test_a_key_is_described_as_it_is_taken(stocked, mode):
    """Also to whoever counts in Python."""
    schema = resolved({"$ref": "#/components/parameters/idempotency_key"})["schema"]
    keys = [sent for sent, _ in KEYS] + NO_KEYS + ["k" * 255, "k" * 256, '"' + " k" * 127 + '"', '"' + r"\"" * 255 + '"', '"' + r"\"" * 256 + '"', '" a "', "é", "\"\t\""]
    wrong = []
    for number, key in enumerate(keys):
        is_described = re.search(schema["pattern"], key) is not None and len(key) <= schema.get("maxLength", len(key))
        answer = stocked.request("POST", f"/{mode}/tag", {"name": f"key {number}"}, {"Idempotency-Key": key.encode()})
        # 201, or that of a key that is the same and has been used.
        if (answer.status != 400) != is_described:
            wrong.append((key, is_described, answer))
    assert not wrong, wrong


def test_every_operation_describes_what_a_web_server_says_for_it():
    missing = [(path, method, status) for path, method in OPERATIONS for status in ("431", "502", "503", "504") if status not in operation(path, method)["responses"]]
    assert not missing, missing


def provoke(stack, path, method, status):
    """The answer of an operation in a situation that has this status."""
    mode, resource = path.split("/")[1:3]
    own = {"contact": 2, "product": 2, "tag": 3}.get(resource, 1)
    path = path.replace("{id}", str(own))
    body = sent(path.replace(f"/{own}", "/{id}"), method) if method in ("post", "patch") else None
    table = TABLES.get(resource, resource)

    def ask(target=path, content=body, **headers):
        return stack.request(method.upper(), target, content, {n.replace("_", "-"): v for n, v in headers.items()})

    if status in (200, 201, 204):
        return ask()
    if status == 304:
        return ask(If_None_Match="*")
    if status == 400:
        return ask(f"{path}?%zz") if body is None else ask(content="{")
    if status == 404:
        return ask(path.rsplit("/", 1)[0] + "/999")
    if status == 412:
        return ask(If_Match='"1"')
    if status == 413:
        return ask(content=b" " * (2 << 20))
    if status == 414:
        return ask(f"{path}?x=" + "x" * 9000)
    if status == 431:
        return ask(X_Long="x" * 9000)
    if status == 415:
        return ask(Content_Type="text/plain")
    if status == 422:
        return ask(f"{path}?unknown=1")
    if status == 409 and method == "post":
        stack.psql("insert into tag (name) values ('shopping') on conflict do nothing")
        lock = stack.psql_open("begin; select pg_advisory_xact_lock(hashtextextended('held', 0))")
        answer = ask(Idempotency_Key="held")
        lock.kill()
        return answer
    if status == 409 and method == "patch":
        stack.psql("insert into tag (name) values ('errands')")
        return ask()
    if status == 409:
        stack.psql(f"insert into order_line (order_id, product_id, quantity, price) values (1, 2, 1, 1); insert into order_tag_rel values (1, 3);"
                   "update \"order\" set contact_id = 2")
        return ask()
    if status == 503:
        if resource == "health":
            pytest.skip("shown where a responder has no database")
        stack.psql(f"alter table {table} rename to away")
        try:
            return ask()
        finally:
            stack.psql(f"alter table away rename to {table}")
    if status == 504:
        lock = stack.psql_open(f"begin; lock table {table}")
        answer = ask()
        lock.kill()
        return answer
    assert status == 500
    stack.psql(f"""alter table {table} rename to away;
        create view {table} as select distinct away.*, null::xid as xmin from away where 1 / (id - id) > 0""")
    try:
        return ask()
    finally:
        stack.psql(f"drop view {table}; alter table away rename to {table}")


@pytest.fixture(scope="module")
def impatient():
    """A stack whose statements may take 800 ms."""
    with temporary_folder() as folder:
        stack = LocalStack(folder, FORKLOOP_STATEMENT_TIMEOUT=800)
        yield stack
        stack.stop()


@pytest.mark.parametrize("path, method", OPERATIONS)
def test_every_described_status_can_be_had(impatient, path, method):
    for status in map(int, operation(path, method)["responses"]):
        emptied(impatient)
        impatient.psql("""
            insert into contact (name, email) values ('Ann', 'ann@example.org'), ('Bob', 'bob@example.org');
            insert into product (name) values ('Pen'), ('Ink'); insert into tag (name) values ('food'), ('IT'), ('new');
            insert into "order" (name, contact_id) values ('o', 1)""")
        resource = path.split("/")[2]
        if resource in RESOURCES and resource not in BODIES:
            assert impatient.request("POST", f"/sync/{resource}", sent(f"/sync/{resource}", "post")).status == 201
        if status >= 500 and ("health" in path or "live" in path):
            continue  # shown where a responder has no database; or the web server's
        if status == 502 or (status, method, "order" in path) == (409, "patch", True):
            continue  # a responder that is killed, and something that goes away in the same moment
        answer = provoke(impatient, path, method, status)
        assert answer.status == status, (status, answer)
        described = resolved(operation(path, method)["responses"][str(status)])
        if "content" in described:
            assert [answer.header("Content-Type")] == list(described["content"])
        for name in described.get("headers", {}):
            assert answer.header(name) or name in ("Link", "Idempotency-Replayed"), (name, answer)


@pytest.mark.parametrize("status, request_", [
    (400, ("GET", "/sync/order?%zz", None, {})), (404, ("GET", "/sync/order/9", None, {})), (409, ("POST", "/sync/tag", {"name": "IT"}, {})),
    (412, ("DELETE", "/sync/tag/1", None, {"If-Match": '"1"'})), (413, ("POST", "/sync/tag", b" " * (1 << 21), {})),
    (414, ("GET", "/sync/tag?x=" + "x" * 9000, None, {})), (431, ("GET", "/sync/tag", None, {"X-Long": "x" * 9000})), (415, ("POST", "/sync/tag", "{}", {"Content-Type": "text/plain"})),
    ("415-patch", ("PATCH", "/sync/tag/1", "{}", {"Content-Type": "text/plain"})),
    (422, ("POST", "/sync/order", '{"name":"a","contact_id":1,"order_lines":[{"product_id":1,"quantity":1,"price":0.12345}]}', {})),
])
def test_the_examples_of_errors_are_the_program_s_answers(stocked, status, request_):
    (content,) = DOCUMENT["components"]["responses"][str(status)]["content"].values()
    assert stocked.request(*request_).json == content["example"]


@pytest.mark.parametrize("examples", [10, pytest.param(100, marks=pytest.mark.long)])
def test_schemathesis_finds_nothing(stack, examples):
    done = subprocess.run(
        [f"{TOOLS}/schemathesis", "--config-file", f"{ROOT}/Tests/SystemTests/schemathesis.toml", "run", f"http://127.0.0.1:{stack.port}/openapi.json",
         "--checks", "all", "--seed", "1", "--max-examples", str(examples), "--no-color"], capture_output=True, text=True, timeout=1800, cwd=stack.folder)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in done.stdout, done.stdout[-3000:]
