"""The event loop: what it shares, what it interleaves, and that nobody can hurt it."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest

from fastcgi_client import Clients, answer, begin, connect, connect_to, fastcgi, one_answer, pairs, record, records, with_id
from local_stack import PROGRAM, LocalStack, clean_environment, descendants, eventually, is_running, locked, temporary_folder
from responder import ONE_CONNECTION, responder
from test_faults import ORDER, Load

STOCK = "insert into contact (name, email) values ('c', 'c@example.org'); insert into product (name) values ('p')"
LOCKED = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and application_name = 'forkloop async'"


@contextlib.contextmanager
def settings(**values):
    """A stack whose event loop has settings of its own."""
    with temporary_folder() as folder:
        stack = LocalStack(folder, **{f"FORKLOOP_ASYNC_{name.upper()}": value for name, value in values.items()})
        stack.psql(STOCK)
        try:
            yield stack
        finally:
            stack.stop()


def status(stack):
    return stack.request("GET", "/async/status").json


def server_status(one):
    return json.loads(one.ask("/status")[1].partition(b"\r\n\r\n")[2])


def master(stack):
    return stack.children("async")[0]


def memory(process):
    """Resident, in kB."""
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{process}/status").read_text()).group(1))


def log(stack):
    return pathlib.Path(stack.path("log/async.log")).read_text()


# Shared reads

def waiting(stack):
    """Statements that wait for a connection, whatever they are taken for: on a busy machine the first run of one may be slow."""
    database = status(stack)["database"]
    return database["queue"] + database["slow_queue"]


def test_equal_reads_that_wait_are_answered_by_one_statement():
    with settings() as stack, locked(stack, "tag") as lock:
        before = status(stack)["database"]
        with Clients(stack, "/async/tag", 1) as first:
            eventually(lambda: stack.psql(LOCKED) == [("1",)])
            with Clients(stack, "/async/tag", 20) as clients:
                eventually(lambda: status(stack)["requests_under_way"] == 22, message="they have not all arrived")
                assert stack.psql(LOCKED) == [("1",)], "more than one statement was sent"
                lock.kill()
                answers = first.answers() + clients.answers()
        after = status(stack)["database"]
    assert len({re.sub(rb"(Server-Timing|X-Request-Id): .*", b"", a) for a in answers}) == 1 and answers[0].endswith(b"[]")
    assert after["statements"] - before["statements"] == 2 and after["shared_reads"] - before["shared_reads"] == 19, (before, after)


def test_of_a_read_that_costs_little_two_run_at_a_time_and_no_more():
    """What it costs is what it has lately taken: on a machine that is busy with other things it may have to be asked for again."""
    def two_run(stack):
        for _ in range(50):
            assert stack.request("GET", "/async/tag").status == 200
        with locked(stack, "tag") as lock, contextlib.ExitStack() as exits:
            before = status(stack)["database"]
            groups = [exits.enter_context(Clients(stack, "/async/tag", 1))]
            eventually(lambda: stack.psql(LOCKED) == [("1",)])
            groups.append(exits.enter_context(Clients(stack, "/async/tag", 1)))
            eventually(lambda: status(stack)["requests_under_way"] == 3, message="they have not all arrived")
            if stack.psql(LOCKED) != [("2",)]:
                lock.kill()
                assert all(b"200 OK" in answer for clients in groups for answer in clients.answers())
                return False
            groups.append(exits.enter_context(Clients(stack, "/async/tag", 10)))
            eventually(lambda: status(stack)["requests_under_way"] == 13, message="they have not all arrived")
            assert stack.psql(LOCKED) == [("2",)], "more than two statements were sent"
            lock.kill()
            assert all(b"200 OK" in answer for clients in groups for answer in clients.answers())
            after = status(stack)["database"]
        assert after["statements"] - before["statements"] == 3 and after["shared_reads"] - before["shared_reads"] == 9, (before, after)
        return True

    with settings() as stack:
        eventually(lambda: two_run(stack), 60, "the second waited for the first")


def test_reads_that_are_not_equal_are_not_shared(stocked):
    with locked(stocked, "tag") as lock:
        paths = ["/async/tag", "/async/tag/1", "/async/tag/2"]
        with contextlib.ExitStack() as exits:
            groups = [exits.enter_context(Clients(stocked, path, 1)) for path in paths]
            eventually(lambda: status(stocked)["requests_under_way"] >= 4)
            lock.kill()
            answers = [clients.answers()[0] for clients in groups]
    assert len(set(answers)) == 3 and b'"id":1' in answers[1] and b'"id":2' in answers[2]


def test_without_sharing_each_read_is_its_own_statement():
    with settings(share_reads=0) as stack:
        with locked(stack, "tag") as lock:
            before = status(stack)["database"]
            with Clients(stack, "/async/tag", 10) as clients:
                eventually(lambda: status(stack)["requests_under_way"] >= 11)
                lock.kill()
                assert all(b"200 OK" in a for a in clients.answers())
        after = status(stack)["database"]
        assert after["statements"] - before["statements"] == 10 and after["shared_reads"] == 0


def test_whoever_was_told_of_a_write_reads_it(stack):
    """Eight write and read at once, eight more keep the same read going: nobody misses what it has just written."""
    missed, ended = [], threading.Event()

    def read_on():
        while not ended.is_set():
            stack.request("GET", "/async/contact?limit=100")

    def write_and_read(number):
        for turn in range(10):
            created = stack.request("POST", "/async/contact", {"name": f"{number}-{turn}", "email": "a@example.org"})
            seen = stack.request("GET", "/async/contact?limit=100").json
            if created.json["id"] not in [row["id"] for row in seen]:
                missed.append(created.json)

    readers = [threading.Thread(target=read_on) for _ in range(8)]
    for reader in readers:
        reader.start()
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(write_and_read, range(8)))
    ended.set()
    for reader in readers:
        reader.join()
    assert missed == [] and stack.psql("select count(*) from contact") == [("80",)]
    assert status(stack)["database"]["shared_reads"] > 0, "nothing was shared: this has shown nothing"


def test_a_client_that_leaves_a_shared_read_takes_nobody_with_it():
    with settings() as stack, locked(stack, "tag") as lock:
        with Clients(stack, "/async/tag", 1) as first:
            eventually(lambda: stack.psql(LOCKED) == [("1",)])
            with Clients(stack, "/async/tag", 3) as clients:
                eventually(lambda: status(stack)["requests_under_way"] == 5)
                clients.clients.pop().close()
                eventually(lambda: status(stack)["requests_under_way"] == 4, message="who has gone still waits")
                lock.kill()
                assert all(b"200 OK" in a for a in first.answers() + clients.answers())


# Fairness

def test_a_slow_statement_holds_up_nobody_behind_it():
    """Two connections are reserved for reads that are known to be fast. Of the others one is stuck: the rest goes through those."""
    with settings(db_connections=5) as stack, locked(stack, "tag") as lock, contextlib.ExitStack() as exits:
        stuck = []
        for path in ("/async/tag", "/async/tag/1"):
            stuck.append(exits.enter_context(Clients(stack, path, 1)))
            eventually(lambda: stack.psql(LOCKED) == [(str(len(stuck)),)], message="it was put behind one that is stuck")
        for _ in range(40):
            assert stack.request("GET", "/async/contact/1").status == 200
            assert stack.request("POST", "/async/product", {"name": "x"}).status == 201
        assert stack.psql(LOCKED) == [("2",)]
        lock.kill()
        answers = [answer for clients in stuck for answer in clients.answers()]
        assert [answer.split()[1] for answer in answers] == [b"200", b"404"]


SLEEPING = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and application_name = 'forkloop async'"


def test_slow_reads_take_a_connection_each_but_for_two_and_the_others_pass_them(stack):
    """Two of the four are reserved for reads that are known to be fast: else as many slow ones as there are connections stop all."""
    few = {"FORKLOOP_ASYNC_DB_CONNECTIONS": 4, "FORKLOOP_ASYNC_SHARE_READS": 0}
    with responder("async", "--application", "workload", DB_HOST=stack.path("run"), **few) as one, contextlib.ExitStack() as exits:
        assert one.ask("/work")[0] == 200

        def slow(milliseconds):
            return [exits.enter_context(one.send("/work", query=f"time={milliseconds}")) for _ in range(12)]

        clients = slow(300)
        eventually(lambda: stack.psql(SLEEPING) == [("2",)], message="connections stayed idle although reads waited")
        for client in clients:
            answer(client)
        clients = slow(500)
        eventually(lambda: server_status(one)["database"]["slow_queue"] == 10, message="the slow ones do not wait for each other")
        assert one.ask("/work")[0] == 200
        assert server_status(one)["requests_under_way"] > 4, "a fast read waited for the slow ones before it"
        assert all(b"200 OK" in answer(client) for client in clients)


# Limits

def test_a_header_that_is_too_long_is_a_431(stocked):
    huge = b"".join(bytes([1, 4]) + b"X" + b"1234" for _ in range(201))
    for params in (huge, bytes([1]) + (70_000 | 1 << 31).to_bytes(4, "big") + b"X" + b"x" * 70_000):
        pieces = b"".join(record(4, params[i:i + 60_000]) for i in range(0, len(params), 60_000))
        with connect(stocked, "async") as client:
            client.sendall(record(1, bytes([0, 1, 1, 0, 0, 0, 0, 0])) + pieces + record(4) + record(5))
            assert answer(client).startswith(b"Status: 431 ")
            client.sendall(fastcgi("/async/tag"))
            assert answer(client).startswith(b"Status: 200 ")


def test_a_peer_that_sends_a_byte_a_moment_is_let_go_and_an_idle_one_is_not():
    with settings(peer_timeout=1) as stack, connect(stack, "async") as slow, connect(stack, "async") as idle:
        whole = fastcgi("/async/tag")
        with pytest.raises(OSError):
            for byte in whole * 100:
                slow.sendall(bytes([byte]))
                if slow.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"":
                    raise ConnectionResetError
                time.sleep(0.05)
        idle.sendall(whole)
        assert answer(idle).startswith(b"Status: 200 ")
        assert "a peer took too long" in log(stack)


def test_a_peer_that_takes_no_answers_costs_a_bounded_buffer_and_is_let_go():
    with settings(peer_timeout=2) as stack:
        stack.psql("insert into contact (name, email) select repeat('x', 200), 'c@example.org' from generate_series(1, 100)")
        (loop,) = descendants(master(stack), 1)
        before = memory(loop)
        with connect(stack, "async") as greedy:
            greedy.settimeout(1)
            with pytest.raises(OSError):
                for number in range(1, 60_000):
                    greedy.sendall(with_id(fastcgi("/async/contact", query="limit=100"), number))
            assert memory(loop) - before < 20_000, "kB: what it does not take is heaped up"
            eventually(lambda: "a peer took too long" in log(stack), message="it was not let go")
        assert stack.request("GET", "/async/contact").status == 200


def test_a_peer_that_takes_its_answers_late_gets_all_of_them():
    with settings() as stack, connect(stack, "async") as late:
        stack.psql("insert into contact (name, email) select repeat('x', 200), 'c@example.org' from generate_series(1, 100)")
        stream = records(late)
        before = status(stack)["memory"]["backlogged_answers"]
        for _ in range(3):
            for number in range(1, 17):
                late.sendall(with_id(fastcgi("/async/contact", query="limit=100"), number))
            time.sleep(0.2)  # More than half of them no longer find space in the socket.
            answers = [one_answer(stream) for _ in range(16)]
            assert sorted(number for number, _ in answers) == list(range(1, 17))
            (body,) = {whole.partition(b"\r\n\r\n")[2] for _, whole in answers}
            assert body.count(b"x" * 200) == 99 and body.endswith(b"]")
        assert status(stack)["memory"]["backlogged_answers"] > before, "the socket took them all: this has shown nothing"


def test_a_peer_that_is_always_behind_is_kept_as_long_as_it_takes_what_waits():
    with settings(peer_timeout=1) as stack, connect(stack, "async") as late:
        stack.psql("insert into contact (name, email) select repeat('x', 200), 'c@example.org' from generate_series(1, 100)")
        stream = records(late)
        for number in range(1, 17):
            late.sendall(with_id(fastcgi("/async/contact", query="limit=100"), number))
        for _ in range(400):  # Each is asked for again when it has come: sixteen answers are more than the socket holds.
            number, whole = one_answer(stream)
            assert whole.endswith(b"]")
            late.sendall(with_id(fastcgi("/async/contact", query="limit=100"), number))
            time.sleep(0.01)
        assert status(stack)["memory"]["backlogged_answers"] > 300, "it was not behind: this has shown nothing"


def test_a_connection_that_nobody_uses_is_closed_at_last():
    with settings(idle_timeout=1) as stack, connect(stack, "async") as client:
        client.sendall(fastcgi("/async/tag"))
        assert answer(client).startswith(b"Status: 200 ")
        # It is told before, by an empty STDERR record.
        assert list(records(client)) == [(7, 1, b"")]


@pytest.mark.parametrize("sent", [b"", record(9, pairs({"FCGI_MAX_REQS": ""}), 0), begin() + record(2)], ids=["nothing", "GET_VALUES", "an abort"])
def test_a_connection_that_has_never_asked_for_anything_is_closed_at_last(stocked, sent):
    with responder("async", "--idle-timeout", "1", DB_HOST=stocked.path("run")) as one, connect_to(one.path) as client:
        client.sendall(sent)
        assert {kind for kind, _, _ in records(client)} <= {3, 10}


@pytest.mark.parametrize("shares", ["--share-reads", "--no-share-reads"])
def test_whoever_goes_before_anybody_has_looked_has_asked_for_nothing(stocked, shares):
    with responder("async", shares, DB_HOST=stocked.path("run"), **ONE_CONNECTION) as one:
        loop, = descendants(one.process.pid, 1)
        with locked(stocked, "tag") as lock, one.send("/tag") as first:
            eventually(lambda: stocked.psql(LOCKED) == [("1",)])
            os.kill(loop, signal.SIGSTOP)
            for number in range(5):
                one.send("/tag", "POST", b'{"name":"gone %d"}' % number).close()
                one.send(f"/contact/{number + 1}").close()
            os.kill(loop, signal.SIGCONT)
            eventually(lambda: json.loads(one.ask("/status")[1].split(b"\r\n\r\n", 1)[1])["requests_under_way"] == 2, message="they still wait")
            lock.kill()
            assert answer(first).startswith(b"Status: 200 ")
        assert stocked.psql("select from tag where name like 'gone%'") == []


def test_connections_beyond_the_limit_wait_until_one_has_gone():
    with settings(max_connections=5) as stack:
        clients = [connect(stack, "async") for _ in range(8)]
        for client in clients:
            client.sendall(fastcgi("/async/contact/1"))
        for client in clients[:5]:
            assert answer(client).startswith(b"Status: 200 ")
        eventually(lambda: "5 connections: no more are accepted for now" in log(stack))
        for client in clients[:5]:
            client.close()
        for client in clients[5:]:
            assert answer(client).startswith(b"Status: 200 ")
            client.close()


def test_ten_thousand_connections_most_idle_a_few_slow_are_all_served():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 24_000), hard))
    clients = []
    try:
        with settings() as stack:
            clients = [connect(stack, "async") for _ in range(10_000)]
            eventually(lambda: status(stack)["connections"] > 10_000, 60, "they were not all accepted")
            whole = fastcgi("/async/contact/1")
            for client in clients[::100]:
                client.sendall(whole[:20])
            for client in clients[50::100]:
                client.sendall(whole)
            for client in clients[50::100]:
                assert answer(client).startswith(b"Status: 200 ")
            for client in clients[::100]:
                client.sendall(whole[20:])
                assert answer(client).startswith(b"Status: 200 ")
            (loop,) = descendants(master(stack), 1)
            pss = int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{loop}/smaps_rollup").read_text(), re.M).group(1))
            assert pss < 120_000, f"{pss} kB for 10,000 idle connections"
    finally:
        for client in clients:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_bodies_do_not_stay_in_memory_while_their_requests_wait():
    """Two hundred megabytes of white space, around orders that wait for their contact's row."""
    with settings() as stack:
        (loop,) = descendants(master(stack), 1)
        lock = stack.psql_open("begin; select from contact where id = 1 for update")
        clients = []
        try:
            padded = json.dumps(ORDER).encode() + b" " * 1_000_000
            whole = fastcgi("/async/order", "POST", body=padded, content_type="application/json", keep=0)
            for _ in range(200):
                clients.append(connect(stack, "async"))
                clients[-1].sendall(whole)
            eventually(lambda: status(stack)["requests_under_way"] == 201, message="they have not all arrived")
            taken = memory(loop)
            assert taken < 100_000, f"the loop takes {taken} kB"
            lock.kill()
            assert {answer(client)[:19] for client in clients} == {b"Status: 201 Created"}
        finally:
            lock.kill()
            for client in clients:
                client.close()


