"""The workload: requests cost what they say, in both servers and as plain CGI."""

import contextlib
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import time

import pytest

import daemon
from fastcgi_client import answer, connect_to, fastcgi, record
from local_stack import MODES, PROGRAM, ROOT, children, eventually, listens
from proxy import in_front_of
from responder import ONE_CONNECTION, responder
from settings_help import run
from test_cgi import variables

SERVED = {"FORKLOOP_APPLICATION": "workload"}
SLEEPING = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and application_name = 'forkloop {}'"


def workload(stack, mode, **settings):
    """A responder on a database that has no schema of ours."""
    return responder(mode, **{"DB_HOST": stack.path("run"), "DB_NAME": "postgres", **SERVED, **settings})


def parsed(whole):
    return json.loads(whole.partition(b"\r\n\r\n")[2])


def work(one, query="", method="GET", body=b""):
    """(status, answer) of one request."""
    status, whole = one.ask("/work", method, body, query)
    return status, parsed(whole)


def script(stack, query="", method="GET", body=b""):
    """The same as plain CGI."""
    more = {"QUERY_STRING": query, "CONTENT_LENGTH": len(body), **SERVED}
    done = subprocess.run([PROGRAM], input=body, capture_output=True, timeout=60, env=variables(stack, method, "/sync/work", **more))
    return int(re.search(rb"\r\nStatus: (\d+)", done.stdout)[1]), parsed(done.stdout)


@pytest.fixture(params=[*MODES, "cgi"])
def asks(request, stack):
    """Asks the workload, in each way in which it is served."""
    if request.param == "cgi":
        yield lambda *what: script(stack, *what)
    else:
        with workload(stack, request.param) as one:
            yield lambda *what: work(one, *what)


DOES = [
    ("", 1, []), ("rows=3", 1, ["", "", ""]), ("rows=2&bytes=3&key=10", 1, ["10.", "10."]), ("rows=1&bytes=1&key=10", 1, ["1"]),
    ("statements=3&rows=1&bytes=2&key=7", 3, ["7.", "8.", "9."]), ("statements=3&rows=1&bytes=2&key=7&together=1", 3, ["7.", "8.", "9."]),
    ("statements=0&rows=1", 0, []), ("statements=0&processor=1&wait=0.5", 0, []), ("statements=2&processor=1&wait=1&rows=1", 2, ["", ""]),
    ("time=1&rows=2&bytes=1", 1, ["0", "0"]), ("time=0.001", 1, []), ("time=1&by=work&rows=2&bytes=1", 1, ["0", "0"]), ("time=1&by=work", 1, []),
    ("time=1&distribution=exponential&rows=1", 1, [""]), ("statements=2&together=1&time=1&distribution=lognormal&rows=1", 2, ["", ""]),
    ("rows=1&bytes=1&share=rows", 1, ["0"]), ("rows=1&bytes=1&share=rendering", 1, ["0"]),
]


def test_a_request_does_what_it_says_and_answers_with_that(asks):
    for query, statements, data in DOES:
        expected = {"statements": statements, "rows": len(data), "bytes": sum(map(len, data)), "body": 0, "data": data}
        assert asks(query) == (200, expected), query
    status, got = asks("rows=1024&bytes=1024")
    assert (status, got["bytes"], {len(row) for row in got["data"]}) == (200, 1 << 20, {1024})
    status, got = asks("time=1&rows=1", "POST", b"x" * (1 << 20))
    assert (status, got["body"], got["rows"]) == (200, 1 << 20, 1)


# --- what may not be asked for

def parameters():
    """Of the table in docs/workload.md: the values of each parameter."""
    rows = [[part.strip() for part in line.split("|")[1:-1]] for line in pathlib.Path(ROOT, "docs/workload.md").read_text().splitlines() if line.startswith("| `")]
    return {name.strip("`"): values for name, _, values, _ in rows}


def faults(asks, query):
    status, got = asks(query)
    assert status == 422, (query, got)
    return [fault["parameter"] for fault in got["errors"]]


