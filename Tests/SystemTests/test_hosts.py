"""Several hosts mean what they mean to libpq, on both sides: each in its turn, and each within the time that the user allows."""

import contextlib
import socket
import threading

import subprocess

import pytest

from local_stack import MODES, PROGRAM, clean_environment, eventually, free_port
from proxy import in_front_of
from responder import ONE_CONNECTION, responder

LIMIT = {"PGCONNECT_TIMEOUT": 1}  # libpq makes 2 of it.


@contextlib.contextmanager
def refusing():
    yield "127.0.0.1", free_port()


@contextlib.contextmanager
def silent():
    """Accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield listener.getsockname()


@contextlib.contextmanager
def unreachable():
    """Answers no SYN: its queue is full."""
    with contextlib.ExitStack() as exits:
        listener = exits.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            client = exits.enter_context(socket.socket())
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(listener.getsockname())
        yield listener.getsockname()


@contextlib.contextmanager
def closing():
    """Accepts and closes at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def close_all():
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()

        thread = threading.Thread(target=close_all)
        thread.start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextlib.contextmanager
def nameless():
    """A name that has no address."""
    yield "nowhere.invalid", 5432


BAD = [refusing, silent, unreachable, nameless]


def places(*all):
    return {"DB_HOST": ",".join(host for host, _ in all), "DB_PORT": ",".join(str(port) for _, port in all)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bad", BAD, ids=[bad.__name__ for bad in BAD])
@pytest.mark.parametrize("bad_is", ["first", "second"])
def test_a_host_that_is_of_no_use_is_passed_over(stocked, mode, bad, bad_is):
    with bad() as other, in_front_of(stocked) as good:
        both = (other, ("127.0.0.1", good.port))
        with responder(mode, **places(*(both if bad_is == "first" else both[::-1])), **ONE_CONNECTION, **LIMIT) as one:
            eventually(lambda: one.ask("/contact/1")[0] == 200, message=f"it did not come to the good host: {one.log.read_text()}")
            # And again, when that connection has gone.
            good.drop_all()
            eventually(lambda: one.ask("/contact/2")[0] == 200, message=f"it did not come back: {one.log.read_text()}")


@pytest.mark.parametrize("mode", MODES)
def test_a_host_that_accepts_and_closes_ends_the_search_as_libpq_has_it(stocked, mode):
    with closing() as other, in_front_of(stocked) as good:
        both = (other, ("127.0.0.1", good.port))
        with responder(mode, **places(*both), **ONE_CONNECTION, **LIMIT) as one:
            assert one.ask("/contact/1")[0] == 503
        with responder(mode, **places(*both[::-1]), **ONE_CONNECTION, **LIMIT) as one:
            assert one.ask("/contact/1")[0] == 200


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wanted", ["any", "read-write", "primary", "prefer-standby"])
def test_the_kind_of_server_is_looked_for_behind_a_silent_host(stocked, mode, wanted):
    with silent() as other, in_front_of(stocked) as good:
        with responder(mode, **places(other, ("127.0.0.1", good.port)), **ONE_CONNECTION, **LIMIT, PGTARGETSESSIONATTRS=wanted) as one:
            eventually(lambda: one.ask("/contact/1")[0] == 200, message=f"it did not come to the good host: {one.log.read_text()}")


@pytest.mark.parametrize("mode", MODES)
def test_a_wrong_kind_of_server_is_none_behind_a_silent_host(stocked, mode):
    with silent() as other, in_front_of(stocked) as good:
        with responder(mode, **places(other, ("127.0.0.1", good.port)), **ONE_CONNECTION, **LIMIT, PGTARGETSESSIONATTRS="standby") as one:
            assert one.ask("/contact/1")[0] == 503
            eventually(lambda: "standby" in one.log.read_text())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", ["connect_timeout=10", "connect_timeout=0", "connect_timeout=-1"])
def test_a_server_that_takes_its_time_to_wake_up_is_waited_for(stocked, mode, limit):
    with in_front_of(stocked) as proxy:
        proxy.sleep = 5
        url = f"postgresql://forkloop@127.0.0.1:{proxy.port}/forkloop?{limit}"
        with responder(mode, DATABASE_URL=url, DB_NAME=None, DB_USER=None, **ONE_CONNECTION) as one:
            eventually(lambda: one.ask("/contact/1")[0] == 200, message=f"it was not waited for: {one.log.read_text()}")


@pytest.mark.parametrize("mode", MODES)
def test_where_nothing_is_said_a_silent_host_has_three_seconds(mode):
    with silent() as (host, port), responder(mode, DB_HOST=host, DB_PORT=port, **ONE_CONNECTION) as one:
        assert one.ask("/contact/1")[0] == 503
        told = ("timeout expired", "no connection within 3 s")
        eventually(lambda: any(words in one.log.read_text() for words in told), message="it was not given up")


@pytest.mark.parametrize("mode", MODES)
def test_a_limit_that_is_no_number_is_told(mode):
    done = subprocess.run([PROGRAM, mode, "--listen", "unix:/tmp/x.sock"], env=clean_environment(PGCONNECT_TIMEOUT="soon"), capture_output=True, text=True, cwd="/")
    assert done.returncode == 2 and 'invalid integer value "soon" for connection option "connect_timeout"' in done.stderr, done


@pytest.mark.parametrize("mode", MODES)
def test_after_a_password_that_is_refused_no_other_host_is_tried(stocked, mode):
    """As libpq has it: a server has answered."""
    stocked.psql("create role locked_out login connection limit 0 in role forkloop; grant all on all tables in schema public to locked_out", "postgres")
    try:
        with in_front_of(stocked) as first, in_front_of(stocked) as second:
            with responder(mode, **{**places(("127.0.0.1", first.port), ("127.0.0.1", second.port)), "DB_USER": "locked_out"}, **ONE_CONNECTION) as one:
                assert one.ask("/contact/1")[0] == 503
                eventually(lambda: "too many connections" in one.log.read_text())
                assert not second.pairs
    finally:
        stocked.psql("drop owned by locked_out; drop role locked_out", "postgres")