def test_a_write_whose_client_has_gone_before_it_was_sent_is_not_carried_out():
    with settings(db_connections=1) as stack:
        stack.request("POST", "/async/tag", {"name": "known"})
        with locked(stack, "tag") as lock:
            with Clients(stack, "/async/tag", 1):
                eventually(lambda: stack.psql(LOCKED) == [("1",)])
                # Held up: nothing is put behind a statement that does not end.
                time.sleep(0.02)
                gone, stays = [connect(stack, "async") for _ in range(2)]
                for client, name in ((gone, b"gone"), (stays, b"stays")):
                    client.sendall(fastcgi("/async/tag", "POST", body=b'{"name":"%s"}' % name, content_type="application/json"))
                eventually(lambda: waiting(stack) == 2, message="they do not wait in the queue")
                gone.close()
                eventually(lambda: status(stack)["requests_under_way"] == 3)
                lock.kill()
                assert b"201 Created" in answer(stays)
                stays.close()
        assert stack.psql("select name from tag order by id") == [("known",), ("stays",)]
        assert status(stack)["database"]["abandoned"] >= 1


# Its own health

def test_a_read_that_is_lost_with_its_connection_is_not_repeated_for_a_client_that_has_gone():
    with settings() as stack, locked(stack, "tag") as lock:
        with connect(stack, "async") as client:
            client.sendall(fastcgi("/async/tag"))
            eventually(lambda: stack.psql(LOCKED) == [("1",)])
        stack.psql(LOCKED.replace("count(*)", "pg_terminate_backend(pid)"))
        eventually(lambda: status(stack)["requests_under_way"] == 1)
        assert status(stack)["database"]["statements"] == 1, "it was sent once more"
        lock.kill()


