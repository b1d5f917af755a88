"""The ways in which a database can be, or become, other than it should: what each kind of route answers while it lasts, and
afterwards. Both servers answer the same, but where EXCEPTIONS says why not."""

import contextlib
import itertools
import pathlib
import re
import signal
import socket
import subprocess

import pytest

import daemon
from local_stack import MODES, PROGRAM, clean_environment, eventually, temporary_folder
from pooler import pooler
from proxy import in_front_of
from responder import ONE_CONNECTION, responder
from test_hosts import refusing, silent

# What is asked for: method, path, body, fields. "live" and "health" say of the process and the database; a "read" is of one row, a
# "list" of one table's, an "order" of several; "keyed" is a write that may be sent again.
ROUTES = {
    "live": ("/live",), "health": ("/health",), "read": ("/contact/1",), "list": ("/contact",), "orders": ("/order",),
    "write": ("/contact", "POST", b'{"name":"a","email":"a@b"}'), "keyed": ("/contact", "POST", b'{"name":"k","email":"a@b"}'),
}
WELL = {"live": 200, "health": 200, "read": 200, "list": 200, "orders": 200, "write": 201, "keyed": 201}
AWAY = {**dict.fromkeys(WELL, 503), "live": 200}
UNWELL = {**WELL, "health": 503}
READ_ONLY = {**WELL, "write": 503, "keyed": 503}

NAME = "ways"
END = f"select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '{NAME}' and application_name like 'forkloop%'"
numbers = itertools.count()


