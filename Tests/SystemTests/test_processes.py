"""Masters and workers in trouble: signals that cross, settings that can't be had, sockets of every kind, processes that stand still."""

import ctypes
import json
import os
import pathlib
import pwd
import resource
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from fastcgi_client import answer, fastcgi
from local_stack import MODES, PROGRAM, clean_environment, command_line, descendants, eventually, free_port, is_running, listens, temporary_folder
from daemon import copy_of_program, lowest_free_descriptor, processor_time, responder, stays


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
ORDER = json.dumps({"name": "a", "contact_id": 1, "order_lines": [{"product_id": 1, "quantity": 1, "price": 1}]}).encode()


def order(mode):
    return fastcgi(f"/{mode}/order", "POST", body=ORDER, content_type="application/json", keep=0)


def orders(stack):
    return int(stack.psql('select count(*) from "order"')[0][0])


# A stop


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("mode", MODES)
def test_a_stop_is_not_overruled_by_the_reload_before_it(stocked, mode, stop):
    with temporary_folder() as folder:
        # The check of the reload takes longer than it takes the stop to come, and ends while a request is under way.
        slow = pathlib.Path(folder, "slow")
        slow.write_text(f'#!/bin/sh\ncase "$*" in *--check*) sleep 0.3; exit 0;; esac\nexec {PROGRAM} "$@"\n')
        slow.chmod(0o755)
        os.symlink(PROGRAM, f"{folder}/program")
        with responder(stocked, mode, folder=folder, program=f"{folder}/program") as server, server.connect() as client:
            os.unlink(f"{folder}/program")
            os.symlink(slow, f"{folder}/program")
            whole = order(mode)
            client.sendall(whole[:40])
            time.sleep(0.05)
            server.signal(signal.SIGHUP)
            server.signal(stop)
            # Whether there was a check at all, or it was ended in the middle, is not the point.
            server.says("draining")
            eventually(lambda: not any("--check" in command_line(p) for p in descendants(server.process.pid, 2)), message="the check goes on")
            time.sleep(0.1)
            client.sendall(whole[40:])
            assert answer(client).startswith(b"Status: 201")
            assert server.ends() == 0
            assert not os.path.exists(server.address)


class Clients:
    """Connections with a request each; what came of them."""

    def __init__(self, server, count, whole):
        self.clients = [server.connect() for _ in range(count)]
        for client in self.clients:
            client.sendall(whole)

    def statuses(self):
        found = []
        for client in self.clients:
            try:
                found.append(int(answer(client)[8:11]))
            except (OSError, AssertionError) as error:
                found.append(repr(error)[:80])
            client.close()
        return found


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
@pytest.mark.parametrize("pause", ["ondemand", "paused"])
@pytest.mark.parametrize("mode", MODES)
def test_what_stands_in_the_queue_of_a_pool_without_workers_is_answered_at_the_end(stocked, mode, pause, tcp):
    if mode == "async" and pause == "ondemand":
        pytest.skip("a loop is always there")
    with responder(stocked, mode, tcp=tcp, waits=pause != "ondemand", **({"pm": "ondemand", "workers": 4} if pause == "ondemand" else {})) as server:
        server.says("listening on")
        if pause == "paused":
            server.signal(signal.SIGWINCH)
            eventually(lambda: server.workers() == [], message="the workers did not go")
        server.signal(signal.SIGSTOP)  # so that nobody is started for them before TERM has come
        clients = Clients(server, 25, order(mode))
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGCONT)
        assert clients.statuses() == [201] * 25
        assert server.ends() == 0
    assert orders(stocked) == 25


class Hammer(threading.Thread):
    """Orders without a pause, a connection each, and what came of every one that was sent."""

    def __init__(self, server):
        super().__init__()
        self.server, self.counts, self.lost, self.over = server, {}, [], threading.Event()

    def run(self):
        while not self.over.is_set():
            try:
                client = self.server.connect()
            except OSError:
                self.counts["refused"] = self.counts.get("refused", 0) + 1
                time.sleep(0.01)
                continue
            with client:
                try:
                    client.sendall(order(self.server.mode))
                    status = int(answer(client)[8:11])
                    self.counts[status] = self.counts.get(status, 0) + 1
                except (OSError, AssertionError) as error:
                    self.lost.append(repr(error)[:100])

    @staticmethod
    def many(server, count):
        hammers = [Hammer(server) for _ in range(count)]
        for hammer in hammers:
            hammer.start()
        return hammers

    @staticmethod
    def stop(hammers):
        for hammer in hammers:
            hammer.over.set()
        for hammer in hammers:
            hammer.join()
        return sum(h.counts.get(201, 0) for h in hammers), [line for h in hammers for line in h.lost], {s for h in hammers for s in h.counts}


