"""Clients that go before their answer: nobody waits for a read any more that nobody wants, and the server is told to give it up."""

import contextlib
import json
import random
import socket
import time

import pytest
import daemon
from fastcgi_client import answer, fastcgi
from local_stack import eventually, locked

from responder import responder

ACTIVE = "select count(*) from pg_stat_activity where application_name in ('forkloop sync', 'forkloop async') and state = 'active'"
MODES = ["sync", "async"]


@contextlib.contextmanager
def workload(stack, *flags, mode="sync", workers=4, **settings):
    size = ("--workers", str(workers)) if mode == "sync" else ()
    with responder(mode, "--application", "workload", *size, *flags, DB_HOST=stack.path("run"), **settings) as one:
        yield one


def active(stack):
    return int(stack.psql(ACTIVE)[0][0])


def told_of(one):
    """How many have gone by the pool's count, or statements been given up by the loop's."""
    return counter(one, "gone_requests") if one.mode == "sync" else json.loads(one.ask("/status")[1].split(b"\r\n\r\n", 1)[1])["database"]["cancelled"]


def counter(one, name):
    client = socket.socket(socket.AF_UNIX)
    with client:
        client.connect(one.path.replace("s.sock", "s-status.sock"))
        client.sendall(fastcgi("/sync/status", "GET", "", b"", 0, ""))
        return json.loads(answer(client).split(b"\r\n\r\n", 1)[1])[name]


def tcp_listens(address):
    with socket.socket() as client:
        return client.connect_ex(address) == 0


def told(one):
    """Warnings and errors of the log, but for the one about root."""
    return [line for line in one.log.read_text().splitlines() if (" warning " in line or " error " in line) and "run as root" not in line]


READS = {
    "one statement": "time=9000&distribution=fixed",
    "real work": "time=9000&by=work",
    "several, one after another": "time=3000&statements=4",
    "several, together": "time=3000&statements=4&together=1",
}


@pytest.mark.parametrize("flags", [(), ("--prepared", "off")], ids=["prepared", "not prepared"])
@pytest.mark.parametrize("query", READS.values(), ids=READS)
@pytest.mark.parametrize("mode", MODES)
def test_a_read_that_nobody_waits_for_is_given_up(stack, mode, query, flags):
    """Workers are free, and the server does nothing for those who have gone."""
    with workload(stack, *flags, mode=mode) as one:
        clients = [one.send("/work", query=query) for _ in range(4)]
        eventually(lambda: active(stack) >= 4, message="the statements have not begun")
        for client in clients:
            client.close()
        eventually(lambda: active(stack) == 0, 5, "statements went on for nobody")
        assert one.ask("/work", query="rows=1&bytes=5")[0] == 200
        assert told_of(one) >= 4
        assert told(one) == []


def test_so_is_one_that_waits_to_be_prepared(stocked):
    """Preparing waits, too, where a table is locked."""
    with responder("sync", "--workers", "4", DB_HOST=stocked.path("run")) as one, locked(stocked, "contact"):
        clients = [one.send("/contact/1") for _ in range(4)]
        eventually(lambda: active(stocked) == 4)
        for client in clients:
            client.close()
        eventually(lambda: active(stocked) == 0, 5, "statements went on for nobody")
        assert one.ask("/live")[0] == 200


def test_a_wait_for_something_else_ends_too(stack):
    with workload(stack, workers=1) as one:
        one.send("/work", query="wait=10000").close()
        assert one.ask("/work")[0] == 200
        assert counter(one, "gone_requests") == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_write_goes_on_to_its_end(stack, mode):
    """What it has come to is what is asked for with its key."""
    with workload(stack, mode=mode) as one:
        client = one.send("/work", "POST", query="time=1000")
        eventually(lambda: active(stack) == 1)
        client.close()
        time.sleep(0.2)
        assert active(stack) == 1, "the write was given up"
        eventually(lambda: active(stack) == 0)
        assert told_of(one) == 0


def test_a_shared_read_is_given_up_when_the_last_one_has_gone(stack):
    with workload(stack, mode="async") as one:
        shared = dict(query="time=1500&share=rows&key=5&rows=1&bytes=3")
        staying, *leaving = [one.send("/work", **shared) for _ in range(3)]
        eventually(lambda: active(stack) == 1)
        for client in leaving:
            client.close()
        assert answer(staying).startswith(b"Status: 200") and told_of(one) == 0
        clients = [one.send("/work", **shared) for _ in range(3)]
        eventually(lambda: active(stack) == 1)
        for client in clients:
            client.close()
        eventually(lambda: active(stack) == 0 and told_of(one) == 1, 5, "it went on for nobody")


def test_one_that_went_in_the_queue_costs_the_database_nothing(stack):
    """Whoever may have waited for long is looked at before its statement."""
    with workload(stack, workers=1) as one:
        first = one.send("/work", query="time=300&distribution=fixed")
        eventually(lambda: active(stack) == 1)
        for _ in range(200):
            one.send("/work", query="time=1000").close()
        assert answer(first).startswith(b"Status: 200")
        eventually(lambda: counter(one, "gone_requests") == 200, message="those who have gone were not seen")


@pytest.mark.parametrize("mode", MODES)
def test_nobody_else_is_hit(stack, mode):
    """Clients that go at random moments, and others whose answers are their own."""
    random.seed(5)
    with workload(stack, mode=mode) as one:
        for number in range(150):
            leaving = one.send("/work", query="time=30&distribution=exponential&rows=2&bytes=9")
            time.sleep(random.random() * 0.03)
            leaving.close()
            rows, size = random.randint(1, 5), random.randint(1, 40)
            status, whole = one.ask("/work", query=f"rows={rows}&bytes={size}&time=1")
            assert status == 200, (number, whole)
            body = json.loads(whole.split(b"\r\n\r\n", 1)[1])
            assert [len(row) for row in body["data"]] == [size] * rows, (number, body)
        assert told(one) == []


@pytest.mark.parametrize("halfClose, status", [(1, 200), (0, None)])
def test_over_tcp_a_closed_writing_side_means_what_the_setting_says(stack, halfClose, status):
    with daemon.responder(stack, "sync", tcp=True, waits=False, FORKLOOP_APPLICATION="workload", FORKLOOP_HALF_CLOSE=halfClose) as one:
        eventually(lambda: tcp_listens(one.address), message="it did not start")
        with one.connect() as client:
            client.settimeout(20)
            client.sendall(fastcgi("/sync/work", "GET", "time=300&distribution=fixed", b"", 0, ""))
            client.shutdown(socket.SHUT_WR)
            whole = answer(client) if status else client.recv(1)
            assert whole.startswith(b"Status: 200") if status else whole == b""