def test_each_bound_of_the_table_holds(asks):
    # With what there is not, nothing is done.
    assert len(parameters()) == 11
    for name, values in parameters().items():
        numbers = re.fullmatch(r"0–(\d+)", values)
        taken = [0, int(numbers[1])] if numbers else re.findall(r"`(\w+)`", values)
        refused = [int(numbers[1]) + 1, -1, "x", ""] if numbers else [taken[0].upper(), "", "0"]
        for value in taken:
            assert faults(asks, f"{name}={value}&none=1") == ["none"], f"{name}={value}"
        for value in refused:
            assert faults(asks, f"{name}={value}&none=1") == [name, "none"], f"{name}={value}"
        assert faults(asks, f"{name}={taken[0]}&{name}={taken[0]}") == [name]
    for query, name in [("statements=7&time=10000", "time"), ("statements=11&rows=1000", "rows"), ("rows=1025&bytes=1024", "bytes"),
                        ("time=1000.001&distribution=exponential", "time"), ("Time=1", "Time"), ("time=1.0001", "time"), ("wait=1e3", "wait")]:
        assert faults(asks, query) == [name], query


@pytest.mark.parametrize("mode", MODES)
def test_a_path_and_a_method_that_are_not_there_are_refused_as_elsewhere(stack, mode):
    with workload(stack, mode) as one:
        for path, method, status in [("/contact", "GET", 404), ("/work/", "GET", 404), ("/work", "PUT", 405), ("/live", "POST", 405), ("/work", "OPTIONS", 204),
                                     ("/live", "GET", 200), ("/live", "HEAD", 200), ("/health", "GET", 200), ("/work", "HEAD", 200)]:
            got, whole = one.ask(path, method)
            assert got == status and (status != 405 or b"\r\nAllow: GET, HEAD, OPTIONS" in whole) and (method != "HEAD" or whole.endswith(b"\r\n\r\n")), whole
        assert one.ask("/work", query="time=%zz")[0] == 400 and one.ask("/live", query="x=1")[0] == 422
        assert one.ask("/work", "POST", b"x" * ((1 << 20) + 1))[0] == 413
        assert "migrate" not in one.log.read_text() and "the application is the workload" in one.log.read_text()


# --- that it is served only where that is asked for

def test_it_is_not_served_unless_it_is_asked_for(stack):
    for mode in MODES:
        assert stack.request("GET", f"/{mode}/work").status == 404
    done = subprocess.run([PROGRAM], capture_output=True, env=variables(stack, "GET", "/sync/work"), timeout=60)
    assert b"\r\nStatus: 404" in done.stdout


@pytest.mark.parametrize("mode", MODES)
def test_an_application_that_there_is_not_is_refused_with_a_line(mode):
    for flags, settings, name in [(["--application", "x"], {}, "--application"), ([], {"FORKLOOP_APPLICATION": "Orders"}, "FORKLOOP_APPLICATION")]:
        done = run(mode, "--check", "--listen", "unix:/tmp/x.sock", *flags, **settings)
        value = (flags + list(settings.values()))[-1]
        assert (done.returncode, done.stderr) == (2, f"forkloop: {name} must be orders or workload, not '{value}'\n"), done


@pytest.mark.parametrize("mode", MODES)
def test_a_check_of_it_has_nothing_to_say_of_a_database_without_a_schema(stack, mode):
    there = {"DB_HOST": stack.path("run"), "DB_NAME": "postgres", "DB_USER": "forkloop"}
    check = [mode, "--check", "--listen", "unix:/tmp/x.sock"]
    assert run(*check, **there, **SERVED).stdout == "the configuration is good\n"
    assert "migrate" in run(*check, **there).stdout


@pytest.mark.parametrize("mode", MODES)
def test_a_reload_changes_what_is_served(stack, mode):
    with daemon.responder(stack, mode) as server:
        assert b"Status: 404" in server.ask("work")
        server.set(**SERVED)
        server.write()
        server.signal(signal.SIGHUP)
        eventually(lambda: listens(server.address) and b"Status: 200" in server.ask("work"), message="it does not serve the workload")
        assert b"Status: 404" in server.ask("tag")
        assert b"Status: 200" in server.status()


# --- statements

@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("together", [0, 1])
def test_statements_are_sent_together_or_after_one_another(stack, mode, together):
    """Held up on the way, before any is answered."""
    query = f"statements=3&together={together}&rows=1&bytes=2&key=7"
    with in_front_of(stack) as proxy, workload(stack, mode, DB_HOST="127.0.0.1", DB_PORT=proxy.port, **ONE_CONNECTION) as one:
        # Prepared, and known to be fast.
        for _ in range(4):
            assert work(one, query)[0] == 200
        with proxy.taken_over() as (here, there), one.send("/work", query=query) as client:
            sent = b""
            while sent.count(b"work_read_") < (3 if together else 1):
                assert select.select([here], [], [], 5)[0], f"{sent.count(b'work_read_')} statements were sent"
                sent += here.recv(65536)
            assert together or not select.select([here], [], [], 0.2)[0], "the second did not wait for the first"
            there.sendall(sent)
        assert work(one)[0] == 200


