"""Peers that have connected and send no request: how long a worker waits with them, and who waits for that."""

import contextlib
import time

import pytest

from daemon import responder
from fastcgi_client import answer, begin, fastcgi, one_answer, pairs, record, records, variables, with_id
from test_fastcgi import unread, values

# What a peer may send without a request that is still to come; it has its answer, if there is one, or is sent away.
NO_REQUEST = {
    "a question": values("FCGI_MPXS_CONNS"),
    "all questions": values("FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"),
    "an empty question": record(9, b"", 0),
    "a question that nobody knows": values("OTHER"),
    "a question with padding": record(9, pairs({"FCGI_MAX_REQS": ""}), 0, padding=255),
    "a long question": record(9, pairs({"X" * 60_000: ""}), 0),
    "many questions": values("FCGI_MPXS_CONNS") * 50,
    "an unknown type": record(77, b"abc", 0, padding=3),
    "an unknown type and a question": record(77, b"", 0) + values("FCGI_MPXS_CONNS"),
    "a record of no request": record(5, b"x", 0),
    "records of a request that has not begun": record(4, b"x", 9) + record(5, b"x", 9) + record(2, b"", 9),
    "an authorizer": begin(role=2),
    "a filter": begin(role=3),
    "a question and a filter": values("FCGI_MPXS_CONNS") + begin(role=3),
    "an abort": begin() + record(4, b"x") + record(2),
    "another version": record(9, b"", 0, version=2),
    "a BEGIN_REQUEST that is too short": record(1, bytes([0, 1])),
}
# What is less than a record, or than a request.
LESS = {
    "nothing": b"",
    "half a header": record(9, b"", 0)[:4],
    "half a BEGIN_REQUEST": begin()[:11],
    "half a question": values("FCGI_MPXS_CONNS")[:12],
    "a question without its padding": record(9, pairs({"FCGI_MAX_REQS": ""}), 0, padding=8)[:-3],
    "a question and half a header": values("FCGI_MPXS_CONNS") + begin()[:3],
    "a request without variables": begin(),
    "a request without its end": begin() + record(4, pairs(variables("/sync/tag"))) + record(4),
}
SERVERS = [("sync", 0), ("sync", 1), ("async", 0)]


@contextlib.contextmanager
def one(stack, mode, keep_alive, **settings):
    """A responder that serves one after another, where it does."""
    settings = {"workers": 1, "keep_alive": keep_alive, **settings} if mode == "sync" else settings
    with responder(stack, mode, **settings) as server:
        yield server


def send(client, pieces):
    """Each after the one before has been read."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for piece in pieces:
            client.sendall(piece)
            while unread(client):
                time.sleep(0.001)


def ask_quickly(server):
    with server.connect() as client:
        client.settimeout(5)
        client.sendall(fastcgi(f"/{server.mode}/tag", keep=0))
        return answer(client)


def is_over(client):
    """Reads to the end; whether that came."""
    with contextlib.suppress(ConnectionResetError):
        while client.recv(65_536):
            pass
    return True


@pytest.mark.parametrize("mode, keep_alive", SERVERS, ids=["sync", "sync, kept", "async"])
def test_a_peer_that_only_asks_keeps_nobody_waiting(stocked, mode, keep_alive):
    with one(stocked, mode, keep_alive) as server, contextlib.ExitStack() as exits:
        for what, whole in NO_REQUEST.items():
            for pieces in ([whole], [whole[:5], whole[5:]], [whole[:-1], whole[-1:]]):
                send(exits.enter_context(server.connect()), pieces)
                try:
                    assert b"Status: 200 " in ask_quickly(server), (what, pieces)
                except TimeoutError:
                    raise AssertionError(f"others wait for a peer that has sent {what}: {pieces}") from None


@pytest.mark.parametrize("mode, keep_alive", SERVERS, ids=["sync", "sync, kept", "async"])
def test_a_request_may_follow_the_answer_to_a_question(stocked, mode, keep_alive):
    """As HAProxy does with `option get-values`; where connections are kept also long after, and as often as it likes."""
    with one(stocked, mode, keep_alive) as server, server.connect() as client:
        stream = records(client)
        for number in range(1, 20 if keep_alive or mode == "async" else 2):
            client.sendall(values("FCGI_MPXS_CONNS"))
            assert next(stream)[:2] == (10, 0)
            if keep_alive or mode == "async":
                assert b"Status: 200 " in ask_quickly(server)
            client.sendall(with_id(fastcgi(f"/{mode}/contact/2", keep=1), number))
            of, whole = one_answer(stream)
            assert of == number and b"Status: 200 " in whole


def test_a_request_that_comes_too_late_behind_a_question_is_refused_as_a_whole(stocked):
    """It is answered, or the connection has been closed: nobody waits for an answer that will not come."""
    with one(stocked, "sync", 0) as server:
        outcomes = set()
        for milliseconds in (0, 50, 98, 99, 100, 101, 102, 150):
            with server.connect() as client, contextlib.closing(records(client)) as stream:
                client.sendall(values("FCGI_MPXS_CONNS"))
                assert next(stream)[:2] == (10, 0)
                time.sleep(milliseconds / 1000)
                try:
                    client.sendall(fastcgi("/sync/contact/2", keep=0))
                    outcomes.add(one_answer(stream)[1][:8])
                except (BrokenPipeError, ConnectionResetError, AssertionError):
                    outcomes.add("closed")
        assert b"Content-" in outcomes and outcomes <= {b"Content-", "closed"}, outcomes


def test_a_peer_that_asks_without_end_is_given_up(stocked):
    with one(stocked, "sync", 0, request_timeout=0) as server, server.connect() as client:
        deadline = time.monotonic() + 5
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() < deadline:
                client.sendall(record(77, b"", 0))
                client.recv(65_536)
        assert b"Status: 200 " in ask_quickly(server)


@pytest.mark.long
def test_a_peer_that_sends_a_question_byte_by_byte_is_given_up(stocked):
    """However slowly: each byte comes before the time for one is over."""
    with one(stocked, "sync", 0, request_timeout=0) as server, server.connect() as client:
        deadline = time.monotonic() + 50
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for byte in record(77, b"x" * 60_000, 0):
                client.sendall(bytes([byte]))
                time.sleep(0.5)
                if time.monotonic() > deadline:
                    break
        assert b"Status: 200 " in ask_quickly(server)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_peer_that_sends_less_than_a_request_is_given_up(stocked, mode):
    """On `/sync` a worker waits with each."""
    settings = {"workers": len(LESS), "request_timeout": 1000} if mode == "sync" else {"peer_timeout": 1, "idle_timeout": 1}
    with responder(stocked, mode, **settings) as server, contextlib.ExitStack() as exits:
        clients = {what: exits.enter_context(server.connect()) for what in LESS}
        for what, client in clients.items():
            send(client, [LESS[what].replace(b"/sync/", f"/{mode}/".encode())])
        assert b"Status: 200 " in server.ask()
        for what, client in clients.items():
            client.settimeout(5)
            assert is_over(client), what