@pytest.mark.parametrize("mode", MODES)
def test_a_drain_under_load_ends_over_tcp_and_loses_nothing(stocked, mode):
    with responder(stocked, mode, tcp=True) as server:
        hammers = Hammer.many(server, 12)
        eventually(lambda: sum(h.counts.get(201, 0) for h in hammers) > 100, message="the load did not begin")
        server.signal(signal.SIGTERM)
        try:
            assert server.ends() == 0, server.log()
        finally:
            made, lost, statuses = Hammer.stop(hammers)
        assert lost == [] and statuses <= {201, "refused"}, (lost[:5], statuses)
        assert orders(stocked) == made


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
@pytest.mark.parametrize("mode", MODES)
def test_a_service_manager_s_socket_goes_from_one_to_the_next_under_load_without_loss(stocked, mode, tcp):
    with temporary_folder() as folder, socket.socket(socket.AF_INET if tcp else socket.AF_UNIX) as listener:
        listener.bind(("127.0.0.1", 0) if tcp else f"{folder}/listener")
        listener.listen(200)
        with responder(stocked, mode, listener=listener) as first:
            hammers = Hammer.many(first, 12)
            try:
                eventually(lambda: sum(h.counts.get(201, 0) for h in hammers) > 100, message="the load did not begin")
                first.signal(signal.SIGTERM)
                assert first.ends() == 0, first.log()
                with responder(stocked, mode, listener=listener) as second:
                    before = sum(h.counts.get(201, 0) for h in hammers)
                    eventually(lambda: sum(h.counts.get(201, 0) for h in hammers) > before + 100, message="the next one does not serve")
                    made, lost, statuses = Hammer.stop(hammers)
                    assert lost == [] and statuses == {201}, (lost[:5], statuses)
                    second.signal(signal.SIGTERM)
                    assert second.ends() == 0
            finally:
                Hammer.stop(hammers)
    assert orders(stocked) == made


@pytest.mark.parametrize("mode", MODES)
def test_no_signal_to_a_worker_breaks_a_request(stocked, mode):
    with responder(stocked, mode) as server:
        hammers = Hammer.many(server, 6)
        try:
            end = time.monotonic() + 2
            while time.monotonic() < end:
                for worker in server.workers():
                    for sig in (signal.SIGURG, signal.SIGUSR1, signal.SIGHUP, signal.SIGWINCH, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCHLD, signal.SIGCONT, signal.SIGPIPE):
                        os.kill(worker, sig)
        finally:
            made, lost, statuses = Hammer.stop(hammers)
        assert lost == [] and statuses == {201}, (lost[:5], statuses)
    assert orders(stocked) == made


# A reload


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
@pytest.mark.parametrize("mode", MODES)
def test_a_reload_to_another_address_loses_nobody_who_stood_at_the_old_one(stocked, mode, tcp):
    with responder(stocked, mode, tcp=tcp) as server:
        lock = stocked.psql_open("begin; select from contact where id = 1 for update")
        clients = Clients(server, 20, order(mode))
        time.sleep(0.1)
        old = server.address
        server.address = ("127.0.0.1", free_port()) if tcp else f"{server.folder}/other.sock"
        server.set(listen=f"127.0.0.1:{server.address[1]}" if tcp else f"unix:{server.address}")
        server.write()
        server.signal(signal.SIGHUP)
        eventually(server.answers, message="the new address is not served")
        lock.kill()
        assert clients.statuses() == [201] * 20
        if not tcp:
            assert not os.path.exists(old), "the old socket's file was left"
        server.address, new = old, server.address
        eventually(lambda: refuses(server), message="the old address still lets people in")
        server.address = new
        server.signal(signal.SIGTERM)
        assert server.ends() == 0


def refuses(server):
    try:
        server.connect().close()
        return False
    except OSError:
        return True


def test_a_status_socket_that_moves_lets_its_old_place_go(stack):
    with responder(stack, "sync") as server, socket.socket(socket.AF_UNIX) as late:
        server.set(status=f"unix:{server.folder}/elsewhere.sock")
        server.write()
        server.signal(signal.SIGHUP)
        eventually(lambda: os.path.exists(f"{server.folder}/elsewhere.sock"), message="it did not move")
        eventually(lambda: late.connect_ex(f"{server.folder}/status.sock") != 0, message="the old one lets people in whom nobody answers")
        assert not os.path.exists(f"{server.folder}/status.sock")


