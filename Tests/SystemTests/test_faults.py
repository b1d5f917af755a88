"""What the stack does when something breaks."""

import json
import os
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest

from fastcgi_client import answer, connect, fastcgi
from local_stack import MODES, PROGRAM, ROOT, LocalStack, clean_environment, descendants, eventually, free_port, is_running, request, temporary_folder


class Load(threading.Thread):
    """Sends one request after another on connections of its own, and keeps count of what came."""

    def __init__(self, port, path, body=None, threads=4):
        super().__init__()
        self.port, self.path, self.body = port, path, body
        self.answers, self.refused, self.broken, self.ended = [], 0, [], threading.Event()
        self.threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def _run(self):
        while not self.ended.is_set():
            try:
                answer = request(self.port, "POST" if self.body else "GET", self.path, self.body)
                self.answers.append(answer.status)
            except ConnectionRefusedError:
                self.refused += 1
                time.sleep(0.01)
            except (OSError, Exception) as error:
                self.broken.append(repr(error))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        eventually(lambda: len(self.answers) > 20, message="the load did not begin")
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def count(self, status):
        return self.answers.count(status)


ORDER = {"name": "a", "contact_id": 1, "order_lines": [{"product_id": 1, "quantity": 1, "price": 1}]}


def test_a_killed_worker_costs_at_most_its_own_request_and_is_replaced(own_stack):
    before = set(own_stack.workers())
    with Load(own_stack.port, "/sync/contact") as load:
        victim = own_stack.workers()[0]
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: len(own_stack.workers()) == len(before) and victim not in own_stack.workers(), message="no new worker came")
        seen = len(load.answers)
        eventually(lambda: len(load.answers) > seen + 50)
    assert load.broken == []
    failed = [status for status in load.answers if status != 200]
    assert failed in ([], [502]), failed


def test_every_worker_killed_at_once_is_replaced(own_stack):
    for worker in own_stack.workers():
        os.kill(worker, signal.SIGKILL)
    eventually(lambda: own_stack.request("GET", "/sync/contact").status == 200, message="the pool did not recover")


@pytest.mark.parametrize("name", ["sync", "async", "postgres", "nginx"])
def test_up_restarts_what_dies(own_stack, name):
    victim = own_stack.children(name)[0]
    os.kill(victim, signal.SIGKILL)

    def is_back():
        if own_stack.children(name) in ([], [victim]):
            return False
        try:
            return all(own_stack.request("GET", f"/{mode}/contact").status == 200 for mode in MODES)
        except OSError:
            return False

    eventually(is_back, 40, f"{name} did not come back")
    assert name in own_stack.output()


def test_while_a_responder_is_away_its_server_says_503_and_the_other_serves(own_stack):
    os.kill(own_stack.children("sync")[0], signal.SIGSTOP)  # so that it can't be restarted before we have looked
    os.rename(own_stack.path("run/sync.sock"), own_stack.path("run/sync.away"))
    try:
        answer = own_stack.request("GET", "/sync/contact")
        assert (answer.status, answer.header("Retry-After"), answer.header("Content-Type")) == (503, "1", "application/problem+json"), answer
        assert own_stack.request("GET", "/async/contact").status == 200
    finally:
        os.rename(own_stack.path("run/sync.away"), own_stack.path("run/sync.sock"))
        os.kill(own_stack.children("sync")[0], signal.SIGCONT)


