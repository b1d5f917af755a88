"""Whatever waits in the database, a read of something else does not wait for it, nor does the health."""

import concurrent.futures
import contextlib
import json
import pathlib
import subprocess
import time

import pytest

from fastcgi_client import answer
from local_stack import MODES, PROGRAM, children, clean_environment, eventually, locked, slow_row, temporary_folder
from proxy import in_front_of
from responder import ONE_CONNECTION, responder

LOCKED = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and application_name = 'forkloop async'"
SLEEPING = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and application_name = 'forkloop async'"
LIGHT = ("/contact/2", "/health", "/product/1", "/tag/1", "/contact", "/tag", "/order")
WRITES = [("/contact/1", "PATCH", b'{"name":"w"}')] * 12
# Of nothing that the light ones read: one of its rows is slow.
SLOW = [("/product",)] * 12


@contextlib.contextmanager
def loop(stack, connections, **settings):
    with responder("async", DB_HOST=stack.path("run"),
                   **{"FORKLOOP_STATEMENT_TIMEOUT": 9500, "FORKLOOP_ASYNC_DB_CONNECTIONS": connections, "FORKLOOP_ASYNC_SHARE_READS": 0, **settings}) as one:
        yield one


def try_out(one):
    """So that all is known to be fast."""
    for path in LIGHT:
        for _ in range(20):
            assert one.ask(path)[0] == 200
    for _ in range(20):
        assert one.ask("/contact/2", "PATCH", b'{"name":"x"}')[0] == 200


def database(one):
    return json.loads(one.ask("/status")[1].partition(b"\r\n\r\n")[2])["database"]


@contextlib.contextmanager
def waiting(stack, one, requests, count):
    """While `requests` wait in the database, `count` of them at work there and the rest before it."""
    with contextlib.ExitStack() as exits:
        # Once all have gone, nobody needs to wait for the end of what is at work.
        exits.callback(stack.psql, "select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'forkloop async' and wait_event = 'PgSleep'", "postgres")
        lock = stack.psql_open("begin; select from contact where id = 1 for update")
        exits.callback(lock.wait)
        exits.callback(lock.kill)
        at_work = lambda: sum(int(stack.psql(kind, "postgres")[0][0]) for kind in (LOCKED, SLEEPING))
        clients = []
        for request in requests:
            if len(clients) == len(WRITES) and request is SLOW[0] and requests[0] is WRITES[0]:
                eventually(lambda: at_work() >= count - 1, 5, "the writes are not at work")
            clients.append(exits.enter_context(send(one, *request)))
        eventually(lambda: at_work() == count, 5, f"{at_work()} and not {count} are at work in the database")
        yield clients


def send(one, path, method="GET", body=b"", query="", fields={}):
    client = one.send(path, method, body, query, **fields)
    client.settimeout(6)
    return client


def answers_reads(one, paths=LIGHT):
    """Whether each of them is answered, before anything that waits could have ended."""
    for path in paths:
        with send(one, path) as client:
            try:
                assert answer(client)[:11] == b"Status: 200", path
            except TimeoutError:
                raise AssertionError(f"{path} has waited for what waits in the database: {database(one)}") from None


@pytest.mark.parametrize("connections", [2, 3, 8])
@pytest.mark.parametrize("requests", [WRITES, SLOW, WRITES + SLOW], ids=["writes", "slow reads", "both"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "never run"])
def test_reads_are_answered_while_any_number_of_others_wait(stocked, connections, requests, known):
    with slow_row(stocked, "product", 2, 9), loop(stocked, connections) as one:
        if known:
            try_out(one)
        reserved = min(2, connections - 1)
        # Behind writes, a slow read is tried on the last reserved connection, until others need it.
        tried = requests[0] is not requests[-1]
        with waiting(stocked, one, requests, connections - reserved + tried):
            answers_reads(one)
            depths = [connection["depth"] for connection in database(one)["connections"]][:reserved]
            assert depths in ([0] * reserved, [0] * (reserved - 1) + [tried]), depths


def test_a_read_that_is_slow_at_its_first_run_holds_up_none_but_its_like(stocked):
    """All that is not reserved is taken: so it is tried where the fast ones go, alone."""
    with loop(stocked, 8) as one:
        assert one.ask("/contact/2")[0] == 200
        with waiting(stocked, one, WRITES, 6), locked(stocked, "tag"), contextlib.ExitStack() as exits:
            for path in ("/tag/1", "/tag/2", "/tag"):
                exits.enter_context(send(one, path))
            eventually(lambda: stocked.psql(LOCKED) == [("7",)], message="it was not tried")
            for _ in range(20):
                assert one.ask("/contact/2")[0] == 200
            # The two statements take turns.
            eventually(lambda: stocked.psql(LOCKED) == [("7",)] and database(one)["connections"][0]["depth"] == 0, message="it is not tried any more, or by more than one")


