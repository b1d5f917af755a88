"""What the event loop does when its database, or the way to it, fails."""

import concurrent.futures
import contextlib
import os
import pathlib
import signal
import socket
import subprocess

import pytest

from fastcgi_client import answer, fastcgi
from local_stack import PROGRAM, clean_environment, descendants, eventually, listens, temporary_folder
from proxy import certified, in_front_of


class Loop:
    """`forkloop async` by itself, on whatever database the settings say."""

    def __init__(self, folder, **settings):
        self.path = f"{folder}/s.sock"
        self.log = pathlib.Path(folder, "log")
        environment = clean_environment(**{"DB_NAME": "forkloop", "DB_USER": "forkloop", **settings})
        with open(self.log, "w") as out:
            self.process = subprocess.Popen([PROGRAM, "async", "--listen", f"unix:{self.path}"], env=environment, stdout=out, stderr=out)
        eventually(lambda: listens(self.path), message="it did not start")

    def ask(self, path, method="GET", body=b"", query=""):
        """(status, whole answer)"""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(self.path)
            client.sendall(fastcgi(path, method, query, body, keep=0, content_type="application/json" if body else ""))
            whole = answer(client)
            return int(whole.split()[1]), whole

    def is_well(self):
        return self.ask("/async/contact/1")[0] == 200


@contextlib.contextmanager
def loop(**settings):
    with temporary_folder() as folder:
        one = Loop(folder, **settings)
        try:
            yield one
        finally:
            one.process.terminate()
            code = one.process.wait(40)
            assert code == 0, one.log.read_text()


@contextlib.contextmanager
def behind_proxy(stack, **settings):
    with in_front_of(stack) as proxy, loop(**{"DB_HOST": "127.0.0.1", "DB_PORT": proxy.port, "FORKLOOP_ASYNC_DB_CONNECTIONS": 2, **settings}) as one:
        eventually(one.is_well, message="it does not work through the proxy")
        yield proxy, one


def sizes(proxy, one, work):
    """How many bytes go each way for a piece of work."""
    before = 1 << 30
    with proxy.lock:
        proxy.left = {"up": before, "down": before}
    work()
    with proxy.lock:
        passed = {direction: before - left for direction, left in proxy.left.items()}
        proxy.left = {}
    return passed


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_read_is_answered_wherever_its_conversation_breaks(own_stack, direction):
    with behind_proxy(own_stack) as (proxy, one):
        count = sizes(proxy, one, lambda: one.ask("/async/contact/1"))[direction]
        assert 50 < count < 1000
        for at in range(count):
            proxy.cut_after(at, direction)
            status, whole = one.ask("/async/contact/1")
            # The other connection answers it; where that has just been cut too and is not back yet, it is a 503.
            assert status in (200, 503), (at, whole)
            eventually(one.is_well, message=f"it did not recover from a cut after byte {at} {direction}")
        eventually(lambda: one.ask("/async/status")[1].count(b'"ready"') == 2)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_no_write_is_lost_or_done_twice_wherever_its_conversation_breaks(own_stack, direction):
    with behind_proxy(own_stack) as (proxy, one):
        count = sizes(proxy, one, lambda: one.ask("/async/tag", "POST", b'{"name":"measure"}'))[direction]
        told = {}
        for at in range(count):
            proxy.cut_after(at, direction)
            name = f"t{at}"
            told[name] = one.ask("/async/tag", "POST", b'{"name":"%s"}' % name.encode())[0]
            eventually(one.is_well, message=f"it did not recover from a cut after byte {at} {direction}")
        assert set(told.values()) <= {201, 503}, told
        # Names are unique: done twice would have been a 409. What was acknowledged is there, the rest may be.
        rows = {row[0] for row in own_stack.psql("select name from tag where name like 't%'")}
        assert {name for name, status in told.items() if status == 201} <= rows
        assert 503 in told.values(), "nothing was ever cut"


@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.long)])
def test_it_connects_again_wherever_connecting_breaks(own_stack, step):
    with behind_proxy(own_stack, FORKLOOP_ASYNC_DB_CONNECTIONS=1) as (proxy, one):
        def connects_again():
            proxy.drop_all()
            eventually(one.is_well)

        count = sizes(proxy, one, connects_again)["down"]
        assert 300 < count < 2000
        for at in range(0, count, step):
            proxy.cut_after(at, "down")
            proxy.drop_all()
            eventually(one.is_well, message=f"it did not recover from a cut after byte {at}")