def test_postgres_stopped_and_started_is_a_503_and_then_all_is_well_again(own_stack):
    postgres = own_stack.children("postgres")[0]
    backends = descendants(postgres, 1)
    responders = own_stack.children("sync") + own_stack.children("async")
    workers = own_stack.workers()
    os.kill(postgres, signal.SIGINT)
    seen = {mode: set() for mode in MODES}

    def has_gone_and_come():
        for mode in MODES:
            for method, path, body in (("GET", "/contact", None), ("POST", "/order", ORDER)):
                answer = own_stack.request(method, f"/{mode}{path}", body)
                assert answer.status in (200, 201, 503), answer
                if answer.status == 503:
                    assert answer.json["status"] == 503 and answer.header("Content-Type") == "application/problem+json"
                    if method == "GET":
                        assert answer.header("Retry-After") == "1", answer
                    assert "/" not in answer.json["detail"]
                seen[mode].add(answer.status)
        return own_stack.children("postgres") not in ([], [postgres]) and all({200, 201} <= s for s in seen.values()) and not any(map(is_running, backends))

    eventually(has_gone_and_come, 40)
    eventually(lambda: all(own_stack.request("POST", f"/{mode}/order", ORDER).status == 201 for mode in MODES))
    assert own_stack.children("sync") + own_stack.children("async") == responders, "the responders had to be restarted"
    assert own_stack.workers() == workers, "workers died of it"


def test_a_database_that_is_away_is_a_503_on_both_servers(own_stack):
    postgres = own_stack.children("postgres")[0]
    os.kill(own_stack.process.pid, signal.SIGSTOP)  # nobody restarts it
    try:
        os.kill(postgres, signal.SIGINT)
        # It stays a zombie: its parent is stopped.
        eventually(lambda: not is_running(postgres))
        for mode in MODES:
            answer = eventually(lambda: (a := own_stack.request("GET", f"/{mode}/contact")).status == 503 and a)
            assert answer.header("Retry-After") == "1", answer
            answer = own_stack.request("POST", f"/{mode}/order", ORDER)
            assert (answer.status, answer.header("Retry-After")) == (503, "1"), answer
    finally:
        os.kill(own_stack.process.pid, signal.SIGCONT)
    eventually(lambda: all(own_stack.request("GET", f"/{mode}/contact").status == 200 for mode in MODES), 40, "the servers did not recover")


