"""docs/limits.md: every bound stands in its table, with its value, and is tried there and one beyond, here or by the test it names."""

import concurrent.futures
import contextlib
import json
import pathlib
import re
from typing import NamedTuple

import pytest

from fastcgi_client import answer, begin, connect, connect_to, one_answer, pairs, record, records, variables, with_id
from local_stack import MODES, ROOT, locked
from settings_help import helps, run, settings


class Bound(NamedTuple):
    where: str
    what: str
    value: str
    beyond: str
    setting: str
    tests: str


def table():
    text = pathlib.Path(ROOT, "docs/limits.md").read_text()
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert all(len(row) == 6 for row in rows), [row for row in rows if len(row) != 6]
    return [Bound(*row) for row in rows[1:]]


def row(where, what):
    (found,) = [bound for bound in table() if bound.where == where and bound.what == what]
    return found


def names(bound):
    """The settings that a row is about."""
    pieces = re.findall(r"`(FORKLOOP_[A-Z_{},]+)`", bound.setting)
    return [name.replace("{SYNC,ASYNC}", mode) for name in pieces for mode in ("SYNC", "ASYNC") if "{" in name or mode == "SYNC"]


# --- the table and the rest of the project

def test_the_table_is_one_of_all_bounds():
    bounds = table()
    assert len(bounds) >= 30
    assert len({(bound.where, bound.what) for bound in bounds}) == len(bounds), "a row stands there twice"
    assert {"nginx", "the API", "/sync", "/async", "both"} <= {bound.where.strip("`") for bound in bounds}
    assert "docs/limits.md" in pathlib.Path(ROOT, "README.md").read_text(), "the README does not link to it"


def test_every_number_of_the_help_stands_in_the_table():
    there = set(re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\w)", "\n".join(" ".join(bound) for bound in table())))
    for command, text in helps().items():
        for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\w)", text.replace("OpenAPI 3.1", "")):
            assert number in there, f"{number} of 'forkloop {command} --help' is not in docs/limits.md"


def test_every_number_that_can_be_set_has_a_row_with_its_default():
    rows = {name: bound for bound in table() for name in names(bound)}
    for name, setting in settings().items():
        if name in ranges() and ranges()[name] != (0, 1):
            assert name in rows, f"{name} is not in docs/limits.md"
            default = setting.default or "−1"
            assert re.match(rf"{re.escape(default)}\b", rows[name].value), f"{name}: {rows[name].value} in docs/limits.md, {default} in the help"


def test_every_limit_of_nginx_has_a_row():
    directives = r"^\s*((?:client|send|keepalive|fastcgi|large|worker)[a-z_]*(?:size|timeout|requests|buffers|connections|keepalive)|keepalive) +([^;$]+);"
    there = {setting for bound in table() for setting in re.findall(r"`([a-z_]+ [^`]+)`", bound.setting)}
    found = {f"{name} {re.sub(' +', ' ', value)}" for path in pathlib.Path(ROOT, "nginx").rglob("*.conf*") if "assets" not in path.parts
             for name, value in re.findall(directives, path.read_text(), re.MULTILINE)}
    assert len(found) >= 10 and found <= there, f"not in docs/limits.md: {found - there}"
    assert {setting for setting in there if not setting.startswith("large_")} <= found, f"in docs/limits.md alone: {there - found}"