def test_the_status_is_answered_while_the_database_is_away_and_the_queue_is_full():
    with settings(db_queue=1, db_connections=1) as stack:
        assert stack.request("GET", "/async/contact/1").status == 200
        with locked(stack, "contact"):
            clients = [connect(stack, "async") for _ in range(2)]
            clients[0].sendall(fastcgi("/async/contact/1"))
            eventually(lambda: stack.psql(LOCKED) == [("1",)])
            clients[1].sendall(fastcgi("/async/contact/2"))
            eventually(lambda: status(stack)["database"]["queue"] == 1, message="nothing waits in the queue")
            assert stack.request("GET", "/async/contact/3").status == 503
            now = status(stack)
            assert now["requests_under_way"] == 3 and now["database"]["refused"] == 1, now
            for client in clients:
                client.close()
        os.kill(stack.children("postgres")[0], signal.SIGSTOP)
        try:
            assert status(stack)["mode"] == "async"
        finally:
            os.kill(stack.children("postgres")[0], signal.SIGCONT)


def test_the_metrics_are_open_metrics(stocked):
    stocked.request("GET", "/async/contact")
    answered = stocked.request("GET", "/async/metrics")
    assert answered.header("Content-Type") == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    text = answered.body.decode()
    assert text.endswith("# EOF\n")
    families = re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M)
    assert len(families) == len(set(families)) and len(families) > 15
    for line in text.splitlines()[:-1]:
        assert re.fullmatch(r'# (TYPE|UNIT|HELP) \w+ .+|\w+(\{\w+="[^"]*"\})? [0-9.]+', line), line
        name = line.split()[2] if line.startswith("#") else re.match(r"\w+", line).group()
        assert any(name in (f, *(f"{f}_{s}" for s in ("total", "bucket", "sum", "count"))) for f, _ in families), line
    assert int(re.search(r"^forkloop_async_request_seconds_count (\d+)$", text, re.M).group(1)) > 0