def other_listener(folder):
    """Somebody else's address, over TCP."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(5)
    return listener


WRONG = {
    "an address that is taken": lambda f, port: {"listen": f"127.0.0.1:{port}"},
    "an address that is not ours": lambda f, port: {"listen": "192.0.2.1:9"},
    "a socket in no folder": lambda f, port: {"listen": f"unix:{f}/nowhere/s.sock"},
    "a socket where a file is": lambda f, port: {"listen": f"unix:{f}/.env"},
    "a log in no folder": lambda f, port: {"log": f"{f}/nowhere/log"},
    "a log that is a folder": lambda f, port: {"log": f"{f}"},
    "a status address that is taken": lambda f, port: {"status": f"127.0.0.1:{port}"},
    "a status socket in no folder": lambda f, port: {"status": f"unix:{f}/nowhere/s.sock"},
    "more files than may be had": lambda f, port: {"rlimit_files": 5000},
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("mode", MODES)
def test_a_reload_onto_settings_that_can_t_be_had_changes_nothing(stack, mode, wrong):
    if "status" in wrong and mode == "async":
        pytest.skip("it has no status address")
    if "more files" in wrong and os.geteuid() != 0:
        pytest.skip("the limit of an ordinary user is as it is")
    with temporary_folder() as folder, other_listener(folder) as other:
        begin, program = None, PROGRAM
        if "more files" in wrong:
            user = pwd.getpwnam("www-data")
            os.chown(folder, user.pw_uid, user.pw_gid)
            program = copy_of_program(folder)

            def begin():
                resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))
                os.setgid(user.pw_gid)
                os.setuid(user.pw_uid)

        with responder(stack, mode, folder=folder, program=program, begin=begin) as server:
            workers = server.workers()
            server.set(**WRONG[wrong](folder, other.getsockname()[1]))
            server.write()
            server.signal(signal.SIGHUP)
            server.says("not reloaded")
            assert server.process.poll() is None, "it has ended"
            assert server.workers() == workers
            assert server.answers()


@pytest.mark.parametrize("mode", MODES)
def test_a_reload_goes_by_the_name_that_it_was_started_with(stack, mode):
    with temporary_folder() as folder:
        for version in ("v1", "v2"):
            os.mkdir(f"{folder}/{version}")
            copy_of_program(f"{folder}/{version}")
        os.symlink("v1", f"{folder}/current")
        with responder(stack, mode, folder=folder, program=f"{folder}/current/forkloop") as server:
            os.symlink("v2", f"{folder}/next")
            os.rename(f"{folder}/next", f"{folder}/current")
            server.signal(signal.SIGHUP)
            eventually(lambda: os.readlink(f"/proc/{server.process.pid}/exe") == f"{folder}/v2/forkloop", message="it did not become the new program")
            eventually(server.answers)


# Limits


def test_a_worker_serves_as_many_requests_as_it_may_and_no_more(stocked):
    with responder(stocked, "sync", waits=False, workers=1, max_requests=3, max_requests_jitter=0) as server:
        server.says("listening on")
        clients = Clients(server, 30, order("sync"))
        assert clients.statuses() == [201] * 30
        eventually(lambda: b'"recycled_workers":10,' in server.status(), message=f"not ten were needed: {server.status()}")


def test_a_kill_for_a_request_past_its_time_never_hits_another(stocked):
    stocked.psql("insert into contact (name, email) select repeat('x', 255), 'a@b' from generate_series(1, 1000)")
    with responder(stocked, "sync", workers=1, request_timeout=1500) as server, socket.socket(socket.AF_UNIX) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(server.address)
        slow.settimeout(20)
        slow.sendall(fastcgi("/sync/contact", query="limit=1000", keep=0))
        lock = stocked.psql_open("begin; select from contact where id = 1 for update")
        next_one = Clients(server, 1, order("sync"))
        # The answer is being written, which can't be broken off, when its time is over; then the client takes it after all.
        server.says("took more than 1500 ms, now writing")
        assert len(answer(slow)) > 250_000
        time.sleep(1.2)
        lock.kill()
        assert next_one.statuses() == [201]


@pytest.mark.parametrize("mode", MODES)
def test_while_no_descriptors_are_left_nothing_spins_and_all_is_well_afterwards(stack, mode):
    with responder(stack, mode, **({"workers": 1} if mode == "sync" else {})) as server:
        (worker,) = server.workers()
        soft, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (lowest_free_descriptor(worker), hard))
        with server.connect() as client:
            client.sendall(fastcgi(f"/{mode}/tag", keep=0))
            server.says("can't accept: Too many open files")
            before = processor_time(worker)
            time.sleep(1)
            assert processor_time(worker) - before < 200_000_000, "it spins"
            assert server.log().count("can't accept") < 10, "it says so again and again"
            resource.prlimit(worker, resource.RLIMIT_NOFILE, (soft, hard))
            assert answer(client).startswith(b"Status: 200")


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_without_descriptors_hears_term(stack, mode):
    with responder(stack, mode, FORKLOOP_DRAIN_TIMEOUT=2, **({"workers": 1} if mode == "sync" else {})) as server:
        (worker,) = server.workers()
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (lowest_free_descriptor(worker), 4096))
        with server.connect():
            server.says("can't accept: Too many open files")
            server.signal(signal.SIGTERM)
            server.ends(5)


@pytest.mark.parametrize("more", [0, 20])
@pytest.mark.parametrize("limit", ["hard", "soft"])
@pytest.mark.parametrize("mode", MODES)
def test_with_the_fewest_descriptors_that_it_takes_a_server_serves_reloads_and_ends(stack, mode, limit, more):
    most = 32 if mode == "sync" else 32 + 7 + more
    connections = {"FORKLOOP_ASYNC_DB_CONNECTIONS": 8 + more} if mode == "async" else {"workers": 2 + more // 4}

    def limits(files):
        hard = files if limit == "hard" else max(files, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))

    with responder(stack, mode, begin=lambda: limits(most if limit == "hard" else 6), **connections) as server:
        read, workers = fastcgi(f"/{mode}/tag", keep=0), server.workers()
        assert Clients(server, 6, read).statuses() == 6 * [200]
        server.signal(signal.SIGHUP)
        eventually(lambda: server.workers() not in ([], workers), message="there is no new worker")
        assert Clients(server, 6, read).statuses() == 6 * [200]
        server.signal(signal.SIGTERM)
        server.ends(5)


@pytest.mark.parametrize("mode", MODES)
def test_with_fewer_descriptors_than_it_takes_a_server_does_not_start_and_says_what_to_do(mode):
    fewest = 32 if mode == "sync" else 39
    for flags in [[], ["--check"]]:
        done = subprocess.run(
            [PROGRAM, mode, "--listen", "unix:/tmp/forkloop-few.sock", *flags], env=clean_environment(), capture_output=True, text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (fewest - 1, fewest - 1)))
        assert done.returncode == 2 and f"ulimit -Hn` ({fewest - 1})" in done.stderr and str(fewest) in done.stderr, done


def test_silent_peers_do_not_shut_the_status_page(stack):
    with responder(stack, "sync") as server:
        silent = []
        for _ in range(100):
            client = socket.socket(socket.AF_UNIX)
            client.connect(f"{server.folder}/status.sock")
            silent.append(client)
            time.sleep(0.001)
        assert b'"workers_max":2' in server.status()
        for client in silent:
            client.close()


def test_the_master_does_not_spin_when_it_has_no_descriptors_for_who_asks_for_its_status(stack):
    with responder(stack, "sync") as server, socket.socket(socket.AF_UNIX) as client:
        soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        # What it needs now and then to look at its queue is gone as well.
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (lowest_free_descriptor(server.process.pid), hard))
        client.settimeout(10)
        client.connect(f"{server.folder}/status.sock")
        client.sendall(fastcgi("/sync/status", keep=0))
        before = processor_time(server.process.pid)
        time.sleep(1)
        assert processor_time(server.process.pid) - before < 200_000_000, "it spins"
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert b'"workers_max":2' in answer(client)


def without_netlink():
    """From now on socket(AF_NETLINK) fails, as it does where there is none (seccomp(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    allow, fail = 0x7FFF0000, 0x00050000 | 97  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | EAFNOSUPPORT
    is_arm = os.uname().machine == "aarch64"
    program = [
        (0x20, 0, 0, 0), (0x15, 0, 3, 198 if is_arm else 41),  # the call's number: socket
        (0x20, 0, 0, 16), (0x15, 0, 1, 16), (0x06, 0, 0, fail),  # its first argument: AF_NETLINK
        (0x06, 0, 0, allow)]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code)
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, header, 0, 0) == 0, ctypes.get_errno()


