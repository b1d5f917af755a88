"""The prefork pool's manager, against real processes and, where requests count, through real nginx."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from fastcgi_client import answer, fastcgi
from local_stack import PROGRAM, LocalStack, clean_environment, descendants, eventually, is_running, listens, temporary_folder
from test_faults import ORDER, Load

LONGEST_QUEUE = int(pathlib.Path("/proc/sys/net/core/somaxconn").read_text())
STOCK = "insert into contact (name, email) values ('c', 'c@example.org'); insert into product (name) values ('p')"


@contextlib.contextmanager
def pool(**settings):
    """A stack whose prefork pool has these settings."""
    with temporary_folder() as folder:
        stack = LocalStack(folder, **{f"FORKLOOP_SYNC_{name.upper()}": value for name, value in settings.items()})
        try:
            stack.psql(STOCK)
            yield stack
        finally:
            code = stack.stop()
        assert code == 0, stack.output()


def status(stack):
    answer = stack.request("GET", "/sync/status")
    assert answer.status == 200, answer
    return answer.json


def master(stack):
    return stack.children("sync")[0]


def log(stack):
    return pathlib.Path(stack.path("log/sync.log")).read_text()


class Stuck:
    """Orders that wait for their contact's row until the end of the block."""

    def __init__(self, stack, count):
        self.stack, self.count, self.answers = stack, count, []

    def __enter__(self):
        self.lock = self.stack.psql_open("begin; select from contact where id = 1 for update")
        self.threads = [threading.Thread(target=self._ask) for _ in range(self.count)]
        for thread in self.threads:
            thread.start()
        return self

    def _ask(self):
        self.answers.append(self.stack.request("POST", "/sync/order", ORDER, timeout=60).status)

    def __exit__(self, *_):
        self.lock.kill()
        for thread in self.threads:
            thread.join()


def test_fifty_reloads_under_load_lose_nothing():
    with pool(workers=4) as stack:
        with Load(stack.port, "/sync/contact", threads=2) as reads, Load(stack.port, "/sync/order", ORDER, threads=2) as writes:
            before = master(stack)
            for _ in range(50):
                done = status(stack)["reloads"]
                os.kill(before, signal.SIGHUP)
                eventually(lambda: status(stack)["reloads"] > done, message="it did not reload")
        assert reads.broken == writes.broken == [], (reads.broken, writes.broken)
        assert set(reads.answers) == {200} and set(writes.answers) == {201}
        assert stack.psql('select count(*) from "order"') == [(str(len(writes.answers)),)]
        assert master(stack) == before, "a reload changed the master's process id"
        now = eventually(lambda: (s := status(stack)) and len(s["workers"]) == 4 and s, message="the old workers did not go")
        assert now["requests"] >= len(reads.answers) + len(writes.answers), "counters were lost in a reload"
        assert {w["generation"] for w in now["workers"]} == {51}


@contextlib.contextmanager
def alone(own_stack, **settings):
    """`forkloop sync` by itself in a folder with a `.env`, on the database of a stack. Gives the folder and the process."""
    with temporary_folder() as folder:
        write_settings(own_stack, folder, **settings)
        program = f"{folder}/forkloop"
        shutil.copy(PROGRAM, program)
        with open(f"{folder}/log", "w") as out:
            process = subprocess.Popen([program, "sync"], cwd=folder, env=clean_environment(), stdout=out, stderr=out)
        try:
            eventually(lambda: listens(f"{folder}/s.sock") and ask(folder) and True, message="it did not start")
            yield folder, process
        finally:
            process.terminate()
            process.wait(30)


def write_settings(own_stack, folder, **settings):
    values = {"DB_HOST": own_stack.path("run"), "DB_NAME": "forkloop", "DB_USER": "forkloop", "FORKLOOP_SYNC_LISTEN": f"unix:{folder}/s.sock",
              **{f"FORKLOOP_SYNC_{name.upper()}": value for name, value in settings.items()}}
    pathlib.Path(folder, ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))


def ask(folder, path="/sync/tag"):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(f"{folder}/s.sock")
        client.sendall(fastcgi(path, keep=0))
        return answer(client)


