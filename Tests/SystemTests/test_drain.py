"""How a responder stops: from the signal on `/health` is a 503, for `--drain-delay` it goes on accepting, then it drains."""

import contextlib
import json
import os
import signal
import socket

import pytest

from daemon import responder, stays
from fastcgi_client import answer, fastcgi, one_answer, record, records, with_id
from local_stack import MODES, LocalStack, eventually, locked, temporary_folder

LONG = 600  # seconds of delay that no test waits for
OTHERS = ["HUP", "USR2", "WINCH", "USR1", "CHLD"]


def send(server, name):
    server.signal(getattr(signal, f"SIG{name}"))


class Kept:
    """A connection of a web server's that is kept, as nginx does with `keepalive`."""

    def __init__(self, server):
        self.server, self.socket = server, server.connect()

    def ask(self, path="health", **more):
        """(status, body)"""
        self.socket.sendall(fastcgi(f"/{self.server.mode}/{path}", keep=1, **more))
        return parts(answer(self.socket))

    def close(self):
        self.socket.close()


def parts(whole):
    head, _, body = whole.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def health(server, **more):
    return parts(server.ask("health", **more))


def says_draining(mode, status, body):
    return status == 503 and json.loads(body) == {"mode": mode, "status": "draining", "database": "ok", "schema": "ok", "version": "0.2.0"}


@contextlib.contextmanager
def stopping(stack, mode, first="TERM", delay=LONG, **more):
    """A responder that has been told to stop and is in its delay, and a connection that was kept from before."""
    keeps = {"keep_alive": 1} if mode == "sync" else {}
    with responder(stack, mode, FORKLOOP_DRAIN_DELAY=delay, **keeps, **more) as server:
        kept = Kept(server)
        try:
            assert kept.ask()[0] == health(server)[0] == 200
            send(server, first)
            server.says("to stop")
            yield server, kept
        finally:
            kept.close()
            if server.process.poll() is None:
                send(server, "QUIT")
                assert server.ends() == 0, server.log()


@pytest.mark.parametrize("first, tcp", [("TERM", False), ("INT", True)], ids=["TERM-unix", "INT-tcp"])
@pytest.mark.parametrize("mode", MODES)
def test_in_the_delay_everybody_is_answered_and_health_says_that_it_is_about_to_stop(stocked, mode, first, tcp):
    with stopping(stocked, mode, first, tcp=tcp) as (server, kept):
        assert says_draining(mode, *health(server))
        assert says_draining(mode, *kept.ask()), "over a connection that was kept it says something else"
        assert says_draining(mode, *kept.ask(HTTP_IF_NONE_MATCH="*")) and says_draining(mode, *kept.ask(HTTP_IF_MATCH='"x"'))
        assert health(server, method="HEAD") == (503, b"")
        whole = server.ask("health")
        assert b"\r\nRetry-After: " in whole, whole
        for path in ("live", "tag", "order?limit=1"):
            path, _, query = path.partition("?")
            assert kept.ask(path, query=query)[0] == parts(server.ask(path, query=query))[0] == 200, path
        assert json.loads(kept.ask("live")[1])["status"] == "ok"
        assert parts(server.status())[0] == 200, "the master does not tell its status in the delay"


@pytest.mark.parametrize("mode", MODES)
def test_a_pool_is_looked_after_in_the_delay(stocked, mode):
    """A worker that dies is replaced, and the new one knows that it is about to stop."""
    size = {"workers": 1} if mode == "sync" else {"loops": 1}
    with stopping(stocked, mode, **size) as (server, _):
        (before,) = server.workers()
        os.kill(before, signal.SIGKILL)
        eventually(lambda: (now := server.workers()) and now != [before], message="the worker was not replaced")
        assert says_draining(mode, *health(server))
        send(server, "TTIN")
        eventually(lambda: len(server.workers()) == 2, message="TTIN brings no more workers in the delay")


