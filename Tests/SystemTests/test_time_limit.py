"""What the user says of statement_timeout in libpq's own settings is what counts."""

import concurrent.futures
import contextlib
import re

import pytest

from fastcgi_client import begin, connect_to, pairs, record, records, status_first, variables
from local_stack import MODES, eventually
from proxy import in_front_of
from responder import ONE_CONNECTION, responder

LOCKED = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and application_name like 'forkloop%'"


def said(stack):
    """The ways to say it: an environment for each."""
    url = f"postgresql://forkloop@/forkloop?host={stack.path('run')}&options=-c%20statement_timeout%3D"
    nothing = {"DB_NAME": None, "DB_USER": None}
    for limit in ("60s", "2min", "0"):
        yield {"DATABASE_URL": url + limit, **nothing}
    yield {"PGOPTIONS": "-c statement_timeout=60000", "DB_HOST": stack.path("run")}


@pytest.mark.parametrize("mode", MODES)
def test_a_longer_limit_of_the_users_is_waited_for(stocked, mode):
    """The settings' own is short, and the loop gives a connection up five seconds after it."""
    with contextlib.ExitStack() as exits, concurrent.futures.ThreadPoolExecutor(8) as threads:
        all = [exits.enter_context(responder(mode, FORKLOOP_STATEMENT_TIMEOUT=100, **ONE_CONNECTION, **way)) for way in said(stocked)]
        lock = stocked.psql_open("begin; select from contact where id = 1 for update")
        try:
            asked = [threads.submit(one.ask, "/contact/1", "PATCH", b'{"name":"x"}') for one in all]
            eventually(lambda: stocked.psql(LOCKED) == [(str(len(all)),)], message="they do not wait")
            # As long as it takes for the loop to look twice.
            stocked.psql("select pg_sleep(7.5)")
            assert stocked.psql(LOCKED) == [(str(len(all)),)], "they do not wait any more"
            assert not any(answer.done() for answer in asked)
        finally:
            lock.kill()
            lock.wait()
        assert [answer.result()[0] for answer in asked] == [200] * len(all)


@pytest.mark.parametrize("mode", MODES)
def test_a_shorter_limit_of_the_users_is_the_servers(stocked, mode):
    with responder(mode, PGOPTIONS="-c statement_timeout=200", DB_HOST=stocked.path("run"), **ONE_CONNECTION) as one:
        lock = stocked.psql_open("begin; select from contact where id = 1 for update")
        assert one.ask("/contact/1", "PATCH", b'{"name":"x"}')[0] == 504
        lock.kill()
        lock.wait()


@pytest.mark.parametrize("mode", MODES)
def test_a_write_that_is_given_up_is_not_said_to_be_undone(stocked, mode):
    """The database has committed it, and its answer is held up on the way."""
    limits = {"FORKLOOP_SYNC_REQUEST_TIMEOUT": 600, "FORKLOOP_STATEMENT_TIMEOUT": 500}
    with in_front_of(stocked) as proxy, responder(mode, DB_HOST="127.0.0.1", DB_PORT=proxy.port, **limits, **ONE_CONNECTION) as one:
        assert one.ask("/tag", "POST", b'{"name":"before"}')[0] == 201
        proxy.cut_after(1, "down", silent=True)
        status, whole = one.ask("/tag", "POST", b'{"name":"held"}')
        proxy.forget()
        assert stocked.psql("select count(*) from tag where name = 'held'") == [("1",)]
        assert status == {"sync": 504, "async": 503}[mode]
        assert b"before trying again" in whole and b"Retry-After" not in whole, whole
        proxy.drop_all()


def test_a_read_that_is_given_up_leaves_no_doubt(stocked):
    limits = {"FORKLOOP_SYNC_REQUEST_TIMEOUT": 600, "FORKLOOP_STATEMENT_TIMEOUT": 500}
    with in_front_of(stocked) as proxy, responder("sync", DB_HOST="127.0.0.1", DB_PORT=proxy.port, **limits, **ONE_CONNECTION) as one:
        assert one.ask("/tag/1")[0] == 200
        proxy.cut_after(1, "down", silent=True)
        status, whole = one.ask("/tag/1")
        proxy.forget()
        assert status == 504 and b"before trying again" not in whole, whole


# What is asked for, FastCGI's id and the client's, and whether the body comes.
GIVEN_UP = [("GET", 1, "mine", True), ("GET", 7, "x" * 128, True), ("HEAD", 65_535, "a", True), ("GET", 256, None, True), ("POST", 9, "mine", False), ("HEAD", 3, "mine", False)]


def test_a_request_that_is_given_up_is_answered_as_any_other(stocked):
    settings = {"PGOPTIONS": "-c statement_timeout=60s", "DB_HOST": stocked.path("run"), **ONE_CONNECTION}
    with responder("sync", "--request-timeout", "100", **settings) as one:
        lock = stocked.psql_open("begin; lock table tag")
        try:
            for method, number, name, body_comes in GIVEN_UP:
                fields = variables("/sync/tag/1" if method == "DELETE" else "/sync/tag", method) | ({"HTTP_X_REQUEST_ID": name} if name else {})
                with connect_to(one.path) as client:
                    client.sendall(begin(number) + record(4, pairs(fields), number) + record(4, b"", number) + (record(5, b"", number) if body_comes else record(5, b"x", number)))
                    said = list(records(client))
                what = (method, number, name, body_comes, said)
                assert [(kind, of) for kind, of, _ in said] == [(6, number), (3, number)] and said[1][2] == bytes(8), what
                head, _, body = status_first(said[0][2]).decode().partition("\r\n\r\n")
                fields = dict(line.split(": ", 1) for line in head.split("\r\n"))
                assert fields["Status"].startswith("504 ") and fields["Content-Type"] == "application/problem+json", what
                assert fields["X-Request-Id"] == name if name else re.fullmatch("[0-9a-f]{32}", fields["X-Request-Id"]), what
                times = re.fullmatch(r"db;dur=(\d+\.\d{3}), app;dur=(\d+\.\d{3})", fields["Server-Timing"])
                assert float(times[1]) + float(times[2]) >= 100 and (float(times[1]) > 0) == body_comes, what
                assert len(body) == (0 if method == "HEAD" else int(fields["Content-Length"])) and int(fields["Content-Length"]) > 100, what
                assert "before trying again" not in body, what
        finally:
            lock.kill()
            lock.wait()
@pytest.mark.parametrize("options", ["-c statement_timeout=60000", "-c statement_timeout=0"])
def test_no_request_is_given_up_whose_write_may_still_be_done(stocked, options):
    """A write ends before its request, whatever the user says."""
    with responder("sync", PGOPTIONS=options, DB_HOST=stocked.path("run"), FORKLOOP_SYNC_REQUEST_TIMEOUT=1000, **ONE_CONNECTION) as one:
        lock = stocked.psql_open("begin; select from contact where id = 1 for update")
        try:
            status, whole = one.ask("/contact/1", "PATCH", b'{"name":"late"}')
            assert status == 504 and b"may have been done" not in whole, whole
            assert stocked.psql(LOCKED) == [("0",)], "it still waits for the row"
        finally:
            lock.kill()
            lock.wait()
        assert "killed" not in one.log.read_text()
        assert stocked.psql("select name from contact where id = 1") == [("Ann",)]
