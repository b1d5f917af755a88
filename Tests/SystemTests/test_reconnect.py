"""Database connections that break, one or all at once, as by a pooler's restart or a failover, and the way back."""

import collections
import contextlib
import os
import pathlib
import select
import signal
import subprocess
import threading
import time

import pytest

from fastcgi_client import answer
from local_stack import MODES, children, eventually, temporary_folder
from proxy import READY, complete, in_front_of
from responder import responder


# Those that have been ready: an attempt to connect that is ended is one that has failed.
END = ("select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like 'forkloop%' and application_name like '%{}'"
       " and backend_start < clock_timestamp() - interval '20 ms'")


class Clients:
    """Ask for one thing after another, each for its own, and count what came."""

    def __init__(self, one, *requests):
        self.answers, self.ended = collections.Counter(), threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(one, request)) for request in requests]

    def _run(self, one, request):
        while not self.ended.is_set():
            status, whole = one.ask(*request)
            self.answers[request[1] if len(request) > 1 else "GET", status, b"Retry-After" in whole] += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("connections", [1, 8])
def test_reads_do_not_notice_that_all_connections_are_ended(stocked, mode, connections):
    requests = [("/contact",), ("/contact/1",), ("/contact/2",), ("/tag",), ("/product/1",), ("/tag/2",), ("/order",), ("/health",)]
    writes = [("/contact/1", "PATCH", b'{"name":"x"}')] * 2
    settings = {"FORKLOOP_ASYNC_DB_CONNECTIONS": connections, "FORKLOOP_SYNC_WORKERS": connections}
    with responder(mode, DB_HOST=stocked.path("run"), **settings) as one, Clients(one, *requests, *writes) as clients:
        ended = 0
        for _ in range(40):
            seen = sum(clients.answers.values())
            eventually(lambda: sum(clients.answers.values()) > seen + 20, message="nobody is answered any more")
            ended += int(stocked.psql(END.format(mode), "postgres")[0][0])
        text = one.log.read_text()
        assert ended >= 40 * min(connections, 2)
    told = [line for line in text.splitlines() if "503" in line and "lost" not in line]
    assert {answer for answer in clients.answers if answer[0] == "GET"} == {("GET", 200, False)}, (clients.answers, told[:5])
    # A write that was on its way may have been done or not: nobody is told to try again.
    assert {answer for answer in clients.answers if answer[0] == "PATCH"} <= {("PATCH", 200, False), ("PATCH", 503, False)}, clients.answers


@pytest.mark.parametrize("method", ["GET", "POST"], ids=["reads", "writes"])
def test_what_was_answered_before_the_connection_broke_is_told_though_sending_failed_first(stack, method):
    with temporary_folder() as folder, in_front_of(stack, folder=folder) as proxy, contextlib.ExitStack() as exits, \
            responder("async", "--application", "workload", DB_HOST=folder, FORKLOOP_ASYNC_DB_CONNECTIONS=1) as one:
        assert one.ask("/work")[0] == one.ask("/work", "POST")[0] == 200

        loop, = children(one.process.pid)

        @contextlib.contextmanager
        def one_turn():
            os.kill(loop, signal.SIGSTOP)
            yield
            os.kill(loop, signal.SIGCONT)

        with proxy.taken_over() as (here, there):
            with one_turn():
                asked = [exits.enter_context(one.send("/work", method, query=f"rows=1&bytes=2&key={number}")) for number in (1, 2)]
            answers = b""
            while answers.count(b" 1\0") < 2 or not answers.endswith(READY):
                for source in select.select([here, there], [], [], 20)[0]:
                    data = source.recv(65536)
                    assert data, "the conversation has ended"
                    if source is here:
                        there.sendall(data)
                    else:
                        answers += data
            # The turn that takes the first answer in lasts. What it has been asked for is sent at its end, and the connection has
            # broken by then; what was asked first has been answered.
            with one_turn():
                here.sendall(answers[:complete(answers)])
                late = [exits.enter_context(one.send("/work", "POST", query="processor=500000")) for _ in range(2)]
            time.sleep(0.3)
            here.sendall(answers[complete(answers):])
            proxy.drop_all()
        for client, number in zip(asked, [b"1", b"2"]):
            whole = answer(client)
            assert whole[:11] == b"Status: 200" and b'"data":["' + number + b'."]' in whole, whole
        for client in late:
            assert answer(client)[:11] in (b"Status: 503", b"Status: 200")
        assert one.is_well()


@pytest.mark.parametrize("drop", ["as soon as it is ready", "before it is"])
def test_a_server_that_drops_everybody_is_asked_less_and_less_often(stocked, drop):
    with in_front_of(stocked) as proxy:
        if drop == "before it is":
            proxy.refuses = True
        else:
            proxy.ends_with = b"Z\0\0\0\x05I"
        with responder("async", DB_HOST="127.0.0.1", DB_PORT=proxy.port, FORKLOOP_ASYNC_DB_CONNECTIONS=1) as one:
            eventually(lambda: len(proxy.came) >= 8, message="it has given up")
            times = proxy.came[:8]
            # The pause doubles from 50 ms, and is shortened by half at most: before the eighth attempt it is 1.6 s.
            assert times[7] - times[6] > 0.7, [round(later - earlier, 3) for earlier, later in zip(times, times[1:])]
            proxy.refuses, proxy.ends_with = False, b""
            eventually(lambda: one.ask("/contact/1")[0] == 200, message="it did not find the server that is well again")


def test_a_resolver_that_hangs_does_not_keep_the_loop_from_serving():
    with temporary_folder() as folder:
        pathlib.Path(folder, "hang.c").write_text(
            "#include <netdb.h>\n#include <unistd.h>\nint getaddrinfo(const char *n, const char *s, const struct addrinfo *h, struct addrinfo **r)"
            " { for (;;) sleep(60); }\n")
        subprocess.run(["clang", "-shared", "-fPIC", "-o", f"{folder}/hang.so", f"{folder}/hang.c"], check=True)
        with responder("async", DB_HOST="slow.example", LD_PRELOAD=f"{folder}/hang.so") as one:
            with one.send("/health") as client:
                client.settimeout(20)
                assert answer(client)[:11] == b"Status: 503"
            assert one.ask("/status")[0] == 200