class Database:
    """One of its own, with a contact in it."""

    def __init__(self, stack):
        self.stack = stack
        self.make()

    def make(self, options="", migrates=True):
        self.drop()
        self.stack.psql(f"create database {NAME} owner forkloop {options}", "postgres")
        if migrates:
            self.migrate()

    def drop(self):
        self.stack.psql(f"drop database if exists {NAME} with (force)", "postgres")

    def migrate(self):
        done = self.run("migrate")
        assert done.returncode == 0, done
        self.psql("insert into contact (name, email) values ('Ann', 'ann@example.org')")

    @property
    def where(self):
        return {"DB_HOST": self.stack.path("run"), "DB_NAME": NAME, "DB_USER": "forkloop"}

    def run(self, *arguments, **more):
        return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, env=clean_environment(**{**self.where, **more}))

    def psql(self, sql, user="forkloop"):
        environment = clean_environment(PGHOST=self.stack.path("run"), PGUSER=user, PGDATABASE=NAME)
        done = subprocess.run(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def end(self, which=""):
        """Ends the responders' connections, and waits for their ends."""
        before = self.psql(f"select array_agg(pid) from pg_stat_activity where datname = '{NAME}' and application_name like 'forkloop%'", "postgres")
        self.psql(f"{END} {which}", "postgres")
        there = f"select count(*) from pg_stat_activity where pid = any ('{before or '{}'}')"
        if not which:
            eventually(lambda: self.psql(there, "postgres") == "0", 5, "their connections do not end")


@pytest.fixture
def database(stack):
    one = Database(stack)
    try:
        yield one
    finally:
        one.drop()


def served(database, mode, **more):
    return responder(mode, **{**database.where, "FORKLOOP_SYNC_WORKERS": 2, "FORKLOOP_ASYNC_DB_CONNECTIONS": 2, **more})


# The ways. Each yields the responder while it lasts, and again afterwards.


def no_schema(database, mode):
    database.make(migrates=False)
    with served(database, mode) as one:
        yield one
        database.migrate()
        yield one


def older_schema(database, mode):
    """A route whose part of the schema is there works all the same."""
    database.psql("delete from schema_migration where number > 1; drop table idempotency_key cascade")
    with served(database, mode) as one:
        yield one
        database.psql("drop schema public cascade; create schema public")
        database.migrate()
        yield one


def newer_schema(database, mode):
    with served(database, mode) as one:
        database.psql("insert into schema_migration (number, name) values (999, 'future')")
        yield one
        database.psql("delete from schema_migration where number = 999")
        yield one


def encoding(name):
    def way(database, mode):
        """It is made anew while it is in use: nobody starts on such a one."""
        with served(database, mode) as one:
            database.make(f"encoding '{name}' locale 'C' template template0", migrates=False)
            yield one
            database.make()
            yield one

    way.__name__ = name
    return way


def read_only(database, mode):
    with served(database, mode) as one:
        database.stack.psql(f"alter database {NAME} set default_transaction_read_only = on", "postgres")
        database.end()
        yield one
        database.stack.psql(f"alter database {NAME} reset default_transaction_read_only", "postgres")
        database.end()
        yield one


def out_of_connections(database, mode):
    with served(database, mode) as one:
        database.stack.psql(f"alter database {NAME} connection limit 0", "postgres")
        database.end()
        yield one
        database.stack.psql(f"alter database {NAME} connection limit -1", "postgres")
        yield one


def all_ended(database, mode):
    with served(database, mode) as one:
        assert one.ask("/contact/1")[0] == 200
        for _ in range(2):
            database.end()
            yield one


def one_ended(database, mode):
    with served(database, mode) as one:
        assert one.ask("/contact/1")[0] == 200
        for _ in range(2):
            database.end("and pid = (select min(pid) from pg_stat_activity where application_name like 'forkloop%')")
            yield one


def restart(database, mode):
    with in_front_of(database.stack) as proxy, served(database, mode, DB_HOST="127.0.0.1", DB_PORT=proxy.port) as one:
        assert one.ask("/contact/1")[0] == 200
        proxy.refuses = True
        proxy.drop_all()
        yield one
        proxy.refuses = False
        yield one


def slow_to_accept(database, mode):
    with in_front_of(database.stack) as proxy:
        proxy.sleep = 1
        with served(database, mode, DB_HOST="127.0.0.1", DB_PORT=proxy.port) as one:
            yield one
            yield one


def silent_host_first(database, mode):
    with silent() as (host, port), in_front_of(database.stack) as good:
        with served(database, mode, DB_HOST=f"{host},127.0.0.1", DB_PORT=f"{port},{good.port}", PGCONNECT_TIMEOUT=1) as one:
            yield one
            yield one


def altered_column(database, mode):
    with served(database, mode) as one:
        for _ in range(2):
            assert one.ask("/contact/1")[0] == one.ask("/contact")[0] == 200
            database.psql(f"alter table contact alter name type varchar({next(numbers) + 300}), alter email type varchar({next(numbers) + 400})")
            yield one


def discard_all(database, mode):
    with in_front_of(database.stack) as proxy, served(database, mode, DB_HOST="127.0.0.1", DB_PORT=proxy.port, **ONE_CONNECTION) as one:
        for _ in range(2):
            assert one.ask("/contact/1")[0] == one.ask("/contact")[0] == 200
            proxy.interject("discard all")
            yield one


def limit_in_options(database, mode):
    with served(database, mode, PGOPTIONS="-c statement_timeout=60000") as one:
        yield one
        yield one


def sequence_behind(database, mode):
    """As after an import. What there is no number for is nobody's fault but ours."""
    with served(database, mode) as one:
        database.psql("insert into contact (id, name, email) select i, 'x', 'x@y' from generate_series(2, 5) i")
        yield one
        database.psql("select setval('contact_id_seq', (select max(id) from contact))")
        yield one


def not_a_number(database, mode):
    """A price that was there before there was a check."""
    with served(database, mode) as one:
        database.psql("alter table order_line drop constraint if exists order_line_price_finite; insert into product (name) values ('p');"
                      "insert into \"order\" (name, contact_id) values ('o', 1); insert into order_line (order_id, product_id, quantity, price) values (1, 1, 1, 'NaN')")
        yield one
        database.psql("delete from order_line")
        yield one


def behind_pgbouncer(pool):
    def way(database, mode):
        with pooler(database.stack, pool) as where, served(database, mode, **where) as one:
            yield one
            # All of its sessions end: it ends its clients' with them.
            database.end()
            yield one

    way.__name__ = f"pgbouncer_{pool}"
    return way


def long(*way):
    """What is tried at length elsewhere."""
    return pytest.param(*way, marks=pytest.mark.long)


WAYS = [
    # the way, what is answered while it lasts, and what the schema is in health then
    (no_schema, AWAY, "missing"), (older_schema, {**UNWELL, "keyed": 503}, "missing"), (newer_schema, UNWELL, "newer"),
    (encoding("LATIN1"), AWAY, "unknown"), (encoding("SQL_ASCII"), AWAY, "unknown"),
    (read_only, READ_ONLY, "ok"), (out_of_connections, AWAY, "unknown"), (all_ended, WELL, "ok"), (one_ended, WELL, "ok"), (restart, AWAY, "unknown"),
    long(slow_to_accept, WELL, "ok"), long(silent_host_first, WELL, "ok"), long(altered_column, WELL, "ok"), long(discard_all, WELL, "ok"),
    long(limit_in_options, WELL, "ok"), (behind_pgbouncer("session"), WELL, "ok"), (behind_pgbouncer("transaction"), WELL, "ok"),
    (sequence_behind, {**WELL, "write": 500, "keyed": 500}, "ok"), (not_a_number, {**WELL, "orders": 500}, "ok"),
]

# (way, server): what is answered otherwise there, and why.
EXCEPTIONS = {}

# What is tried further of a way, and where.
ELSEWHERE = {
    "no_schema": ["test_sqlstates.py::test_a_sqlstate_becomes_its_status_and_tells_nothing_of_the_database", "test_openapi.py::test_every_described_status_can_be_had"],
    "out_of_connections": ["test_database.py::test_it_makes_do_with_the_connections_that_it_gets"],
    "all_ended": ["test_reconnect.py::test_reads_do_not_notice_that_all_connections_are_ended"],
    "restart": ["test_faults.py::test_postgres_stopped_and_started_is_a_503_and_then_all_is_well_again", "test_database.py::test_it_connects_again_wherever_connecting_breaks"],
    "slow_to_accept": ["test_hosts.py::test_a_server_that_takes_its_time_to_wake_up_is_waited_for"],
    "silent_host_first": ["test_hosts.py::test_a_host_that_is_of_no_use_is_passed_over"],
    "altered_column": ["test_preparations.py::test_every_route_outlives_the_loss_of_its_preparation"],
    "discard_all": ["test_preparations.py::test_what_stands_in_the_pipeline_behind_a_lost_preparation_is_answered_too"],
    "limit_in_options": ["test_time_limit.py::test_a_longer_limit_of_the_users_is_waited_for", "test_time_limit.py::test_a_shorter_limit_of_the_users_is_the_servers"],
    "pgbouncer_session": ["test_pgbouncer.py::test_every_route_is_answered_as_without_it"],
    "pgbouncer_transaction": ["test_pgbouncer.py::test_many_share_few_sessions_and_each_gets_its_own_answer"],
}


def statuses(one):
    fields = {"keyed": {"HTTP_IDEMPOTENCY_KEY": f"way-{next(numbers)}"}}
    return {name: one.ask(*route, **fields.get(name, {}))[0] for name, route in ROUTES.items()}


def parameters(way):
    return way.values if hasattr(way, "values") else way


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way, during, schema", WAYS, ids=[parameters(way)[0].__name__ for way in WAYS])
def test_a_way_of_the_database_has_its_statuses_while_it_lasts_and_none_afterwards(database, mode, way, during, schema):
    expected = {**during, **EXCEPTIONS.get((way.__name__, mode), {})}
    phases = way(database, mode)
    with contextlib.closing(phases):
        one = next(phases)
        assert statuses(one) == expected, f"while it lasts; {one.log.read_text()}"
        assert f'"schema":"{schema}"'.encode() in (health := one.ask("/health")[1]), f"{health}; {one.log.read_text()}"
        assert next(phases) is one
        seen = []
        eventually(lambda: seen.append(statuses(one)) or seen[-1] == WELL, message=f"it is not well again: {seen[-1:]}, {one.log.read_text()}")
        assert next(phases, None) is None


def test_what_the_table_says_is_tried_elsewhere_is_there():
    for way, tests in ELSEWHERE.items():
        assert way in {parameters(one)[0].__name__ for one in WAYS}
        for test in tests:
            file, name = test.split("::")
            assert re.search(rf"^def {name}\(", pathlib.Path(__file__).with_name(file).read_text(), re.M), test
    assert {mode for _, mode in EXCEPTIONS} <= set(MODES)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["LATIN1", "SQL_ASCII"])