@pytest.mark.parametrize("second", ["TERM", "INT", "QUIT"])
@pytest.mark.parametrize("mode", MODES)
def test_a_second_signal_to_stop_ends_the_delay(stocked, mode, second):
    with stopping(stocked, mode) as (server, _):
        send(server, second)
        assert server.ends() == 0, server.log()
        assert "stopped" in server.log()


@pytest.mark.parametrize("mode", MODES)
def test_no_other_signal_ends_the_delay_or_makes_another_program_of_it(stocked, mode):
    with stopping(stocked, mode) as (server, kept):
        for name in OTHERS:
            send(server, name)
        assert stays(lambda: says_draining(mode, *kept.ask()) and says_draining(mode, *health(server)), 0.4), server.log()
        assert "reload" not in server.log() and "let go" not in server.log(), server.log()


@pytest.mark.parametrize("mode", MODES)
def test_after_the_delay_nobody_gets_in_any_more(stocked, mode):
    with stopping(stocked, mode, delay=1) as (server, kept):
        assert says_draining(mode, *health(server))
        assert server.ends() == 0, server.log()
        assert "draining in 1 s" in server.log() and "stopped" in server.log(), server.log()


@pytest.mark.parametrize("first", ["TERM", "QUIT"])
@pytest.mark.parametrize("mode", MODES)
def test_without_a_delay_who_is_still_answered_is_told(stocked, mode, first):
    """One stands in the queue behind a request that waits, when the signal comes."""
    size = {"workers": 1} if mode == "sync" else {"loops": 1}
    # QUIT has no delay, whatever is set.
    with responder(stocked, mode, FORKLOOP_DRAIN_DELAY=LONG if first == "QUIT" else 0, **size) as server:
        (worker,) = server.workers()
        os.kill(worker, signal.SIGSTOP)
        with server.connect() as client:
            client.sendall(fastcgi(f"/{mode}/health", keep=0))
            send(server, first)
            assert says_draining(mode, *parts(answer(client)))
        assert server.ends() == 0, server.log()


@pytest.mark.parametrize("mode, name", zip(MODES, ["HUP", "USR2"]))
def test_a_reload_never_makes_health_say_so(stocked, mode, name):
    with responder(stocked, mode, FORKLOOP_DRAIN_DELAY=LONG) as server:
        answers = []

        def has_reloaded():
            answers.append(health(server)[0])
            return server.log().count("listening on") > 1 and answers.count(200) > 20
        send(server, name)
        eventually(has_reloaded, 20, "it did not reload")
        assert set(answers) == {200}
        # Whoever has been told to stop in the meantime is, all the same.
        send(server, name)
        send(server, "TERM")
        server.says("to stop")
        assert says_draining(mode, *health(server))
        send(server, "TERM")
        assert server.ends() == 0, server.log()


@pytest.mark.parametrize("mode", MODES)
def test_a_pool_whose_workers_were_let_go_does_not_wait(stocked, mode):
    with responder(stocked, mode, FORKLOOP_DRAIN_DELAY=LONG) as server:
        send(server, "WINCH")
        eventually(lambda: not server.workers(), message="WINCH lets nobody go")
        send(server, "TERM")
        assert server.ends() == 0, server.log()


def test_a_service_manager_is_told_how_long_the_stop_may_take(stocked):
    with temporary_folder() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{folder}/notify")
        manager.settimeout(10)

        def hears(state):
            while True:
                told = dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())
                if state in told:
                    return told

        with responder(stocked, "sync", environment={"NOTIFY_SOCKET": f"{folder}/notify"}, FORKLOOP_DRAIN_DELAY=LONG, FORKLOOP_DRAIN_TIMEOUT=60) as server:
            send(server, "TERM")
            told = hears("STOPPING")
            assert int(told["EXTEND_TIMEOUT_USEC"]) > (LONG + 60) * 1_000_000, told
            send(server, "TERM")
            told = hears("STOPPING")
            assert (LONG + 60) * 1_000_000 > int(told["EXTEND_TIMEOUT_USEC"]) > 60 * 1_000_000, told
            assert server.ends() == 0, server.log()