def test_reads_that_were_fast_until_now_hold_up_the_others_for_a_moment_at_most(stocked):
    """Their table is locked by somebody else. They come in one turn, so that nobody knows which of them is slow."""
    with loop(stocked, 8) as one:
        try_out(one)
        for _ in range(20):
            assert one.ask("/tag/1")[0] == 200
        with locked(stocked, "tag"), contextlib.ExitStack() as exits:
            clients = [exits.enter_context(send(one, path)) for path in ["/tag/1", "/contact/1", "/contact/2", "/product/1"] * 6]
            others = [client for number, client in enumerate(clients) if number % 4]
            for client in others:
                try:
                    assert answer(client)[:11] == b"Status: 200"
                except TimeoutError:
                    raise AssertionError(f"a read waits behind one of a table that is locked: {database(one)}") from None
            answers_reads_but_tags = [one.ask(path)[0] for path in LIGHT if "tag" not in path and "order" not in path]
            assert answers_reads_but_tags == [200] * 4


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_without_a_connection_leaves_the_queue_to_those_that_have_one(stocked, mode):
    """It could only refuse, and that very quickly."""
    stocked.psql("create role few login connection limit 2 in role forkloop")
    try:
        with responder(mode, DB_HOST=stocked.path("run"), DB_USER="few", FORKLOOP_ASYNC_DB_CONNECTIONS=3, FORKLOOP_SYNC_WORKERS=3) as one, \
                concurrent.futures.ThreadPoolExecutor(6) as threads:
            eventually(lambda: "too many connections" in one.log.read_text(), message="all have found a connection")
            connected = "select count(*) from pg_stat_activity where usename = 'few'"
            eventually(lambda: stocked.psql(connected) == [("2",)], message="the others did not connect")
            assert {status for status, _ in threads.map(one.ask, ["/contact/1"] * 500)} == {200}
    finally:
        stocked.psql("drop role few")