@pytest.mark.parametrize("garbage", [b"\0" * 64, b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(range(256)), b"Z\xff\xff\xff\xff", b"D\0\0\0\x08\0\xff\0\0"])
def test_a_server_that_talks_nonsense_is_left(own_stack, garbage):
    with behind_proxy(own_stack) as (proxy, one):
        for at in (0, 1, 5, 30):
            proxy.cut_after(at, "down", last_bytes=garbage)
            assert one.ask("/async/contact/1")[0] in (200, 500, 503)
            eventually(one.is_well, message="it did not recover from nonsense")


def test_a_server_that_falls_silent_costs_its_time_limit_and_nothing_more(own_stack):
    with behind_proxy(own_stack, FORKLOOP_STATEMENT_TIMEOUT=200) as (proxy, one):
        proxy.cut_after(3, "down", silent=True)
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(60)
        client.connect(one.path)
        client.sendall(fastcgi("/async/contact/1", keep=0))
        for _ in range(20):  # the other connection serves
            assert one.ask("/async/contact/2")[0] == 200
        # Given up, it was a read: the other connection answers it.
        assert b"Status: 200 " in answer(client)
        assert "does not answer" in one.log.read_text()


@pytest.mark.parametrize("piece, delay", [(1, 0), (7, 0.001), (65536, 0.05)])
def test_a_server_that_is_far_away_is_understood(own_stack, piece, delay):
    """Its bytes come late, and in pieces that have nothing to do with its messages."""
    with behind_proxy(own_stack) as (proxy, one), concurrent.futures.ThreadPoolExecutor(6) as threads:
        proxy.piece, proxy.delay = piece, delay
        bodies = [b'{"name":"d%d"}' % number for number in range(6)]
        written = list(threads.map(lambda body: one.ask("/async/tag", "POST", body), bodies))
        read = list(threads.map(lambda number: one.ask(f"/async/contact/{number}"), range(1, 7)))
    assert [status for status, _ in written] == [201] * 6 and [status for status, _ in read] == [200] * 6, (written, read)
    for number, (_, whole) in enumerate(read, 1):
        assert whole.endswith(b'"name":"c%d","email":"c@example.org"}' % number), whole
    for body, (_, whole) in zip(bodies, written):
        assert whole.endswith(b"," + body[1:]), whole


def test_records_of_tls_that_are_longer_than_what_libpq_reads_are_read_to_their_end(own_stack):
    """What TLS has decrypted does not show at the socket. PostgreSQL's own records are short enough; a proxy's may not be."""
    own_stack.psql("insert into contact (name, email) select repeat('x', 200), 'c@example.org' from generate_series(1, 1000)")
    with temporary_folder() as folder, in_front_of(own_stack, certified(folder)) as proxy:
        with loop(DB_HOST="127.0.0.1", DB_PORT=proxy.port, PGSSLMODE="require", FORKLOOP_ASYNC_DB_CONNECTIONS=1) as one:
            eventually(one.is_well)
            proxy.delay = 0.005  # So that there is more than a record to be sent.
            for limit in range(20, 1000, 7):
                status, whole = one.ask("/async/contact", query=f"limit={limit}")
                assert status == 200 and whole.count(b'"id"') == limit


def test_a_server_that_is_away_at_first_is_found_when_it_comes(own_stack):
    with in_front_of(own_stack) as proxy:
        proxy.refuses = True
        with loop(DB_HOST="127.0.0.1", DB_PORT=proxy.port) as one:
            status, whole = one.ask("/async/contact/1")
            assert status == 503 and b"Retry-After: 1" in whole
            proxy.refuses = False
            eventually(one.is_well, message="it did not find the server")


def test_it_moves_to_another_host_when_the_first_is_away(own_stack):
    with in_front_of(own_stack) as first, in_front_of(own_stack) as second:
        with loop(DB_HOST="127.0.0.1,localhost", DB_PORT=f"{first.port},{second.port}") as one:
            eventually(one.is_well)
            assert first.pairs and not second.pairs
            first.leave()
            eventually(one.is_well, message="it did not move to the second host")
            assert second.pairs
            eventually(lambda: one.ask("/async/status")[1].count(b'"ready"') == 8)