def test_a_database_of_another_encoding_is_refused_in_one_line(database, mode, name):
    database.make(f"encoding '{name}' locale 'C' template template0", migrates=False)
    with temporary_folder() as folder:
        for arguments in (["migrate"], [mode, "--check", "--listen", f"unix:{folder}/s"], [mode, "--listen", f"unix:{folder}/s"]):
            done = database.run(*arguments)
            assert done.returncode == 1 and done.stderr.count("\n") == 1 and f"encoding is {name}" in done.stderr, done


REFUSALS = {
    # what is set, and what is told
    "no such database": ({"DB_NAME": "nowhere"}, 'database "nowhere" does not exist'),
    "no such role": ({"DB_USER": "nobody_at_all"}, "nobody_at_all"),
    "no such setting": ({"PGOPTIONS": "-c nonsense=1"}, "nonsense"),
    "no option": ({"PGOPTIONS": "bogus"}, "bogus"),
    "a setting's value": ({"PGOPTIONS": "-c work_mem=lots"}, "work_mem"),
    "a standby is wanted": ({"PGTARGETSESSIONATTRS": "standby"}, "not in hot standby mode"),
    "a password is wanted": ({"DB_USER": "locked_out"}, "password"),
    "a wrong password": ({"DB_USER": "locked_out", "DB_PASSWORD": "wrong"}, "password authentication failed"),
    "nobody may connect": ({"DB_USER": "shut_out"}, "permission denied for database"),
    "a role that may not log in": ({"DB_USER": "no_login"}, "not permitted to log in"),
    "TLS is wanted": ({"PGSSLMODE": "require", "DB_HOST": "127.0.0.1"}, "does not support SSL"),
}