def test_a_loop_spreads_statements_over_its_connections(stack):
    with workload(stack, "async") as one:
        for query, at_work in [("together=1", 3), ("together=0", 1)]:
            with one.send("/work", query=f"statements=3&time=8000&{query}") as client:
                eventually(lambda: stack.psql(SLEEPING.format("async")) == [(str(at_work),)], 5, f"not {at_work} are at work")
            eventually(lambda: stack.psql("select count(pg_cancel_backend(pid)) from pg_stat_activity where wait_event = 'PgSleep'") == [("0",)], 5)


@pytest.mark.parametrize("mode", MODES)
def test_the_database_sleeps_or_works(stack, mode):
    waits = f"select coalesce(wait_event, 'nothing') from pg_stat_activity where state = 'active' and application_name = 'forkloop {mode}'"
    with workload(stack, mode) as one:
        for by, event in [("sleep", "PgSleep"), ("work", "nothing")]:
            with one.send("/work", query=f"time=9000&by={by}") as client:
                eventually(lambda: stack.psql(waits) == [(event,)], 5, f"it does not wait for {event}")
                assert stack.psql(f"select count(pg_cancel_backend(pid)) from pg_stat_activity where state = 'active' and application_name = 'forkloop {mode}'") == [("1",)]
                assert answer(client)[:11] == b"Status: 503"


@pytest.mark.parametrize("mode", MODES)
def test_errors_of_the_database_have_a_status(stack, mode):
    with workload(stack, mode, FORKLOOP_STATEMENT_TIMEOUT=100) as one:
        assert work(one, "time=5000")[0] == 504
        assert work(one, "statements=2&together=1&time=5000")[0] == 504
    with workload(stack, mode, DB_HOST="/nonexistent") as one:
        for path, status in [("/work", 503), ("/health", 503), ("/live", 200)]:
            got, whole = one.ask(path)
            assert got == status and (b"\r\nRetry-After: 1\r\n" in whole) == (status == 503) and b"nonexistent" not in whole, whole
        assert one.ask("/work", query="statements=0")[0] == 200


SHARED = [("nothing", 6), ("rows", 1), ("rendering", 1)]


@pytest.mark.parametrize("share, statements", SHARED)
def test_equal_reads_are_executed_once_where_they_may_be_shared(stack, share, statements):
    def counted():
        return parsed(one.ask("/status")[1])["database"]["statements"]

    def at_once(queries):
        """How many statements requests take that come in one turn of the loop, and their answers."""
        before = counted()
        os.kill(loop, signal.SIGSTOP)
        with contextlib.ExitStack() as exits:
            clients = [exits.enter_context(one.send("/work", query=query)) for query in queries]
            os.kill(loop, signal.SIGCONT)
            answers = [parsed(answer(client)) for client in clients]
        return counted() - before, [got["data"] for got in answers]

    with workload(stack, "async", FORKLOOP_ASYNC_DB_CONNECTIONS=2) as one:
        loop, = eventually(lambda: children(one.process.pid))
        assert at_once([f"time=50&rows=1&bytes=2&key=7&share={share}"] * 6) == (statements, [["7."]] * 6)
        assert at_once([f"rows=1&bytes=2&key={key}&share={share}" for key in range(4)]) == (4, [[f"{key}."] for key in range(4)])
        several = f"statements=2&together=1&rows=1&bytes=2&key=7&share={share}"
        assert at_once([several] * 6) == (2 * statements, [["7.", "8."]] * 6)


# --- what is none of the database's

@pytest.mark.parametrize("mode", MODES)
def test_processor_time_is_the_responder_s_own(stack, mode):
    with workload(stack, mode, **ONE_CONNECTION) as one:
        process, = children(one.process.pid)
        work(one)
        before = daemon.processor_time(process)
        assert work(one, "processor=100000&statements=0")[0] == 200
        assert daemon.processor_time(process) - before >= 100_000_000