def test_the_loop_tells_what_it_does_and_what_it_saves(stocked):
    before = status(stocked)
    for _ in range(50):
        assert stocked.request("GET", "/async/contact").status == 200
    after = status(stocked)
    loop, memory = after["loop"], after["memory"]
    assert loop["turns"] > before["loop"]["turns"] and loop["longest_turn_seconds"] * loop["turns"] >= loop["busy_seconds"] > 0
    assert loop["timers"] > 0 and loop["longest_lag_seconds"] * loop["timers"] >= loop["lag_seconds"] > 0
    # A read, a head and the records of each.
    assert memory["allocations_avoided"] - before["memory"]["allocations_avoided"] >= 150 and 0 < memory["heap_bytes"] < 100_000_000, memory
    text = stocked.request("GET", "/async/metrics").body.decode()
    for name in ("turn_seconds", "timer_lag_seconds", "request_seconds"):
        (count,) = re.findall(rf"^forkloop_async_{name}_count (\d+)$", text, re.M)
        assert re.findall(rf'^forkloop_async_{name}_bucket{{le="\+Inf"}} (\d+)$', text, re.M) == [count] and int(count) > 0


def test_a_turn_that_takes_long_is_logged_with_what_it_did():
    with settings(slow_turn=1) as stack:
        stack.psql("""
            insert into "order" (name, contact_id) select 'o' || i, 1 from generate_series(1, 100) i;
            insert into order_line (order_id, product_id, quantity, price) select o, 1, 1, 1 from generate_series(1, 100) o, generate_series(1, 500)""")
        assert stack.request("GET", "/async/order?limit=100").status == 200
        eventually(lambda: re.search(r"slow: a turn of the loop took \d+ ms, .* bytes for order_list", log(stack)), message=log(stack))
        assert status(stack)["loop"]["slow_turns"] > 0


