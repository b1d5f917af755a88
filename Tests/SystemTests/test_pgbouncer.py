"""PgBouncer as its package installs it, in front of the database: it lets nothing be set at the start of a connection, and in
transaction mode each transaction may have another of the server's sessions."""

import concurrent.futures
import contextlib
import json
import subprocess

import pytest

from local_stack import MODES, PROGRAM, PSQL, clean_environment, eventually
from pooler import pooler, version
from responder import ONE_CONNECTION, responder
from test_preparations import ALTERED, Asking, changing, routes

POOLS = ("session", "transaction")


@pytest.fixture
def bare(stocked):
    """A role for which nothing is set."""
    stocked.psql("create role bare login in role forkloop", "postgres")
    yield "bare"
    stocked.psql("drop role bare", "postgres")


@contextlib.contextmanager
def database(stack, options=""):
    """One of its own, for as long as no more is wanted of it."""
    stack.psql(f"create database other owner forkloop {options}", "postgres")
    try:
        yield "other"
    finally:
        stack.psql("drop database other with (force)", "postgres")


def psql(where, sql, database="forkloop"):
    """What a client of the pooler's gets."""
    environment = clean_environment(PGHOST=where["DB_HOST"], PGPORT=where["DB_PORT"], PGUSER=where["DB_USER"], PGDATABASE=database)
    return subprocess.run([PSQL, "-XAtq", "-c", sql], capture_output=True, text=True, check=True, env=environment).stdout.split()


def check(mode, **environment):
    return run(mode, "--check", "--listen", "unix:/tmp/forkloop-check.sock", **environment).stdout


def run(*arguments, **environment):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, env=clean_environment(**{"DB_NAME": "forkloop", **environment}))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pool, prepared", [("session", "on"), ("transaction", "on"), ("transaction", "off")])
def test_every_route_is_answered_as_without_it(changing, mode, pool, prepared):
    with pooler(changing, pool) as where, responder(mode, FORKLOOP_PREPARED=prepared, **where) as one:
        asking = Asking(changing, one)
        wrong = [(route[:3], answered) for _ in range(2) for route in routes() if (answered := asking.ask(*route))[0] != route[-1]]
        assert wrong == [], (wrong, one.log.read_text())
        # What the responders need is set for the role.
        assert "pooler" not in one.log.read_text()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prepared", ["on", "off"])
def test_many_share_few_sessions_and_each_gets_its_own_answer(changing, mode, prepared):
    with pooler(changing, "transaction", default_pool_size=3) as where, responder(mode, FORKLOOP_PREPARED=prepared, **where) as one:
        def ask(client):
            answers = []
            for turn in range(12):
                name = f"{client} {turn}"
                answers.append((201, f'"name":"{name}"', one.ask("/tag", "POST", json.dumps({"name": name}).encode())))
                answers.append((200, '"name":"Ann"', one.ask("/contact/1")))
                answers.append((200, '"name":"Ink"', one.ask("/product/2")))
                answers.append((200, '"contact_id":2', one.ask("/order", query="contact_id=2")))
                answers.append((200, '"name":"Bob"', one.ask("/contact/2", "PATCH", b'{"name":"Bob"}')))
                answers.append((404, "", one.ask(f"/order/{client + 1000}")))
            return answers

        with concurrent.futures.ThreadPoolExecutor(12) as threads:
            wrong = [(status, text, whole) for answers in threads.map(ask, range(12)) for status, text, (got, whole) in answers
                     if got != status or text.encode() not in whole]
        assert wrong == [], (len(wrong), wrong[:3])
        assert changing.psql("select count(*), count(distinct name) from tag where name like '% %'") == [("144", "144")]
        # Where names get lost again and again they are given up, and whoever runs it is told how to spare the attempts.
        if prepared == "off" or version() >= (1, 21):
            assert "--prepared off" not in one.log.read_text()


@pytest.mark.parametrize("pool", POOLS)
def test_migrate_works_through_it_and_leaves_nothing_behind_in_its_sessions(stack, pool):
    with database(stack) as name, pooler(stack, pool, server_reset_query="", default_pool_size=1) as where:
        done = run("migrate", **{**where, "DB_NAME": name})
        assert done.returncode == 0 and "applied migration 1" in done.stdout, done
        assert "statement_timeout = 15000, plan_cache_mode = force_generic_plan, enable_seqscan = off, jit = off" in done.stdout, done
        assert run("migrate", **{**where, "DB_NAME": name}).stdout == "the schema is up to date\n"
        # The session is the one that has been migrated with, and began before anything was set for the role.
        told = psql(where, "select count(*) from pg_locks where locktype = 'advisory'; show statement_timeout; show enable_seqscan", name)
        assert told == ["0", "0", "on"]
        assert "pooler" in check("sync", **{**where, "DB_NAME": name}), "what the session lacks is not told"


@pytest.mark.parametrize("mode", MODES)
def test_what_the_role_has_not_set_is_told_in_one_line(stocked, bare, mode):
    lacking = "the role has not set enable_seqscan, jit, plan_cache_mode, statement_timeout: run 'forkloop migrate'"
    with pooler(stocked, "transaction", user=bare) as where:
        with responder(mode, **where) as one:
            assert one.ask("/contact/1")[0] == 200
            eventually(lambda: one.log.read_text().count(lacking) == 1, 5, f"it is not told once: {one.log.read_text()}")
        assert lacking in check(mode, **where)
        # As where it has thrown them away: some are told to.
        with pooler(stocked, "session", user=bare, ignore_startup_parameters="options") as other:
            assert lacking in check(mode, **other)
        # Without a pooler nothing is lacking.
        assert check(mode, DB_HOST=stocked.path("run"), DB_USER=bare) == "the configuration is good\n"