@pytest.mark.parametrize("mode", MODES)
def test_notifications_that_nobody_waits_for_are_let_go_of(stocked, mode):
    """A pooler's session, or a trigger, may have asked for them."""
    with in_front_of(stocked) as proxy, responder(mode, DB_HOST="127.0.0.1", DB_PORT=proxy.port, **ONE_CONNECTION) as one:
        assert one.ask("/contact/1")[0] == 200
        proxy.interject("listen c")
        process, = children(one.process.pid)
        resident = lambda: int(pathlib.Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096 >> 20
        before = resident()
        for _ in range(2):
            stocked.psql("select count(pg_notify('c', i || repeat('x', 7900))) from generate_series(1, 4000) i")
            assert one.ask("/contact/1")[0] == 200
        assert resident() - before < 20, f"{resident() - before} MiB more"


@pytest.mark.parametrize("connections", [2, 3, 8])
def test_reads_of_a_locked_table_leave_the_others_a_way(stocked, connections):
    """Several statements, all of them fast until now, on all connections."""
    tags = [("/tag", "GET", b"", f"limit={number}") for number in range(1, 13)] + [(f"/tag/{number}",) for number in range(1, 13)]
    with loop(stocked, connections) as one:
        try_out(one)
        for request in [("/tag", "GET", b"", "limit=1"), ("/tag/1",)] * 20:
            assert one.ask(*request)[0] == 200
        with locked(stocked, "tag"), contextlib.ExitStack() as exits:
            for request in tags:
                exits.enter_context(send(one, *request))
            eventually(lambda: int(stocked.psql(LOCKED)[0][0]) >= connections - 1, message="the reads are not at work")
            answers_reads(one, [path for path in LIGHT if "tag" not in path and "order" not in path])


def hold_up(stack, one, path, table, times):
    """Its table is locked for a moment, as often: so that it has taken long, as it does where the machine stands still."""
    for _ in range(times):
        with locked(stack, table):
            client = send(one, path)
            eventually(lambda: stack.psql(LOCKED) != [("0",)], message="it is not held up")
            time.sleep(0.03)
        with client:
            assert answer(client)[:11] == b"Status: 200"


@pytest.mark.parametrize("connections", [2, 3, 8])
def test_reads_that_were_held_up_before_do_not_wait_for_a_table_that_is_locked(stocked, connections):
    """They are taken for slow, and are not: they take turns with the others to be tried."""
    tags = [("/tag", "GET", b"", f"limit={number}") for number in range(1, 13)] + [(f"/tag/{number}",) for number in range(1, 13)]
    with loop(stocked, connections) as one:
        try_out(one)
        for path, table in (("/contact", "contact"), ("/product/1", "product")):
            hold_up(stocked, one, path, table, 3)
        with locked(stocked, "tag"), contextlib.ExitStack() as exits:
            for request in tags:
                exits.enter_context(send(one, *request))
            eventually(lambda: int(stocked.psql(LOCKED)[0][0]) >= connections - min(2, connections - 1), message="the reads are not at work")
            eventually(lambda: all(c["depth"] for c in database(one)["connections"][min(2, connections - 1):]), message="a connection is free")
            answers_reads(one, ["/contact", "/product/1"] * 6)


def test_one_hiccup_makes_no_read_slow(stocked):
    """It goes on where the fast ones go, while writes hold all the rest."""
    with loop(stocked, 2) as one:
        try_out(one)
        hold_up(stocked, one, "/product/1", "product", 1)
        with waiting(stocked, one, WRITES, 1), locked(stocked, "product"), send(one, "/product/1"):
            eventually(lambda: database(one)["connections"][0]["depth"] == 1 and database(one)["slow_queue"] == 0, 5, "it is taken for slow")


def test_slow_reads_that_are_given_up_for_others_are_answered_in_the_end(stocked):
    """Nothing but the trial is free for them, and others want it: so they get more time each time."""
    with slow_row(stocked, "product", 2, 0.7), loop(stocked, 3) as one:
        try_out(one)
        with waiting(stocked, one, WRITES, 1), contextlib.ExitStack() as exits:
            slow = [exits.enter_context(send(one, "/product")) for _ in range(2)]
            for _ in range(3):
                hold_up(stocked, one, "/tag/1", "tag", 2)
                answers_reads(one, ["/tag/1"])
            for client in slow:
                client.settimeout(9)
                assert answer(client)[:11] == b"Status: 200", database(one)


def test_where_the_reserved_connections_are_the_only_ones_writes_go_there(stocked):
    stocked.psql("create role few login connection limit 1 in role forkloop; grant all on all tables in schema public to few; grant usage on all sequences in schema public to few", "postgres")
    try:
        with loop(stocked, 8, DB_USER="few") as one:
            for _ in range(3):
                assert one.ask("/product", "POST", b'{"name":"x"}')[0] == 201
                assert one.ask("/contact/1")[0] == 200
            assert [c["state"] for c in database(one)["connections"]].count("ready") == 1
            stocked.psql("alter role few connection limit 2", "postgres")
            eventually(lambda: [c["state"] for c in database(one)["connections"]].count("ready") == 2)
            with waiting(stocked, one, WRITES, 1):
                answers_reads(one)
    finally:
        stocked.psql("drop owned by few; drop role few", "postgres")


@pytest.mark.long
def test_what_waits_for_a_connection_longer_than_a_statement_may_take_is_refused(stocked):
    """Writes of a row that is locked, each of which takes the whole time limit: what else is written can't be put behind all of them."""
    with loop(stocked, 2, FORKLOOP_STATEMENT_TIMEOUT=3000) as one:
        try_out(one)
        with waiting(stocked, one, WRITES, 1):
            # The first of them has ended: others may be put behind the rest, or not.
            eventually(lambda: database(one)["connections"][1]["depth"] < len(WRITES), 5, "none has ended")
            with send(one, "/contact/2", "PATCH", b'{"name":"y"}') as client:
                client.settimeout(25)
                whole = answer(client)
            assert whole[:11] == b"Status: 503" and b"Retry-After" in whole, whole
            assert stocked.psql("select name from contact where id = 2") == [("x",)]


def test_with_one_connection_everybody_waits(stocked):
    with loop(stocked, 1) as one, waiting(stocked, one, WRITES[:1], 1) as (client,):
        with send(one, "/contact/2") as other:
            eventually(lambda: database(one)["slow_queue"] == 1, message="it does not wait")
            stocked.psql(f"select pg_cancel_backend(pid) from pg_stat_activity where wait_event_type = 'Lock' and application_name = 'forkloop async'")
            assert answer(client)[:11] == b"Status: 503" and answer(other)[:11] == b"Status: 200"


@pytest.mark.parametrize("connections, lines", [(1, 2), (2, 1), (8, 1)])
def test_the_check_has_a_remark_on_one_connection(connections, lines):
    environment = clean_environment(FORKLOOP_ASYNC_DB_CONNECTIONS=connections, DB_NAME="x")
    with temporary_folder() as folder:
        done = subprocess.run([PROGRAM, "async", "--check", "--listen", f"unix:{folder}/s.sock"], env=environment, capture_output=True, text=True)
    told = done.stdout.splitlines()
    assert (done.returncode, len(told), told[-1]) == (0, lines, "the configuration is good"), done
    assert connections > 1 or "one database connection" in told[0]