# Processes

def test_reloads_under_load_lose_nothing():
    with settings() as stack:
        with Load(stack.port, "/async/contact", threads=2) as reads, Load(stack.port, "/async/order", ORDER, threads=2) as writes:
            before = master(stack)
            for _ in range(20):
                done = status(stack)["reloads"]
                os.kill(before, signal.SIGHUP)
                eventually(lambda: status(stack)["reloads"] > done, message="it did not reload")
        assert reads.broken == writes.broken == [], (reads.broken, writes.broken)
        assert set(reads.answers) == {200} and set(writes.answers) == {201}, (set(reads.answers), set(writes.answers))
        assert stack.psql('select count(*) from "order"') == [(str(len(writes.answers)),)]
        assert master(stack) == before, "a reload changed the process id"
        now = eventually(lambda: (s := status(stack)) and len(s["loops"]) == 1 and s, message="the old loops did not go")
        assert now["requests"] >= len(reads.answers) + len(writes.answers), "counters were lost in a reload"


def test_a_request_under_way_survives_a_reload(stocked):
    with locked(stocked, "tag") as lock, Clients(stocked, "/async/tag", 3) as clients:
        eventually(lambda: stocked.psql(LOCKED) != [("0",)])
        old = descendants(master(stocked), 1)
        os.kill(master(stocked), signal.SIGHUP)
        eventually(lambda: set(descendants(master(stocked), 1)) - set(old), message="no new loop came")
        eventually(lambda: {l["state"] for l in status(stocked)["loops"]} == {"draining", "serving"})
        lock.kill()
        assert all(b"shopping" in a for a in clients.answers())
    eventually(lambda: not any(map(is_running, old)), message="the old loop did not go")