def test_every_row_is_tried_by_a_test_that_exists_or_says_that_it_can_t_be():
    here = {(where, what) for where, what, *_ in TRIES} | {("nginx", "a body"), ("/async", "requests at a time on a connection"), ("/async", "requests on a connection that are held back")}
    here |= {("/async", "a request's header"), ("/async", "variables of a header that are the web server's own"), ("the API", "JSON inside JSON"), ("the API", "`X-Request-Id`")}
    here |= {("the API", "faults told in a 422"), ("settings", "the path of a socket"), ("the API", "an unknown name shown in a fault")}
    here |= {("both", "a line of the log"), ("status of /sync", "a request's header")}
    tried = 0
    for bound in table():
        assert bound.tests, f"{bound.what}: nothing tries it"
        for test in bound.tests.split(", "):
            if test == "*limits*":
                of_program = names(bound) or bound.setting.startswith("`--") or (bound.where.replace("`", ""), bound.what) in here
                assert of_program or (bound.where, bound.what) in here, f"{bound.what}: is not tried here"
                tried += 1
            elif test.endswith(".swift"):
                assert pathlib.Path(ROOT, "Tests", test).exists(), f"{bound.what}: there is no {test}"
            elif test != "–":
                file, function = test.split(": ")
                assert f"def {function}(" in pathlib.Path(ROOT, f"Tests/SystemTests/{file}.py").read_text(), f"{bound.what}: there is no {test}"
                tried += 1
    assert tried >= 30


# --- settings

_ranges = {}


def ranges():
    """From where to where each setting may be, as the program says itself when it is told nonsense."""
    if not _ranges:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            def of(setting):
                done = run(command_of(setting), *([] if setting.command == "up" else ["--check"]), **{setting.name: "nonsense"})
                return re.fullmatch(rf"forkloop: {setting.name} must be an integer from (\S+) to (\S+), not 'nonsense'\n", done.stderr)
            asked = [setting for setting in settings().values() if setting.name not in ("FORKLOOP_STATE", "FORKLOOP_LOG_LEVEL")]
            for setting, told in zip(asked, pool.map(of, asked)):
                if told:
                    _ranges[setting.name] = (int(told[1]), int(told[2]))
    return _ranges


def command_of(setting):
    return "async" if "_ASYNC_" in setting.name else setting.command


def test_every_setting_is_taken_at_its_bounds_and_not_beyond():
    flags = ["--check", "--listen", "unix:/tmp/forkloop-limits.sock"]
    lows, highs, beyond = {}, {}, []
    for bound in table():
        for name in names(bound):
            lowest, highest = ranges()[name]
            told = re.search(r"\((?:above )?(−?\d+)–(\d+)\)", bound.value)
            assert told and (int(told[1].replace("−", "-")), int(told[2])) == (lowest, highest), f"{name}: {bound.value}, but from {lowest} to {highest}"
            beyond += [(name, value) for value in (lowest - 1, highest + 1)]
            lows[name], highs[name] = lowest, highest
    assert len(beyond) > 50
    for mode in MODES:
        for values in (lows, highs):
            # What the kernel allows is not for us to say.
            values = {name: value for name, value in values.items() if "RLIMIT" not in name or values is lows}
            done = run(mode, *flags, **values)
            assert done.returncode == 0 and done.stdout.endswith("the configuration is good\n"), f"{values}: {done}"

    def outcome(trial):
        command = command_of(settings()[trial[0]])
        # `up` would start everything.
        return run(command, *([] if command == "up" else flags), **{trial[0]: trial[1]})

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for (name, value), done in zip(beyond, pool.map(outcome, beyond)):
            assert done.returncode == 2 and name in done.stderr and done.stderr.count("\n") == 1, f"{name}={value}: {done}"


@pytest.mark.parametrize("mode", MODES)
def test_more_files_than_the_kernel_allows_are_refused_with_the_setting_s_name(mode):
    _, highest = ranges()[f"FORKLOOP_{mode.upper()}_RLIMIT_FILES"]
    done = run(mode, "--check", "--listen", "unix:/tmp/forkloop-limits.sock", "--rlimit-files", str(highest))
    assert done.returncode == 0 or "--rlimit-files" in done.stderr and done.stderr.count("\n") == 1, done


@pytest.mark.parametrize("flag, name, lowest", [("--max-turn", "FORKLOOP_ASYNC_MAX_TURN", 2000), ("--rlimit-files", "FORKLOOP_ASYNC_RLIMIT_FILES", 39)])
def test_what_is_neither_off_nor_enough_is_refused(flag, name, lowest):
    assert run("async", "--check", "--listen", "unix:/tmp/forkloop-limits.sock", **{name: lowest}).returncode == 0
    done = run("async", "--check", "--listen", "unix:/tmp/forkloop-limits.sock", **{name: lowest - 1})
    assert done.returncode == 2 and (flag in done.stderr or name in done.stderr) and str(lowest) in done.stderr, done