@pytest.fixture
def strangers(database):
    """Roles that are not let in."""
    where = database.stack.path("postgres/pg_hba.conf")
    before = pathlib.Path(where).read_text()
    database.stack.psql(f"create role locked_out login password 'right'; create role no_login nologin; create role shut_out login;"
                        f"revoke connect on database {NAME} from public", "postgres")
    pathlib.Path(where).write_text(f"local all locked_out scram-sha-256\nlocal all no_login,shut_out trust\n{before}")
    database.stack.psql("select pg_reload_conf()", "postgres")
    try:
        with in_front_of(database.stack) as proxy:
            yield proxy
    finally:
        pathlib.Path(where).write_text(before)
        database.stack.psql("select pg_reload_conf(); drop role locked_out, no_login, shut_out", "postgres")


@pytest.mark.parametrize("mode", MODES)
def test_a_check_refuses_settings_that_the_database_refuses_in_one_line_that_says_why(database, strangers, mode):
    with temporary_folder() as folder:
        for name, (settings, told) in REFUSALS.items():
            if "DB_HOST" in settings:
                settings = {**settings, "DB_PORT": strangers.port}
            done = database.run(mode, "--check", "--listen", f"unix:{folder}/s", **settings)
            assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1 and told in done.stderr, (name, done)


PASSING = {
    # What may pass by itself is no fault of the settings.
    "nobody is there": {"DB_HOST": "/nowhere"},
    "one of the hosts is away": {"DB_HOST": "/nowhere,{run}", "DB_NAME": "nowhere"},
    "a place for a primary that is away": {"DB_HOST": "{run},/nowhere", "PGTARGETSESSIONATTRS": "standby"},
    "no connection is left": {"DB_NAME": "taken_up"},
}


@pytest.mark.parametrize("mode", MODES)
def test_a_check_says_nothing_of_a_no_that_may_pass_by_itself(database, mode):
    database.stack.psql("create database taken_up connection limit 0", "postgres")
    try:
        with temporary_folder() as folder:
            for name, settings in PASSING.items():
                settings = {key: value.format(run=database.stack.path("run")) for key, value in settings.items()}
                done = database.run(mode, "--check", "--listen", f"unix:{folder}/s", **settings)
                assert (done.returncode, done.stdout, done.stderr) == (0, "the configuration is good\n", ""), (name, done)
    finally:
        database.stack.psql("drop database taken_up", "postgres")