def test_connections_are_spread_evenly_over_loops_and_a_dead_loop_is_replaced():
    with settings(loops=3) as stack:
        def counts():
            return sorted(loop["connections"] for loop in status(stack)["loops"])
        eventually(lambda: len(counts()) == 3)
        clients = [connect(stack, "async") for _ in range(60)]
        eventually(lambda: sum(counts()) >= 61)
        # Two may accept in the same moment; a loop that is always the first would have had them all.
        assert counts()[0] >= 12, f"60 connections were spread as {counts()}"
        for client in clients:
            client.sendall(fastcgi("/async/contact/1"))
            assert answer(client).startswith(b"Status: 200 ")
        loops = descendants(master(stack), 1)
        lost = next(loop["connections"] for loop in status(stack)["loops"] if loop["pid"] == loops[0])
        os.kill(loops[0], signal.SIGKILL)
        eventually(lambda: len(now := descendants(master(stack), 1)) == 3 and loops[0] not in now, message="it was not replaced")
        alive = 0
        for client in clients:
            with contextlib.suppress(OSError, AssertionError):
                client.sendall(fastcgi("/async/contact/1"))
                alive += answer(client).startswith(b"Status: 200 ")
            client.close()
        # Of those that were lost some may have been nginx's.
        assert 60 - lost <= alive <= 60 - lost + 3, f"{alive} of 60 connections live after a loop with {lost} died"
        eventually(lambda: status(stack)["crashed_loops"] == 1)
        for _ in range(20):
            assert stack.request("GET", "/async/contact").status == 200


def test_no_loop_outlives_a_killed_master(own_stack):
    loops = descendants(master(own_stack), 1)
    os.kill(master(own_stack), signal.SIGKILL)
    eventually(lambda: not any(map(is_running, loops)), 5, "a loop outlived its master")


def test_the_log_is_begun_anew_on_usr1(own_stack):
    with temporary_folder() as folder:
        path = pathlib.Path(folder, "log")
        command = [PROGRAM, "async", "--listen", f"unix:{folder}/s.sock", "--log", str(path)]
        process = subprocess.Popen(command, env=clean_environment(DB_HOST=own_stack.path("run"), DB_NAME="forkloop", DB_USER="forkloop"))
        try:
            eventually(lambda: path.exists() and "listening" in path.read_text())
            loops = eventually(lambda: descendants(process.pid, 1))
            path.rename(f"{folder}/old")
            process.send_signal(signal.SIGUSR1)
            for number in [process.pid, *loops]:
                eventually(lambda: os.readlink(f"/proc/{number}/fd/2") == str(path), message=f"{number} still writes to the old log")
        finally:
            process.terminate()
            assert process.wait(30) == 0
