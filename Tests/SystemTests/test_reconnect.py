"""All database connections are ended at once, as by a pooler's restart or a failover: who only reads does not notice."""

import collections
import threading

import pytest

from house import MODES, eventually
from responder import responder

END = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like 'forkloop%' and application_name like '%{}'"


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