def test_a_reload_with_a_wrong_setting_changes_nothing_and_says_why(own_stack):
    with alone(own_stack, workers=2) as (folder, process):
        workers = eventually(lambda: (w := descendants(process.pid, 1)) and len(w) == 2 and w)
        write_settings(own_stack, folder, workers="many")
        process.send_signal(signal.SIGHUP)
        eventually(lambda: "not reloaded" in pathlib.Path(folder, "log").read_text(), message="it did not say why")
        assert "FORKLOOP_SYNC_WORKERS must be an integer" in pathlib.Path(folder, "log").read_text()
        assert descendants(process.pid, 1) == workers
        write_settings(own_stack, folder, workers=3)
        process.send_signal(signal.SIGHUP)
        eventually(lambda: len(w := descendants(process.pid, 1)) == 3 and not set(w) & set(workers), message="it did not reload")
        assert b"200 OK" in ask(folder)


def test_a_reload_picks_up_a_changed_program_and_refuses_a_broken_one(own_stack):
    with alone(own_stack, workers=1) as (folder, process):
        os.rename(f"{folder}/forkloop", f"{folder}/good")
        pathlib.Path(folder, "forkloop").write_text("#!/bin/sh\nexit 3\n")
        os.chmod(f"{folder}/forkloop", 0o755)
        process.send_signal(signal.SIGHUP)
        eventually(lambda: "not reloaded" in pathlib.Path(folder, "log").read_text(), message="it did not refuse")
        assert b"200 OK" in ask(folder)
        os.unlink(f"{folder}/forkloop")
        shutil.copy(f"{folder}/good", f"{folder}/forkloop")
        process.send_signal(signal.SIGHUP)
        new = os.stat(f"{folder}/forkloop").st_ino
        eventually(lambda: os.stat(f"/proc/{process.pid}/exe").st_ino == new, message="the new program was not picked up")
        assert b"200 OK" in ask(folder)


def test_a_reload_can_move_to_another_socket(own_stack):
    with alone(own_stack, workers=1) as (folder, process):
        text = pathlib.Path(folder, ".env").read_text()
        pathlib.Path(folder, ".env").write_text(text.replace("s.sock", "other.sock"))
        process.send_signal(signal.SIGHUP)
        eventually(lambda: listens(f"{folder}/other.sock"), message="the new socket did not come")
        os.rename(f"{folder}/other.sock", f"{folder}/s.sock")
        assert b"200 OK" in ask(folder)


def test_nothing_outlives_a_killed_master(own_stack):
    with alone(own_stack, workers=4) as (folder, process):
        workers = eventually(lambda: (w := descendants(process.pid, 1)) and len(w) == 4 and w)
        lock = own_stack.psql_open("begin; lock table contact")
        client = socket.socket(socket.AF_UNIX)
        client.connect(f"{folder}/s.sock")
        client.sendall(fastcgi("/sync/contact", keep=0))
        eventually(lambda: own_stack.psql("select 1 from pg_stat_activity where wait_event_type = 'Lock'"), message="no worker got stuck")
        process.kill()
        process.wait()
        eventually(lambda: not any(is_running(worker) for worker in workers), 5, "a worker outlived its master")
        lock.kill()
        client.close()