def test_a_socket_s_path_is_taken_up_to_its_length_and_not_beyond():
    longest = int(row("settings", "the path of a socket").value)
    path = "/tmp/".ljust(longest, "x")
    assert run("async", "--check", "--listen", f"unix:{path}").returncode == 0
    done = run("async", "--check", "--listen", f"unix:{path}x")
    assert done.returncode == 2 and f"at most {longest} bytes" in done.stderr, done


@pytest.mark.parametrize("mode", MODES)
def test_a_line_of_the_log_has_its_length_and_no_more(mode):
    longest = int(row("both", "a line of the log").value)

    def line(length):
        """What it says of a setting with a name so long, and whether that is all."""
        name = "FORKLOOP_" + "X" * length
        said = run(mode, "--check", "--listen", "unix:/tmp/forkloop-limits.sock", **{name: 1}).stderr
        assert said.endswith("\n") and said.count("\n") == 1
        return said, f"there is no setting {name}, the nearest is FORKLOOP_" in said and said.rsplit(" ", 1)[1].strip() in settings()

    # The number of the process may have a digit more the next time.
    fits = 100 + longest - len(line(100)[0]) - 2
    said, is_whole = line(fits)
    assert is_whole and longest - 4 <= len(said) <= longest, said[-200:]
    said, is_whole = line(fits + 10)
    assert not is_whole and len(said) == longest, said[-200:]


@pytest.mark.parametrize("flag", ["connections", "rate", "seconds", "warm-up", "timeout", "repeats"])
def test_what_is_beyond_a_flag_of_a_command_is_refused(flag):
    (bound,) = [bound for bound in table() if bound.setting == f"`--{flag}`"]
    lowest, highest = re.search(r"\((?:above )?(\d+)–(\d+)\)", bound.value).groups()
    below = lowest if "above" in bound.value else str(int(lowest) - 1)
    for value in (below, str(int(highest) + 1)):
        command = ["compare"] if flag == "repeats" else ["load", "http://127.0.0.1:1/"]
        done = run(*command, f"--{flag}={value}")
        assert done.returncode == 2 and re.search(rf"{flag.replace('-', '.')}\b.* must be .*{highest}", done.stderr), f"--{flag} {value}: {done}"


# --- the API

def order(lines=1, tags=(), **line):
    lines = [{"product_id": 1, "quantity": 1, "price": 1, **line}] * lines
    return {"name": "o", "contact_id": 1, "order_lines": lines, "tag_ids": list(tags)}


def raw_order(key, text):
    """With a number as it is written."""
    return json.dumps(order()).replace(f'"{key}": 1', f'"{key}": {text}').encode()


def post(path, body, **fields):
    return "POST", path, body, {name.replace("_", "-"): value for name, value in fields.items()}


def get(path):
    return "GET", path, None, {}