def test_it_makes_do_with_the_connections_that_it_gets(own_stack):
    # A role of its own: superusers are not counted.
    own_stack.psql("create role small login connection limit 3 in role forkloop; grant all on all tables in schema public to small; grant usage on all sequences in schema public to small", "postgres")
    with loop(DB_HOST=own_stack.path("run"), DB_USER="small", FORKLOOP_ASYNC_DB_CONNECTIONS=8) as one:
        eventually(one.is_well)
        for _ in range(20):
            assert one.ask("/async/contact/1")[0] == 200
        assert one.ask("/async/status")[1].count(b'"ready"') == 3 and "too many connections" in one.log.read_text()
        own_stack.psql("alter role small connection limit 20", "postgres")
        eventually(lambda: one.ask("/async/status")[1].count(b'"ready"') == 8, message="it did not use what it may have now")


def test_a_changed_password_is_taken_from_the_password_file(own_stack):
    """A role with a password, through a server that asks for it."""
    own_stack.psql("create role guarded login password 'one'; grant all on all tables in schema public to guarded", "postgres")
    hba = pathlib.Path(own_stack.path("postgres/pg_hba.conf"))
    hba.write_text("local all guarded scram-sha-256\n" + hba.read_text())
    own_stack.psql("select pg_reload_conf()", "postgres")
    with temporary_folder() as folder:
        file = pathlib.Path(folder, "pgpass")

        def write(password):
            file.write_text(f"*:*:*:guarded:{password}\n")
            file.chmod(0o600)

        write("one")
        with loop(DB_HOST=own_stack.path("run"), DB_USER="guarded", PGPASSFILE=file) as one:
            eventually(one.is_well)
            own_stack.psql("alter role guarded password 'two'", "postgres")
            assert one.is_well(), "connections that are up have no need of a password"
            own_stack.psql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'guarded'", "postgres")
            eventually(lambda: one.ask("/async/contact/1")[0] == 503)
            write("two")
            eventually(one.is_well, message="it did not take the new password")


SLOW_RESOLVER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void note(const char *what) {
  int file = open(getenv("NOTES"), O_WRONLY | O_APPEND | O_CREAT, 0644);
  if (write(file, what, 1) < 0) _exit(1);
  close(file);
}
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
  int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
  if (!node || strcmp(node, "slow.example")) return next(node, service, hints, result);
  note("b");
  sleep(2);
  note("e");
  return next("127.0.0.1", service, hints, result);
}
"""


def test_a_resolver_that_takes_its_time_does_not_hold_up_the_loop(own_stack):
    with temporary_folder() as folder, in_front_of(own_stack) as proxy:
        pathlib.Path(folder, "slow.c").write_text(SLOW_RESOLVER)
        subprocess.run(["clang", "-shared", "-fPIC", "-o", f"{folder}/slow.so", f"{folder}/slow.c"], check=True)
        notes = pathlib.Path(folder, "notes")
        with loop(DB_HOST="slow.example", DB_PORT=proxy.port, LD_PRELOAD=f"{folder}/slow.so", NOTES=notes, FORKLOOP_ASYNC_DB_CONNECTIONS=1) as one:
            eventually(one.is_well, message="the name was not looked up")
            notes.write_text("")
            proxy.drop_all()
            eventually(lambda: notes.read_text() == "b", message="the name was not looked up again")
            # Who wants the database waits for the attempt, since the last connection was good.
            with concurrent.futures.ThreadPoolExecutor(1) as threads:
                waiting = threads.submit(one.ask, "/async/contact/1")
                assert one.ask("/async/status")[0] == 200
                assert notes.read_text() == "b", "whoever asked had to wait for the resolver"
                assert waiting.result()[0] == 200
            assert notes.read_text() == "be"


def test_connections_that_the_server_ends_while_idle_are_made_again_before_anybody_asks(own_stack):
    with loop(DB_HOST=own_stack.path("run")) as one:
        eventually(one.is_well)
        (process,) = descendants(one.process.pid, 1)
        for _ in range(3):
            own_stack.psql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'forkloop async'")
            eventually(lambda: one.ask("/async/status")[1].count(b'"ready"') == 8)
            assert one.is_well()
        assert descendants(one.process.pid, 1) == [process]
        os.kill(one.process.pid, signal.SIGTERM)