@pytest.mark.parametrize("mode", MODES)
def test_a_start_tells_of_the_refusal_and_serves_as_soon_as_the_database_is_made(database, mode):
    database.drop()
    with served(database, mode) as one:
        eventually(lambda: one.log.read_text().count("the database refuses these settings") == 1, 5, f"it is not told once: {one.log.read_text()}")
        assert one.ask("/contact")[0] == 503
        database.make()
        eventually(lambda: one.ask("/contact")[0] == 200, 5, f"it does not find it: {one.log.read_text()}")


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_reloaded_into_settings_that_the_database_refuses(database, mode):
    with daemon.responder(database.stack, mode, DB_NAME=NAME) as one:
        one.set(DB_NAME="nowhere")
        one.write()
        one.process.send_signal(signal.SIGHUP)
        one.says("not reloaded")
        one.says('database "nowhere" does not exist')
        assert b" 200 " in one.ask("contact/1")[:20]


STATES = {
    "missing": ("drop schema public cascade; create schema public", "has no schema: run 'forkloop migrate'"),
    "older": ("delete from schema_migration where number > 1", "older than this program: run 'forkloop migrate'"),
    "newer": ("insert into schema_migration (number, name) values (999, 'future')", "newer than this program"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("state", STATES)
def test_a_start_and_a_check_tell_of_a_schema_that_does_not_fit(database, mode, state):
    sql, told = STATES[state]
    database.psql(sql)
    with temporary_folder() as folder:
        done = database.run(mode, "--check", "--listen", f"unix:{folder}/s")
        assert (done.returncode, done.stderr) == (0, "") and told in done.stdout, done
    with served(database, mode) as one:
        eventually(lambda: one.log.read_text().count(told) == 1, 5, f"it is not told once: {one.log.read_text()}")
        assert f'"schema":"{state}"'.encode() in one.ask("/health")[1]


EVERYBODY = "select on schema_migration to somebody; grant select, insert, update, delete on contact, product, tag, \"order\", order_line, order_tag_rel, idempotency_key to somebody"
LACKS = {
    # what somebody does to the database, what health says of the schema then, and what a check names
    "a table's rights": ("revoke all on tag from somebody", "unknown", "select on tag"),
    "one right": ("revoke delete on order_line from somebody", "unknown", "delete on order_line"),
    "a column's right": ("revoke insert on contact from somebody; grant insert (name) on contact to somebody", "unknown", "insert on contact"),
    "all rights but one": ("revoke all on all tables in schema public from somebody; grant select on schema_migration to somebody", "unknown", "select on contact"),
    "that of the keys": ("revoke update on idempotency_key from somebody", "unknown", "update on idempotency_key"),
    "a function's right": ("revoke execute on function order_ids from public", "unknown", "execute on order_ids"),
    "all functions' rights": ("revoke execute on all functions in schema public from public", "unknown", "execute on contact_insert"),
    "the schema's": ("revoke usage on schema public from public, somebody", "missing", "may not use the schema public"),
    "a view": ("alter table contact rename to people; create view contact as select * from people; grant all on contact to somebody", "missing", "contact.xmin"),
    "a column": ("alter table order_line rename price to cost", "missing", "order_line.price"),
    "a dropped column": ("alter table idempotency_key drop reply", "missing", "idempotency_key.reply"),
    "a function": ("drop function tag_insert", "missing", "tag_insert(text)"),
    "a function's arguments": ("alter function order_lock rename to order_lock_2; create function order_lock(bigint) returns boolean language sql as 'select true'", "missing", "order_lock(bigint,text[])"),
    "a key": ("alter table idempotency_key drop constraint idempotency_key_pkey", "missing", "primary key of idempotency_key"),
    "half a key": ("alter table idempotency_key drop constraint idempotency_key_pkey; create unique index on idempotency_key (key) where mode = 'sync'", "missing", "primary key of idempotency_key"),
    "a table": ("drop table order_tag_rel cascade", "missing", "order_tag_rel"),
}
HARMLESS = [
    "alter table contact alter name type varchar(300)", "alter table tag add more text", "alter table order_line alter quantity type numeric",
    "revoke insert, update on contact from somebody; grant insert (name, email), update (name, email) on contact to somebody",
    "alter table idempotency_key drop constraint idempotency_key_pkey; create unique index on idempotency_key (key)",
    "drop function order_version", "alter table contact set (autovacuum_enabled = off)",
]


@pytest.fixture
def somebody(database):
    database.stack.psql("create role somebody login; ", "postgres")
    hba = pathlib.Path(database.stack.path("postgres/pg_hba.conf"))
    before = hba.read_text()
    hba.write_text(f"local all somebody trust\n{before}")
    database.stack.psql("select pg_reload_conf()", "postgres")
    try:
        yield "somebody"
    finally:
        database.drop()
        hba.write_text(before)
        database.stack.psql("select pg_reload_conf(); drop role somebody", "postgres")


def granted(database):
    database.psql("drop schema if exists public cascade; create schema public", "postgres")
    database.psql("grant all on schema public to public", "postgres")
    database.migrate()
    database.psql(f"grant {EVERYBODY}", "postgres")


@pytest.mark.parametrize("mode", MODES)
def test_health_is_no_better_than_the_routes(database, somebody, mode):
    granted(database)
    with served(database, mode, DB_USER=somebody, **ONE_CONNECTION) as one:
        assert one.is_well(), one.log.read_text()
        # Each is tried with one of both: they ask the same.
        turn = MODES.index(mode)
        for name, (sql, schema, told) in list(LACKS.items())[turn::2]:
            granted(database)
            assert one.is_well(), (name, one.log.read_text())
            database.psql(sql, "postgres")
            status, whole = one.ask("/health")
            assert status == 503 and f'"database":"ok","schema":"{schema}"'.encode() in whole, (name, whole)
            assert schema == "missing" or told in one.log.read_text(), (name, one.log.read_text())
            done = database.run(mode, "--check", "--listen", f"unix:{one.path}.check", DB_USER=somebody)
            assert done.returncode == 0 and done.stdout.count("\n") == 2 and told in done.stdout, (name, done)
        for sql in HARMLESS[turn::2]:
            granted(database)
            database.psql(sql, "postgres")
            assert one.is_well(), (sql, one.log.read_text())


def test_health_asks_for_every_function_that_there_is(database):
    """But for one that nothing calls any more."""
    for function in database.psql("select oid::regprocedure from pg_proc where pronamespace = 'public'::regnamespace and proname <> 'order_version'").split("\n"):
        kind = "aggregate" if function.startswith("all_versions") else "function"
        database.psql(f"alter {kind} {function} rename to away")
        assert function in database.run("sync", "--check", "--listen", "unix:/tmp/forkloop-never.sock").stdout, function
        database.psql(f"alter {kind} {function.replace(function.split('(')[0], 'away', 1)} rename to {function.split('(')[0]}")


@pytest.mark.parametrize("mode", MODES)
def test_health_waits_for_no_lock_and_tells_of_a_table_that_is_not_there(database, mode):
    with served(database, mode) as one:
        database.psql("alter table order_tag_rel rename to away")
        assert one.ask("/health")[0] == 503
        database.psql("alter table away rename to order_tag_rel")
        assert one.ask("/health")[0] == 200


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("database_is", [refusing, pytest.param(silent, marks=pytest.mark.long)])
def test_whether_a_process_answers_is_no_question_to_the_database(mode, database_is):
    with database_is() as (host, port), responder(mode, DB_HOST=host, DB_PORT=port, PGCONNECT_TIMEOUT=1, FORKLOOP_SYNC_WORKERS=1) as one:
        for method, status in (("GET", 200), ("HEAD", 200), ("OPTIONS", 204), ("POST", 405)):
            assert one.ask("/live", method)[0] == status
        assert one.ask("/live", query="x=1")[0] == 422
        assert f'{{"mode":"{mode}","status":"ok","version":"'.encode() in one.ask("/live")[1]