# The row, a number in it, the request that has it, the number one beyond (or its bound's other side), statuses within and beyond, the fault.
TRIES = [
    ("the API", "a body", "1048576", lambda n: post("/product", b'{"name":"x"'.ljust(n - 1) + b"}"), 1048577, 201, 413, None),
    ("the API", "`name`", "255", lambda n: post("/product", {"name": "é" * n}), 256, 201, 422, "too_long"),
    ("the API", "`name`", "1", lambda n: post("/product", {"name": "x" * n}), 0, 201, 422, None),
    ("the API", "`email`", "320", lambda n: post("/contact", {"name": "x", "email": "@x".rjust(n, "é")}), 321, 201, 422, "too_long"),
    ("the API", "`quantity`", "1", lambda n: post("/order", order(quantity=n)), 0, 201, 422, "out_of_range"),
    ("the API", "`quantity`", "1000000", lambda n: post("/order", order(quantity=n)), 1_000_001, 201, 422, "out_of_range"),
    ("the API", "`price`", "0", lambda n: post("/order", raw_order("price", n)), "-0.0001", 201, 422, "out_of_range"),
    ("the API", "`price`", "9999999999.9999", lambda n: post("/order", raw_order("price", n)), "10000000000", 201, 422, "out_of_range"),
    ("the API", "decimals of a `price`", "4", lambda n: post("/order", raw_order("price", "0." + "1" * n)), 5, 201, 422, "too_many_decimals"),
    ("the API", "`order_lines`", "1000", lambda n: post("/order", order(lines=n)), 1001, 201, 422, "too_many_items"),
    ("the API", "`tag_ids`", "100", lambda n: post("/order", order(tags=range(1, n + 1))), 101, 201, 422, "too_many_items"),
    ("the API", "an id", "9223372036854775807", lambda n: get(f"/order?contact_id={n}"), 9223372036854775808, 200, 422, None),
    ("the API", "`?limit=`", "1", lambda n: get(f"/tag?limit={n}"), 0, 200, 422, "out_of_range"),
    ("the API", "`?limit=`", "1000", lambda n: get(f"/tag?limit={n}"), 1001, 200, 422, "out_of_range"),
    ("the API", "`?after=`", "9223372036854775807", lambda n: get(f"/tag?after={n}"), 9223372036854775808, 200, 422, None),
    ("the API", "`?tag=`", "1", lambda n: get(f"/order?tag={'x' * n}"), 0, 200, 422, None),
    ("the API", "`?tag=`", "255", lambda n: get(f"/order?tag={'x' * n}"), 256, 200, 422, None),
    ("the API", "`Idempotency-Key`", "255", lambda n: post("/product", {"name": "x"}, Idempotency_Key="k" * n), 256, 201, 400, None),
]


@pytest.mark.parametrize("where, what, at, made, beyond, good, bad, code", TRIES, ids=[f"{what} {at}" for _, what, at, *_ in TRIES])
def test_the_api_takes_what_is_at_a_bound_and_nothing_beyond(stocked, where, what, at, made, beyond, good, bad, code):
    assert at in re.findall(r"[\d.]*\d", row(where, what).value), f"{what}: {at} is not in docs/limits.md"
    stocked.psql("insert into tag (name) select 'tag ' || i from generate_series(4, 101) i")
    number = at if isinstance(beyond, str) else int(at)
    for mode in MODES:
        method, path, body, headers = made(number)
        if "Idempotency-Key" in headers:
            headers["Idempotency-Key"] = headers["Idempotency-Key"][1:] + mode[0]
        assert stocked.request(method, f"/{mode}{path}", body, headers).status == good, f"{what} at {at}, {mode}"
        method, path, body, headers = made(beyond)
        refused = stocked.request(method, f"/{mode}{path}", body, headers)
        assert refused.status == bad, f"{what} beyond {at}, {mode}: {refused}"
        if code:
            assert [fault["code"] for fault in refused.json["errors"]] == [code], refused


def test_json_is_nested_so_deep_and_no_deeper(stocked):
    deepest = int(re.match(r"\d+", row("the API", "JSON inside JSON").value)[0])
    assert stocked.both("POST", "/product", b"[" * deepest + b"]" * deepest).status == 422
    assert stocked.both("POST", "/product", b"[" * (deepest + 1) + b"]" * (deepest + 1)).status == 400


def test_so_many_faults_are_told_and_no_more(stocked):
    most = int(row("the API", "faults told in a 422").value)
    for count in (most, most + 1):
        refused = stocked.both("POST", "/product", {"name": "x", **{f"k{i}": 1 for i in range(count)}})
        assert refused.status == 422 and len(refused.json["errors"]) == most
        assert str(count) in refused.json["detail"], refused.json["detail"]