@pytest.mark.parametrize("phase", ["connected", "reading", "database", "writing"])
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH])
def test_a_request_ends_well_whatever_it_was_doing_when_the_signal_came(own_stack, phase, sig):
    own_stack.psql("insert into contact (name, email) select repeat('x', 200), 'a@b' from generate_series(1, 3000)")
    with alone(own_stack, workers=1) as (folder, process):
        lock = own_stack.psql_open("begin; select from contact where id = 1 for update") if phase == "database" else None
        (worker,) = descendants(process.pid, 1)
        whole = fastcgi("/sync/contact", query="limit=1000", keep=0)
        if phase == "database":
            whole = fastcgi("/sync/order", "POST", body=json.dumps(ORDER).encode(), content_type="application/json", keep=0)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(f"{folder}/s.sock")
            cut = {"connected": 0, "reading": len(whole) // 2}.get(phase, len(whole))
            client.sendall(whole[:cut])
            if phase == "database":
                eventually(lambda: own_stack.psql("select 1 from pg_stat_activity where wait_event_type = 'Lock'"), message="it did not get to the database")
            if phase == "writing":
                client.recv(1)
            if phase == "reading":
                eventually(lambda: len(os.listdir(f"/proc/{worker}/fd")) > 0 and any(
                    "socket:" in os.readlink(f"/proc/{worker}/fd/{fd}") for fd in os.listdir(f"/proc/{worker}/fd")))
            process.send_signal(sig)
            time.sleep(0.3)  # for the signal to do its worst
            client.sendall(whole[cut:])
            if lock:
                lock.kill()
            got = b""
            while piece := client.recv(65536):
                got += piece
        wanted = b"Status: 201 Created" if phase == "database" else b"Status: 200 OK"
        assert wanted in got if phase != "writing" else len(got) > 200_000, got[:300]
        assert got[-16:-8] == bytes([1, 3, 0, 1, 0, 8, 0, 0]), "the answer has no end"
        if sig == signal.SIGTERM:
            assert process.wait(30) == 0


def test_workers_that_die_at_once_are_not_replaced_at_full_speed(own_stack):
    seen = set()
    with alone(own_stack, workers=1) as (folder, process):
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            for worker in descendants(process.pid, 1):
                seen.add(worker)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
            time.sleep(0.005)
        assert 2 <= len(seen) <= 12, f"{len(seen)} workers were started in three seconds"
        assert "workers die at once" in pathlib.Path(folder, "log").read_text()
        assert b"200 OK" in eventually(lambda: ask(folder), message="the pool did not recover")


def test_the_status_answers_while_every_worker_is_stuck():
    with pool(workers=3) as stack:
        with Stuck(stack, 8) as stuck:
            seen = eventually(lambda: (s := status(stack)) and s["listen_queue"] == 5 and s, message="nobody waited in the queue")
            assert (seen["workers_active"], seen["workers_idle"], seen["workers_max"], seen["listen_queue_length"]) == (3, 0, 3, LONGEST_QUEUE)
            eventually(lambda: {(w["state"], w["method"], w["path"]) for w in status(stack)["workers"]} == {("database", "POST", "/sync/order")},
                       message="the status does not show what the workers do")
            text = stack.request("GET", "/sync/metrics").body.decode()
            assert 'forkloop_sync_workers{state="database"} 3\n' in text and "forkloop_sync_listen_queue 5\n" in text
            assert text.endswith("# EOF\n")
        assert stuck.answers == [201] * 8
        after = status(stack)
        assert (after["requests"], after["max_listen_queue"] >= 5, after["max_active_workers"]) == (8, True, 3)


def test_the_status_is_for_private_addresses_only_and_for_nothing_else(own_stack):
    assert own_stack.request("GET", "/sync/status/x").status == 404
    assert own_stack.request("HEAD", "/sync/status").body == b""
    site = pathlib.Path(own_stack.path("nginx/site.conf")).read_text()
    for path in ("sync/status", "sync/metrics", "async/status", "async/metrics"):
        assert "forkloop-private.conf" in site.split(f"location = /{path} {{")[1].split("}")[0], path


def test_ondemand_goes_from_none_to_as_many_as_are_wanted_and_back():
    with pool(pm="ondemand", workers=4, idle_timeout=1) as stack:
        # Whoever looked whether the stack is up has woken one.
        eventually(lambda: stack.workers() == [], message="an idle worker did not leave")
        assert stack.request("GET", "/sync/contact").status == 200
        with Stuck(stack, 6):
            eventually(lambda: len(stack.workers()) == 4, message="not as many as are allowed were started")
            eventually(lambda: status(stack)["listen_queue"] == 2)
        assert status(stack)["max_workers_reached"] >= 1
        eventually(lambda: stack.workers() == [], message="idle workers did not leave")
        assert stack.request("GET", "/sync/contact").status == 200


def test_dynamic_keeps_between_min_and_max_spare():
    with pool(pm="dynamic", workers=8, start=2, min_spare=2, max_spare=3) as stack:
        # Whoever looked whether the stack is up has kept one busy: another may have come to its side.
        eventually(lambda: len(stack.workers()) in (2, 3))
        with Stuck(stack, 5):
            eventually(lambda: (s := status(stack)) and s["workers_active"] == 5 and s["workers_idle"] in (2, 3), message="no spare workers came")
        eventually(lambda: status(stack)["workers_idle"] == 3, message="too many idle workers stayed")


def test_workers_are_recycled_under_load_without_loss():
    with pool(workers=3, max_requests=20, max_requests_jitter=20) as stack:
        before = set(stack.workers())
        with Load(stack.port, "/sync/order", ORDER) as load:
            eventually(lambda: status(stack)["recycled_workers"] > 20, message="nobody was recycled")
        assert load.broken == [] and set(load.answers) == {201}
        assert stack.psql('select count(*) from "order"') == [(str(len(load.answers)),)]
        assert not before & set(stack.workers())
        assert status(stack)["crashed_workers"] == 0


def test_a_worker_that_has_grown_is_recycled():
    with pool(workers=1, max_rss=1) as stack:
        first = stack.workers()
        eventually(lambda: stack.request("GET", "/sync/contact").status == 200 and stack.workers() not in (first, []), message="nobody was recycled")
        assert status(stack)["recycled_workers"] >= 1


def test_a_request_past_its_time_is_a_504_and_an_idle_worker_is_left_alone():
    with pool(workers=2, request_timeout=700) as stack:
        idle = stack.workers()
        time.sleep(1.5)
        assert stack.workers() == idle, "an idle worker was killed"
        # The database's own limit would come first, if the database were not standing still.
        for (process,) in stack.psql("select pid from pg_stat_activity where application_name = 'forkloop sync'"):
            os.kill(int(process), signal.SIGSTOP)
        try:
            got = stack.request("GET", "/sync/contact")
            assert (got.status, got.json["status"], got.header("Content-Type")) == (504, 504, "application/problem+json"), got
        finally:
            for process in descendants(stack.children("postgres")[0], 1):
                os.kill(process, signal.SIGCONT)
        eventually(lambda: len(stack.workers()) == 2 and set(stack.workers()) != set(idle), message="the worker was not replaced")
        assert "GET /sync/contact took more than 700 ms, now database" in log(stack)
        assert status(stack)["timed_out_requests"] == 1
        assert stack.request("GET", "/sync/contact").status == 200


def test_the_database_lets_go_before_the_worker_is_given_up():
    with pool(workers=1, request_timeout=1000) as stack:
        worker = stack.workers()
        with Stuck(stack, 1) as stuck:
            eventually(lambda: stuck.answers == [504], message="it was not given up")
        assert stack.workers() == worker, "the worker was killed although the database had let go"


def test_a_slow_request_is_logged_with_its_phases():
    with pool(workers=1, slow=200) as stack:
        lock = stack.psql_open("begin; lock table contact")
        threading.Timer(0.5, lock.kill).start()
        assert stack.request("GET", "/sync/contact", headers={"X-Request-Id": "slow-one"}).status == 200
        line = eventually(lambda: [l for l in log(stack).splitlines() if "slow:" in l], message="nothing was logged")[0]
        assert re.search(r"slow: GET /sync/contact took \d+ ms: reading \d+, database \d{3}, writing \d+ request=slow-one", line), line
        assert status(stack)["slow_requests"] == 1


def test_a_worker_more_a_worker_less_none_and_back():
    with pool(workers=2) as stack:
        for sig, count in ((signal.SIGTTIN, 3), (signal.SIGTTOU, 2), (signal.SIGTTOU, 1), (signal.SIGTTOU, 1), (signal.SIGWINCH, 0), (signal.SIGHUP, 2)):
            os.kill(master(stack), sig)
            eventually(lambda: len(stack.workers()) == count, message=f"{sig!r} did not lead to {count} workers")
        assert stack.request("GET", "/sync/contact").status == 200


def test_a_worker_without_a_database_says_503_and_lives(own_stack):
    with alone(own_stack, workers=1) as (folder, process):
        text = pathlib.Path(folder, ".env").read_text()
        pathlib.Path(folder, ".env").write_text(text.replace(own_stack.path("run"), "/nowhere"))
        before = descendants(process.pid, 1)
        process.send_signal(signal.SIGHUP)
        worker = eventually(lambda: (w := descendants(process.pid, 1)) and len(w) == 1 and w != before and w, message="it did not reload")
        assert b"503 Service Unavailable" in ask(folder)
        assert descendants(process.pid, 1) == worker


def test_whoever_waited_too_long_in_the_queue_is_told_at_once_to_come_back():
    with pool(workers=1, max_queue_wait=300) as stack:
        with Stuck(stack, 6) as stuck:
            eventually(lambda: status(stack)["listen_queue"] == 5, message="nobody waited")
            time.sleep(1)
        assert sorted(stuck.answers) == [201] + [503] * 5, stuck.answers
        assert status(stack)["shed_requests"] == 5
        assert stack.psql('select count(*) from "order"') == [("1",)]
        with Load(stack.port, "/sync/contact") as load:
            eventually(lambda: len(load.answers) > 500)
        assert set(load.answers) == {200}, "somebody was sent away who had not waited"