def test_an_ondemand_pool_works_where_the_kernel_tells_no_queue_length(stack):
    with responder(stack, "sync", begin=without_netlink, waits=False, pm="ondemand", workers=2, idle_timeout=1) as server:
        server.says("listening on")
        for _ in range(2):
            eventually(server.answers, message="nobody was started")
            eventually(lambda: server.workers() == [], message="idle workers did not go")
        before = processor_time(server.process.pid)
        time.sleep(0.5)
        assert processor_time(server.process.pid) - before < 100_000_000, "the master spins"
        server.signal(signal.SIGTERM)
        assert server.ends() == 0


def test_while_a_request_comes_in_the_status_does_not_name_the_one_before(stack):
    with responder(stack, "sync", workers=1) as server:
        assert server.answers()
        with server.connect() as client:
            whole = fastcgi("/sync/contact", keep=0)
            client.sendall(whole[:30])
            seen = eventually(lambda: (text := server.status()) and b'"reading"' in text and text, message="nothing is being read")
            worker = json.loads(seen[seen.index(b"{"):])["workers"][0]
            assert (worker["state"], worker["method"], worker["path"]) == ("reading", "", ""), worker
            client.sendall(whole[30:])
            assert answer(client).startswith(b"Status: 200")


@as_root
def test_a_socket_that_we_may_not_connect_to_is_not_taken_for_a_dead_server_s(stack):
    user = pwd.getpwnam("www-data")
    with responder(stack, "async") as server:
        os.chown(server.folder, user.pw_uid, user.pw_gid)

        def begin():
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)

        program = copy_of_program(server.folder)
        done = subprocess.run([program, "async", "--listen", f"unix:{server.address}"], cwd="/", preexec_fn=begin, capture_output=True, text=True, timeout=10)
        assert done.returncode == 1 and "Permission denied" in done.stderr, done
        assert server.answers(), "its socket was taken away"