def test_a_loop_answers_others_while_a_request_waits_and_lets_it_go_with_its_client(stack):
    def status():
        return parsed(one.ask("/status")[1])

    with workload(stack, "async", **ONE_CONNECTION) as one:
        assert work(one)[0] == 200
        with one.send("/work", query="wait=10000") as client:
            eventually(lambda: status()["requests_under_way"] == 2, 5, "it does not wait")
            statements = status()["database"]["statements"]
            assert work(one)[0] == 200
            assert not select.select([client], [], [], 0)[0], "it did not wait"
        eventually(lambda: status()["requests_under_way"] == 1, 5, "it waits for nobody")
        assert status()["database"]["statements"] == statements + 1, "a statement was executed for nobody"


def test_a_worker_that_waits_answers_nobody_else(stack):
    with workload(stack, "sync", **ONE_CONNECTION) as one, one.send("/work", query="wait=500") as first, one.send("/work") as second:
        assert b"200 OK" in answer(second)
        assert select.select([first], [], [], 0)[0], "the second was answered while the first waited"
        assert b"200 OK" in answer(first)


# --- what a loop holds for those who take nothing, or have gone

def heap(one):
    return parsed(one.ask("/status")[1])["memory"]["heap_bytes"]


def test_for_a_peer_that_takes_no_answers_no_more_are_made(stack):
    """Requests that are held back are begun when there is space for their answers, not when others have been answered."""
    with workload(stack, "async") as one, connect_to(one.path) as client:
        client.sendall(b"".join(renumbered(fastcgi("/async/work", query="rows=1&bytes=1048576"), number) for number in range(1, 201)))
        eventually(lambda: parsed(one.ask("/status")[1])["memory"]["backlogged_answers"] > 0)
        time.sleep(1)  # In which all would have been made.
        assert heap(one) < 100 << 20
        answered = 0
        client.settimeout(60)
        with client.makefile("rb") as answers:
            while answered < 200:
                header = answers.read(8)
                answers.read(int.from_bytes(header[4:6], "big") + header[6])
                answered += header[1] == 3


def renumbered(records, number):
    """Records with another request id."""
    out, at = bytearray(records), 0
    while at < len(out):
        out[at + 2:at + 4] = number.to_bytes(2, "big")
        at += 8 + int.from_bytes(out[at + 4:at + 6], "big") + out[at + 6]
    return bytes(out)


def test_nothing_is_kept_of_a_request_that_was_given_up_while_it_waited(stack):
    """But its timer."""
    whole = fastcgi("/async/work", query="statements=0&wait=10000", HTTP_X_FILL="y" * 60_000)
    with workload(stack, "async") as one, connect_to(one.path) as client, client.makefile("rb") as answers:
        before = heap(one)
        for _ in range(500):
            client.sendall(whole)
            while parsed(one.ask("/status")[1])["requests_under_way"] < 2:
                pass
            client.sendall(record(2))
            while (header := answers.read(8))[1] != 3:
                answers.read(int.from_bytes(header[4:6], "big") + header[6])
            answers.read(int.from_bytes(header[4:6], "big") + header[6])
        assert heap(one) - before < 8 << 20


def test_of_several_statements_all_are_taken_or_none(stack):
    with workload(stack, "async", FORKLOOP_ASYNC_DB_QUEUE=5) as one:
        assert one.ask("/work")[0] == 200
        before = parsed(one.ask("/status")[1])["database"]["statements"]
        assert one.ask("/work", "POST", query="statements=20&together=1")[0] == 503
        assert parsed(one.ask("/status")[1])["database"]["statements"] == before
        assert one.ask("/work", "POST", query="statements=5&together=1")[0] == 200


def test_a_loop_that_answers_one_after_another_for_long_does_not_stand_still(stack):
    """Of many that compute, all may be answered in one turn: that is slow, and no hang."""
    with workload(stack, "async", FORKLOOP_ASYNC_MAX_TURN=2000) as one:
        one.ask("/work")
        clients = [one.send("/work", query="processor=400000&statements=0") for _ in range(8)]
        assert [answer(client).split(b"\r\n")[0] for client in clients] == [b"Status: 200 OK"] * 8
        assert "killed" not in one.log.read_text()


@pytest.mark.parametrize("mode", MODES)
def test_a_drain_that_breaks_somebody_off_says_so_by_its_exit_code(stack, mode):
    with daemon.responder(stack, mode, waits=False, FORKLOOP_APPLICATION="workload", FORKLOOP_DRAIN_TIMEOUT=1) as server:
        eventually(lambda: listens(server.address))
        with server.connect() as client:
            client.sendall(fastcgi(f"/{mode}/work", query="wait=9000"))
            time.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(20) == 1