def test_an_unknown_name_is_shown_up_to_its_length_and_not_beyond(stocked):
    longest = int(row("the API", "an unknown name shown in a fault").value)
    for length in (longest, longest + 1):
        name = "n" * length
        (parameter,) = stocked.both("GET", f"/tag?{name}=1").json["errors"]
        (key,) = stocked.both("POST", "/tag", {"name": "x", name: 1}).json["errors"]
        assert (parameter["parameter"] == name and key["pointer"] == f"/{name}") == (length == longest), (parameter, key)
        assert all((str(length) in fault["detail"]) == (length > longest) for fault in (parameter, key)), (parameter, key)


def test_a_request_id_is_kept_up_to_its_length_and_replaced_beyond(stocked):
    longest = int(re.match(r"\d+", row("the API", "`X-Request-Id`").value)[0])
    for length in (longest, longest + 1):
        sent = "x" * length
        for mode in MODES:
            kept = stocked.request("GET", f"/{mode}/tag", headers={"X-Request-Id": sent}).header("X-Request-Id") == sent
            assert kept == (length == longest), f"{length} characters, {mode}"


# --- past nginx

def sent(params):
    pieces = b"".join(record(4, params[i:i + 60_000]) for i in range(0, len(params), 60_000))
    return begin() + pieces + record(4) + record(5)


def test_the_loop_takes_a_header_up_to_its_bounds_and_not_beyond(stocked):
    size, fields = (int(row("`/async`", what).value) for what in ("a request's header", "variables of a header that are the web server's own"))
    usual = pairs(variables("/async/tag"))
    filler = size - len(usual) - len(pairs({"X": "x" * 1000})) + 1000
    few = fields - len(variables("/async/tag"))
    with connect(stocked, "async") as client:
        for params, status in [
            (usual + pairs({"X": "x" * filler}), b"200"), (usual + pairs({"X": "x" * (filler + 1)}), b"431"),
            (usual + b"".join(pairs({"X": ""}) for _ in range(few)), b"200"), (usual + b"".join(pairs({"X": ""}) for _ in range(few + 1)), b"431"),
        ]:
            client.sendall(sent(params))
            assert answer(client).startswith(b"Status: " + status), f"{len(params)} bytes"


def test_a_connection_to_the_loop_has_so_many_requests_at_a_time_and_no_more(stocked):
    most = sum(int(row("`/async`", what).value) for what in ("requests at a time on a connection", "requests on a connection that are held back"))
    with locked(stocked, "tag") as lock, connect(stocked, "async") as client, contextlib.closing(records(client)) as stream:
        client.sendall(b"".join(with_id(sent(pairs(variables("/async/tag"))), number) for number in range(1, most + 2)))
        assert next(stream) == (3, most + 1, bytes([0, 0, 0, 0, 2, 0, 0, 0])), "one more was not told that there are too many"
        lock.kill()
        assert sorted(one_answer(stream)[0] for _ in range(most)) == list(range(1, most + 1))


def test_the_status_takes_a_header_up_to_its_bound_and_not_beyond(stocked):
    longest = int(row("status of `/sync`", "a request's header").value)
    usual = pairs(variables("/sync/status"))
    filler = longest - len(usual) - len(pairs({"X": "x" * 1000})) + 1000
    for length, status in ((filler, b"200"), (filler + 1, b"431")):
        with connect_to(stocked.path("run/sync-status.sock")) as client:
            client.sendall(sent(usual + pairs({"X": "x" * length})))
            assert answer(client).startswith(b"Status: " + status), length


@pytest.mark.parametrize("mode", MODES)
def test_a_body_has_the_same_bound_for_nginx_and_behind_it(stocked, mode):
    longest = int(row("nginx", "a body").value)
    assert longest == int(row("the API", "a body").value)
    with connect(stocked, mode) as client:
        body = b'{"name":"x"'.ljust(longest) + b"}"
        params = pairs(variables(f"/{mode}/product", "POST", body=body, content_type="application/json"))
        pieces = b"".join(record(5, body[i:i + 60_000]) for i in range(0, len(body), 60_000))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(begin(keep=0) + record(4, params) + record(4) + pieces + record(5))
        assert answer(client).startswith(b"Status: 413 ")