@pytest.mark.parametrize("mode", MODES)
def test_the_limit_that_the_role_has_holds(stocked, bare, mode):
    stocked.psql("alter role bare set statement_timeout = 300", "postgres")
    with pooler(stocked, "transaction", user=bare) as where, responder(mode, **where, **ONE_CONNECTION) as one:
        lock = stocked.psql_open("begin; select from contact where id = 1 for update")
        try:
            assert one.ask("/contact/1", "PATCH", b'{"name":"x"}')[0] == 504
        finally:
            lock.kill()
            lock.wait()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("prepared, role_has", [("on", "60s"), ("off", "0")])
def test_the_limit_that_is_set_holds_where_the_role_s_is_longer(stocked, bare, mode, pool, prepared, role_has):
    """No write is done that was answered as given up, and nothing is left behind in the pooler's sessions."""
    stocked.psql(f"alter role bare set statement_timeout = '{role_has}'", "postgres")
    limits = {"FORKLOOP_STATEMENT_TIMEOUT": 300, "FORKLOOP_PREPARED": prepared}
    with pooler(stocked, pool, user=bare, server_reset_query="", default_pool_size=1) as where:
        with responder(mode, **where, **limits, **ONE_CONNECTION) as one:
            for sql, request in [("select from contact where id = 1 for update", ("/contact/1", "PATCH", b'{"name":"late"}')),
                                 ("select from contact where id = 1 for update", ("/contact/1", "PATCH", b'{"name":"late"}')),
                                 ("lock table product", ("/product",)), ("lock table product", ("/product/1",))]:
                lock = stocked.psql_open(f"begin; {sql}")
                try:
                    status, whole = one.ask(*request)
                    assert status == 504 and b"may have been done" not in whole, (request, whole)
                finally:
                    lock.kill()
                    lock.wait()
            assert one.ask("/contact/1")[0] == 200 and one.ask("/contact/2", "PATCH", b'{"name":"b"}')[0] == 200
        assert stocked.psql("select name from contact order by id") == [("Ann",), ("b",)]
        assert psql(where, "show statement_timeout") == [{"60s": "1min"}.get(role_has, role_has)]


@pytest.mark.parametrize("mode", MODES)
def test_a_role_s_limit_that_is_shorter_than_the_setting_is_told(stocked, bare, mode):
    stocked.psql("alter role bare set statement_timeout = 300", "postgres")
    with pooler(stocked, "session", user=bare) as where:
        assert "statement_timeout is 300 ms" in check(mode, **where, FORKLOOP_STATEMENT_TIMEOUT=1000)
        assert "is 300 ms" not in check(mode, **where, FORKLOOP_STATEMENT_TIMEOUT=300)


@pytest.mark.parametrize("mode", MODES)
def test_names_that_other_clients_have_left_in_a_session_are_no_hindrance(changing, mode):
    """Without a reset between two clients, the second meets what the first has prepared."""
    with pooler(changing, "session", server_reset_query="", default_pool_size=4) as where:
        wrong = []
        for turn in range(3):
            with responder(mode, **where, FORKLOOP_SYNC_WORKERS=2, FORKLOOP_ASYNC_DB_CONNECTIONS=2) as one:
                asking = Asking(changing, one)
                asking.count += 100 * turn
                wrong += [(route[:3], answered) for route in routes() if (answered := asking.ask(*route))[0] != route[-1]]
        assert wrong == [], wrong


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pool", POOLS)
def test_nobody_notices_that_columns_are_altered(changing, mode, pool):
    """What the server has prepared is of no use then, and a pooler that tracks names keeps it all the same."""
    asked = [("/contact/1",), ("/contact",), ("/tag",), ("/order/1",), ("/contact/2", "PATCH", b'{"name":"b"}'), ("/health",)] * 3
    with pooler(changing, pool) as where, responder(mode, **where, **ONE_CONNECTION) as one:
        for turn in range(4):
            answered = [(request[0], status) for request in asked if (status := one.ask(*request)[0]) != 200]
            assert answered == [], (turn, answered, one.log.read_text())
            changing.psql(ALTERED.format(("varchar(255)", "text")[turn % 2]))
        assert "lost" not in one.log.read_text().replace("get lost", ""), one.log.read_text()


@pytest.mark.parametrize("mode", MODES)
def test_options_of_the_users_own_are_not_left_out_silently(stocked, mode):
    with pooler(stocked, "session") as where, responder(mode, **where, **ONE_CONNECTION, PGOPTIONS="-c work_mem=8MB") as one:
        assert one.ask("/contact/1")[0] == 503
        eventually(lambda: "unsupported startup parameter" in one.log.read_text())


@pytest.mark.parametrize("mode", MODES)
def test_a_write_that_the_pooler_has_not_begun_leaves_no_doubt(stocked, mode):
    with pooler(stocked, "transaction", default_pool_size=1, query_wait_timeout=1) as where, responder(mode, **where, **ONE_CONNECTION) as one:
        assert one.ask("/contact/1")[0] == 200
        environment = clean_environment(PGHOST=where["DB_HOST"], PGPORT=str(where["DB_PORT"]), PGUSER=where["DB_USER"], PGDATABASE="forkloop")
        with subprocess.Popen([PSQL, "-XAtq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as other:
            other.stdin.write("begin; select 1;\n")
            other.stdin.flush()
            assert other.stdout.readline() == "1\n"
            status, whole = one.ask("/contact/1", "PATCH", b'{"name":"late"}')
            assert status == 503 and b"Retry-After" in whole and b"writing" not in whole, whole
            other.stdin.close()
        eventually(lambda: one.ask("/contact/1")[0] == 200)
        assert stocked.psql("select name from contact where id = 1") == [("Ann",)]