def test_up_announces_its_stop_and_stops_after_the_delay_or_at_the_next_signal():
    with temporary_folder() as folder:
        stack = LocalStack(folder, FORKLOOP_DRAIN_DELAY=LONG)
        try:
            assert stack.request("GET", "/sync/health").status == 200
            stack.process.terminate()
            for mode in MODES:
                asked = f"/{mode}/health"
                eventually(lambda: stack.request("GET", asked).status == 503, message=f"{asked} is not a 503 in the delay")
                assert stack.request("GET", asked).json["status"] == "draining"
                assert stack.request("GET", f"/{mode}/tag").status == stack.request("GET", f"/{mode}/live").status == 200
            assert stack.process.poll() is None, stack.output()
            stack.process.terminate()
            assert stack.process.wait(20) == 0, stack.output()
            logs = [open(stack.path(f"log/{mode}.log")).read() for mode in MODES]
            assert all("to stop" in log and "stopped" in log for log in logs), logs
        finally:
            if stack.process.poll() is None:
                stack.process.kill()


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
@pytest.mark.parametrize("stop", ["HUP", "USR2", "TERM"])
def test_an_idle_connection_hears_that_its_loop_drains_and_may_still_ask(stocked, stop, tcp):
    """nginx takes an idle connection for broken that has something to read, and reads over an empty STDERR before an answer."""
    with responder(stocked, "async", tcp=tcp) as server:
        idle, busy = Kept(server), Kept(server)
        for kept in (idle, busy):
            kept.socket.sendall(with_id(fastcgi("/async/tag"), 7))
            assert parts(answer(kept.socket))[0] == 200
        send(server, stop)
        for kept in (idle, busy):
            assert kept.socket.recv(8, socket.MSG_WAITALL) == record(7, request_id=7)
        assert busy.ask("tag")[0] == 200
        assert idle.socket.recv(8) == b"", "it is not closed"
        idle.close(), busy.close()


def test_a_peer_that_reads_nothing_does_not_hold_up_a_drain(stocked):
    """Its answers fill the socket to the last: there is no space to tell it of the end."""
    with responder(stocked, "async", FORKLOOP_DRAIN_TIMEOUT=20) as server, contextlib.ExitStack() as exits:
        def state():
            return json.loads(parts(server.status())[1])

        def unread(client):
            client.sendall(fastcgi("/async/contact/1"))
            eventually(lambda: state()["requests_under_way"] == 1)
            return state()["memory"]["backlogged_answers"]

        clients = [exits.enter_context(server.connect()) for _ in range(2)]
        before, fits = state()["memory"]["backlogged_answers"], 0
        while unread(clients[0]) == before:
            fits += 1
            assert fits < 3000, "the socket takes everything"
        for _ in range(fits):
            assert unread(clients[1]) == before + 1, "it took more before"
        clients[0].close()
        send(server, "TERM")
        server.ends(10)
        assert "had not ended" not in server.log()


def test_what_was_sent_over_a_kept_connection_before_its_last_answer_is_answered(stocked):
    """A web server that does not wait for answers has sent its next request when the drain begins."""
    with responder(stocked, "async") as server, locked(stocked, "tag") as lock, server.connect() as client:
        client.sendall(fastcgi("/async/tag"))
        eventually(lambda: json.loads(parts(server.status())[1])["requests_under_way"] == 2)
        send(server, "TERM")
        server.says("draining")
        client.sendall(with_id(fastcgi("/async/contact/1"), 2))
        lock.kill()
        got = records(client)
        assert {one_answer(got)[0] for _ in range(2)} == {1, 2}
        assert [kind for kind, _, _ in got if kind != 6] == [], "more than its end came"