def test_a_statement_past_its_time_limit_is_a_504():
    with temporary_folder() as folder:
        stack = LocalStack(folder, FORKLOOP_STATEMENT_TIMEOUT=200)
        try:
            locker = subprocess.Popen(
                ["psql", "-Xq", "-c", "begin; lock table tag", "-c", "select pg_sleep(600)"],
                env=clean_environment(PGHOST=stack.path("run"), PGUSER="forkloop", PGDATABASE="forkloop"), stdin=subprocess.DEVNULL)
            try:
                eventually(lambda: stack.psql("select count(*) from pg_locks where relation = 'tag'::regclass and mode = 'AccessExclusiveLock'") == [("1",)])
                for method, body in (("GET", None), ("POST", {"name": "x"})):
                    assert stack.both(method, "/tag", body).status == 504
                # The neighbours of a read that fails are none the worse for it.
                answers = {}
                threads = [threading.Thread(target=lambda i=i, p=p: answers.__setitem__(i, stack.request("GET", p).status))
                           for i, p in enumerate(["/async/tag", "/async/contact"] * 10)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert [answers[i] for i in range(20)] == [504, 200] * 10
            finally:
                locker.kill()
                locker.wait()
        finally:
            stack.stop()


@pytest.mark.parametrize("mode", MODES)
def test_a_write_is_answered_when_it_is_committed_and_not_before(own_stack, mode):
    own_stack.psql("""
        create function refuse() returns trigger language plpgsql as $$ begin
          if new.name like 'late%' then raise exception 'at commit' using errcode = 'serialization_failure'; end if;
          return null; end $$;
        create constraint trigger late after insert on tag deferrable initially deferred for each row execute function refuse()""")
    with Load(own_stack.port, f"/{mode}/contact") as load:
        for i in range(20):
            refused = own_stack.request("POST", f"/{mode}/tag", {"name": f"late{i}"})
            assert refused.status >= 400, refused
            taken = own_stack.request("POST", f"/{mode}/tag", {"name": f"good{i}"})
            assert (taken.status, taken.json["name"]) == (201, f"good{i}"), taken
    assert set(load.answers) == {200} and load.broken == []
    assert own_stack.psql("select count(*), count(*) filter (where name like 'late%') from tag") == [("20", "0")]


@pytest.mark.parametrize("mode", MODES)
def test_a_read_whose_backend_is_terminated_is_repeated(own_stack, mode):
    lock = own_stack.psql_open("begin; lock table contact")
    answers = []
    reader = threading.Thread(target=lambda: answers.append(own_stack.request("GET", f"/{mode}/contact")))
    reader.start()
    try:
        waiting = "select pid from pg_stat_activity where wait_event_type = 'Lock' and query like '%contact%'"
        (victim,), = eventually(lambda: own_stack.psql(waiting), message="nobody waits for the lock")
        own_stack.psql(f"select pg_terminate_backend({victim})")
        eventually(lambda: [row for row in own_stack.psql(waiting) if row != (victim,)], message="the read was not repeated")
    finally:
        lock.kill()
        reader.join()
    assert [answer.status for answer in answers] == [200], answers


@pytest.mark.parametrize("mode", MODES)
def test_statements_that_wait_behind_each_other_each_have_their_own_time(mode):
    """Five writes that each wait for a lock for almost as long as a statement may take: none is given up with another."""
    with temporary_folder() as folder:
        stack = LocalStack(folder, FORKLOOP_STATEMENT_TIMEOUT="2000", FORKLOOP_ASYNC_DB_CONNECTIONS="1", FORKLOOP_SYNC_WORKERS="6")
        try:
            stack.psql("insert into contact (name, email) values ('c', 'c@example.org')")
            lock = stack.psql_open("begin; lock table contact")
            answers = []
            readers = [threading.Thread(target=lambda: answers.append(stack.request("POST", f"/{mode}/contact", {"name": "x", "email": "a@b"}))) for _ in range(5)]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join()
            lock.kill()
            assert [answer.status for answer in answers] == [504] * 5, answers
            eventually(lambda: stack.request("GET", f"/{mode}/contact").status == 200)
            assert len(stack.request("GET", f"/{mode}/contact").json) == 1
        finally:
            stack.stop()


def test_ctrl_c_under_load_fails_no_request_that_was_accepted():
    with temporary_folder() as folder:
        stack = LocalStack(folder)
        stack.psql("insert into contact (name, email) values ('c', 'c@example.org'); insert into product (name) values ('p')")
        processes = descendants(stack.process.pid, 3)
        with Load(stack.port, "/sync/order", ORDER) as sync, Load(stack.port, "/async/order", ORDER) as other:
            stack.process.send_signal(signal.SIGINT)
            assert stack.process.wait(60) == 0, stack.output()
        for load in (sync, other):
            assert set(load.answers) == {201}, load.answers
            # nginx closes its listening socket with connections still in the queue: the kernel resets those.
            assert all("ConnectionReset" in b or "RemoteDisconnected" in b for b in load.broken), load.broken
        assert [p for p in processes if is_running(p)] == []
        assert not os.path.exists(stack.path("run/sync.sock")) and not os.path.exists(stack.path("run/async.sock"))
        # What was acknowledged is there, and it comes up again on the same data.
        again = LocalStack(folder)
        assert int(again.psql('select count(*) from "order"')[0][0]) >= sync.count(201) + other.count(201)
        assert again.stop() == 0


@pytest.mark.parametrize("mode", MODES)
def test_term_to_a_responder_under_load_answers_what_it_had_accepted(own_stack, mode):
    with Load(own_stack.port, f"/{mode}/order", ORDER, threads=8) as load:
        os.kill(own_stack.children(mode)[0], signal.SIGTERM)
        eventually(lambda: f"{mode} exited with 0" in own_stack.output(), message="the responder did not drain")
        seen = load.count(201)
        eventually(lambda: load.count(201) > seen + 20, message="it was not restarted")
    # 503: nobody there, so nothing was accepted. A 502 would be a request that was begun and broken off.
    assert set(load.answers) <= {201, 503} and load.broken == [], (set(load.answers), load.broken)
    assert own_stack.psql('select count(*) from "order"') == [(str(load.count(201)),)]


def test_nothing_is_left_when_up_itself_is_killed():
    with temporary_folder() as folder:
        stack = LocalStack(folder)
        processes = descendants(stack.process.pid, 3)
        assert len(processes) > 10
        stack.stop(signal.SIGKILL)
        eventually(lambda: not any(map(is_running, processes)), message="processes outlived 'forkloop up'")
        again = LocalStack(folder)
        assert again.request("GET", "/sync/contact").status == 200
        assert again.stop() == 0


def test_a_slow_reader_does_not_hold_up_the_loop(stocked):
    stocked.psql("insert into \"order\" (name, contact_id) select repeat('x', 255), 1 from generate_series(1, 1000);"
                 "insert into order_line (order_id, product_id, quantity, price) select o, 1, 1, 1 from generate_series(1, 1000) o, generate_series(1, 30)")
    with connect(stocked, "async") as slow, connect(stocked, "async") as other:
        slow.sendall(fastcgi("/async/order", query="limit=1000"))
        for _ in range(50):
            other.sendall(fastcgi("/async/tag"))
            assert answer(other).startswith(b"Status: 200")
        assert len(answer(slow)) > 1_000_000


def test_a_thousand_idle_connections_are_served_in_between(stocked):
    clients = [connect(stocked, "async") for _ in range(1000)]
    try:
        for client in clients[::50]:
            client.sendall(fastcgi("/async/tag"))
            assert answer(client).startswith(b"Status: 200")
    finally:
        for client in clients:
            client.close()


def test_a_full_queue_is_a_503_at_once_and_the_loop_goes_on():
    """Orders wait for their contact's row: as many as pipelines and queue hold are kept, whoever comes then is told so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 12_000), hard))
    whole = fastcgi("/async/order", "POST", body=json.dumps(ORDER).encode(), content_type="application/json", keep=0)
    with temporary_folder() as folder:
        stack = LocalStack(folder, FORKLOOP_STATEMENT_TIMEOUT="120000")
        stack.psql("insert into contact (name, email) values ('c', 'c@example.org'); insert into product (name) values ('p')")
        lock = stack.psql_open("begin; select from contact where id = 1 for update")
        clients = []
        try:
            for _ in range(5_000):
                clients.append(connect(stack, "async"))
                clients[-1].sendall(whole)
            with connect(stack, "async") as other:  # needs no database
                other.sendall(fastcgi("/async/nothing", keep=0))
                assert b"404 Not Found" in answer(other)
            last = answer(clients.pop())
            assert b"Status: 503 " in last and b"Retry-After: 1" in last, last
            lock.kill()
            answers = [answer(client)[:11] for client in clients]
            assert set(answers) == {b"Status: 201", b"Status: 503"}
            assert answers.count(b"Status: 201") > 128, "the queue was full before the pipelines were"
            assert stack.psql('select count(*) from "order"') == [(str(answers.count(b"Status: 201")),)]
        finally:
            lock.kill()
            for client in clients:
                client.close()
            stack.stop()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_clients_that_hang_up_while_the_database_works_leave_nothing_behind(stocked):
    locker = subprocess.Popen(
        ["psql", "-Xq", "-c", "begin; lock table tag", "-c", "select pg_sleep(600)"],
        env=clean_environment(PGHOST=stocked.path("run"), PGUSER="forkloop", PGDATABASE="forkloop"), stdin=subprocess.DEVNULL)
    try:
        eventually(lambda: stocked.psql("select count(*) from pg_locks where relation = 'tag'::regclass and mode = 'AccessExclusiveLock'") == [("1",)])
        for _ in range(200):
            with connect(stocked, "async") as client:
                client.sendall(fastcgi("/async/tag"))
    finally:
        stocked.psql("select pg_terminate_backend(pid) from pg_stat_activity where query like 'select pg_sleep(600)%' and pid <> pg_backend_pid()")
        locker.wait()
    (loop,) = descendants(stocked.children("async")[0], 1)
    eventually(lambda: stocked.request("GET", "/async/tag").status == 200)
    eventually(lambda: len(os.listdir(f"/proc/{loop}/fd")) < 100, message="descriptors were left open")
