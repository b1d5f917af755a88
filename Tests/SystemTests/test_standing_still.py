"""Processes that stand still or have had enough at the wrong moment, and those who would keep a master from its duties."""

import contextlib
import json
import os
import signal
import socket
import threading
import time

import pytest

from daemon import responder
from fastcgi_client import answer, fastcgi
from local_stack import MODES, eventually, is_running, temporary_folder
from test_processes import Clients, order


def test_a_stop_in_the_last_request_of_each_worker_leaves_nobody_in_the_queue(stocked):
    with responder(stocked, "sync", workers=2, max_requests=1, max_requests_jitter=0) as server:
        lock = stocked.psql_open("begin; select from contact where id = 1 for update")
        clients = Clients(server, 20, order("sync"))
        eventually(lambda: len(busy(server)) == 2, message="the workers are not busy")
        server.signal(signal.SIGTERM)
        server.says("draining")
        lock.kill()
        assert clients.statuses() == [201] * 20
        assert server.ends() == 0


def busy(server):
    """The workers that wait for the database."""
    page = json.loads(server.status().split(b"\r\n\r\n", 1)[1])
    return [worker["pid"] for worker in page["workers"] if worker["state"] == "database"]


def test_a_worker_that_was_given_up_before_a_reload_is_killed_after_it(stocked):
    with responder(stocked, "sync", workers=2, request_timeout=1000) as server:
        lock = stocked.psql_open("begin; select from contact where id = 1 for update")
        with server.connect() as client:
            client.sendall(order("sync"))
            (stuck,) = eventually(lambda: busy(server), message="the worker is not busy")
            os.kill(stuck, signal.SIGSTOP)
            try:
                server.says("took more than")
                server.signal(signal.SIGHUP)
                server.says("reloading")
                eventually(lambda: not is_running(stuck), 5, "it is still there")
            finally:
                lock.kill()
                if is_running(stuck):
                    os.kill(stuck, signal.SIGKILL)


@pytest.mark.parametrize("keep_alive", [0, 1], ids=["", "keep-alive"])
def test_a_worker_that_is_suspended_keeps_nobody_waiting(stocked, keep_alive):
    # Which of the two is asked first is a matter of luck.
    for _ in range(4):
        with responder(stocked, "sync", keep_alive=keep_alive) as server:
            suspended = server.workers()[0]
            os.kill(suspended, signal.SIGSTOP)
            for _ in range(4):
                assert server.answers()
            server.signal(signal.SIGTERM)
            assert server.ends() == 0, "it was not let go on when all were told to end"


def test_a_worker_that_is_told_to_look_into_the_queue_a_moment_too_late_loses_no_request(stocked):
    with responder(stocked, "sync", workers=1) as server, server.connect() as client:
        (worker,) = server.workers()
        whole = order("sync")
        client.sendall(whole[:40])
        eventually(lambda: b'"state":"reading"' in server.status().replace(b" ", b""), message="it does not read")
        # The master looks at its state first, and it may have gone on by then.
        os.kill(worker, signal.SIGURG)
        time.sleep(0.05)
        client.sendall(whole[40:])
        assert answer(client).startswith(b"Status: 201")


@pytest.mark.parametrize("mode", MODES)
def test_nobody_waits_for_a_service_manager_that_does_not_listen(stack, mode):
    with temporary_folder() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{folder}/notify")
        # More than its queue can hold.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            with pytest.raises(BlockingIOError):
                for _ in range(100_000):
                    other.sendto(b"X=1", f"{folder}/notify")
        with responder(stack, mode, environment=[("NOTIFY_SOCKET", f"{folder}/notify"), ("WATCHDOG_USEC", "100000")]) as server:
            assert server.answers()
            server.signal(signal.SIGTERM)
            try:
                assert server.ends(5) == 0
            finally:
                manager.setblocking(False)
                while server.process.poll() is None:
                    try:
                        manager.recv(100)
                    except BlockingIOError:
                        time.sleep(0.01)


def test_a_watchdog_of_any_length_is_understood(stack):
    with responder(stack, "sync", environment=[("WATCHDOG_USEC", "18446744073709551615")]) as server:
        assert server.answers()


class Flood(threading.Thread):
    """Asks for the status a thousand times in one go, again and again, and takes no answer."""

    def __init__(self, path, over):
        super().__init__()
        self.path, self.over = path, over

    def run(self):
        while not self.over.is_set():
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
                client.settimeout(0.2)
                client.connect(self.path)
                client.sendall(fastcgi("/sync/status") * 1000)
                client.recv(1)
                time.sleep(0.05)


def test_whoever_asks_for_the_status_without_end_does_not_keep_the_master_from_its_duties(stack):
    with responder(stack, "sync", workers=20) as server:
        over = threading.Event()
        floods = [Flood(f"{server.folder}/status.sock", over) for _ in range(16)]
        for flood in floods:
            flood.start()
        try:
            before = server.workers()
            os.kill(before[0], signal.SIGKILL)
            eventually(lambda: set(server.workers()) - set(before), 5, "no worker comes in the place of another")
            server.signal(signal.SIGTERM)
            assert server.ends(5) == 0
        finally:
            over.set()
            for flood in floods:
                flood.join()