@as_root
@pytest.mark.parametrize("closed", [False, True], ids=["open folder", "closed folder"])
@pytest.mark.parametrize("mode", MODES)
def test_workers_of_another_user_write_to_the_new_log_after_usr1(stack, mode, closed):
    with temporary_folder() as folder:
        os.mkdir(f"{folder}/logs")
        os.chmod(f"{folder}/logs", 0o700 if closed else 0o755)
        log = pathlib.Path(folder, "logs/log")
        with responder(stack, mode, folder=folder, log=log, user="www-data") as server:
            log.rename(f"{folder}/logs/old")
            server.signal(signal.SIGUSR1)
            eventually(log.exists, message="the log was not reopened")

            def all_write_to_it():
                processes = [server.process.pid, *server.workers()]
                try:
                    return len(processes) > 1 and all(os.readlink(f"/proc/{p}/fd/2") == str(log) for p in processes)
                except OSError:
                    return False  # one of the old ones has gone meanwhile

            eventually(all_write_to_it, message="somebody still writes to the old log")
            assert server.answers()


# Loops that stand still


def test_a_stopped_loop_is_replaced(stack):
    with responder(stack, "async", max_turn=2000) as server:
        (loop,) = server.workers()
        assert stays(lambda: server.workers() == [loop], 3), "an idle loop was taken for one that hangs"
        os.kill(loop, signal.SIGSTOP)
        eventually(lambda: server.workers() not in ([loop], []), 10, "it was not replaced")
        assert server.answers()
        server.says(f"loop {loop} killed: it has stood still for 2000 ms")
        server.signal(signal.SIGTERM)
        assert server.ends() == 0


def test_a_loop_that_hangs_is_replaced_and_the_log_says_what_it_was_doing(stack):
    with responder(stack, "async", max_turn=2000, FORKLOOP_APPLICATION="workload", waits=False) as server:
        answers = lambda: server.process.poll() is None and listens(server.address) and b"Status: 200" in server.ask("work")
        eventually(answers, message="it did not start")
        (loop,) = server.workers()
        with server.connect() as client:
            client.sendall(fastcgi("/async/work", query="processor=5000000", keep=0, HTTP_X_REQUEST_ID="the-one"))
            eventually(lambda: server.workers() not in ([loop], []), 8, "it was not replaced")
        server.says("last with GET /async/work")
        assert "request=the-one" in server.log()
        assert answers()


@pytest.mark.parametrize("text", ["1", "1999", "-5", "x"])
def test_a_limit_of_turns_that_is_too_short_is_refused(text):
    done = subprocess.run([PROGRAM, "async", "--check", f"--max-turn={text}"], capture_output=True, text=True)
    assert done.returncode == 2 and "max-turn" in done.stderr, done
