"""Reloads that move a socket, that come one upon another, or that are not to be; and what --check has to find out for them."""

import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest

from daemon import responder
from fastcgi_client import answer, fastcgi
from local_stack import MODES, PROGRAM, clean_environment, eventually, free_port, temporary_folder
from test_processes import Clients, order

KINDS = pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])


def move(server, tcp):
    """To an address where it has never been; the one before."""
    old = server.address
    server.address = ("127.0.0.1", free_port()) if tcp else f"{server.folder}/other-{time.monotonic_ns()}.sock"
    server.set(listen=f"127.0.0.1:{server.address[1]}" if tcp else f"unix:{server.address}")
    server.write()
    return old


def reload(server):
    server.signal(signal.SIGHUP)
    eventually(server.answers, message="the new address is not served")


# Sockets that move


@KINDS
@pytest.mark.parametrize("mode", MODES)
def test_whoever_stands_at_the_old_address_of_a_pool_without_workers_is_answered(stocked, mode, tcp):
    with responder(stocked, mode, tcp=tcp) as server:
        server.signal(signal.SIGWINCH)
        eventually(lambda: server.workers() == [], message="the workers did not go")
        clients = Clients(server, 5, order(mode))
        move(server, tcp)
        reload(server)
        assert clients.statuses() == [201] * 5


@KINDS
@pytest.mark.parametrize("again", [False, True], ids=["stays", "moves-again"])
@pytest.mark.parametrize("mode", MODES)
def test_a_second_reload_does_not_forget_who_stands_at_the_old_address(stocked, mode, again, tcp):
    # Most of them stand in the queue.
    more = {"workers": 1} if mode == "sync" else {"max_connections": 2}
    with socket.socket() as silent, responder(stocked, mode, tcp=tcp, **more) as server:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        lock = stocked.psql_open("begin; select from contact where id = 1 for update")
        clients = Clients(server, 20, order(mode))
        database = server.settings["DB_HOST"]
        move(server, tcp)
        # With this database no new worker gets ready.
        server.set(DB_HOST="127.0.0.1", DB_PORT=silent.getsockname()[1])
        server.write()
        server.signal(signal.SIGHUP)
        eventually(lambda: server.log().count("listening on") == 2, message="it did not reload")
        server.set(DB_HOST=database, DB_PORT=5432)
        if again:
            move(server, tcp)
        server.write()
        reload(server)
        lock.kill()
        assert clients.statuses() == [201] * 20
        server.signal(signal.SIGTERM)
        assert server.ends() == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_port_that_was_left_is_free_and_can_be_had_again(stocked, mode):
    with responder(stocked, mode, tcp=True, **({"workers": 1} if mode == "sync" else {})) as server:
        lock = stocked.psql_open("begin; select from contact where id = 1 for update")
        clients = Clients(server, 5, order(mode))
        old = move(server, True)
        reload(server)
        lock.kill()
        assert clients.statuses() == [201] * 5

        def is_free():
            with socket.socket() as client:
                client.settimeout(0.2)
                return client.connect_ex(old) == 111

        eventually(is_free, 5, "whoever comes to the old port waits for an answer that never comes")
        server.address = old
        server.set(listen=f"127.0.0.1:{old[1]}")
        server.write()
        reload(server)


def descriptors(process):
    """The fewest of several looks: some are there for a moment only, to look at the queue for one."""
    looks = []
    for _ in range(20):
        looks.append(len(os.listdir(f"/proc/{process}/fd")))
        time.sleep(0.01)
    return min(looks)


@pytest.mark.parametrize("mode", MODES)
def test_many_reloads_leave_no_descriptor_behind(stocked, mode):
    with responder(stocked, mode) as server:
        found = []
        for turn in range(12):
            if mode == "sync":
                server.set(keep_alive=turn % 2, status=f"unix:{server.folder}/status-{turn % 3}.sock")
            move(server, False)
            reload(server)
            eventually(lambda: len(server.workers()) == (2 if mode == "sync" else 1), message="the old workers did not go")
            if turn > 2:
                found.append((descriptors(server.process.pid), min(map(descriptors, server.workers()))))
        # With parked connections and without, in turn.
        assert found[-2:] == found[:2] or found[-2:] == found[1:3], f"descriptors of the master and of a worker: {found}"


# One upon another


@pytest.mark.parametrize("mode", MODES)
def test_a_reload_that_comes_during_the_check_of_another_is_checked_too(stack, mode):
    with temporary_folder() as folder:
        slow = pathlib.Path(folder, "slow")
        slow.write_text(
            f'#!/bin/sh\ncase "$*" in *--check*) {PROGRAM} "$@"; code=$?; touch {folder}/checked; sleep 0.3; exit $code;; esac\nexec {PROGRAM} "$@"\n')
        slow.chmod(0o755)
        os.symlink(PROGRAM, f"{folder}/program")
        with responder(stack, mode, folder=folder, program=f"{folder}/program") as server:
            os.unlink(f"{folder}/program")
            os.symlink(slow, f"{folder}/program")
            server.signal(signal.SIGHUP)
            eventually(lambda: os.path.exists(f"{folder}/checked"), message="nothing is checked")
            server.set(listen="nonsense")
            server.write()
            server.signal(signal.SIGHUP)
            server.says("not reloaded")
            assert server.process.poll() is None and server.answers()


# What the check has to find


ELSEWHERE = {
    "both change places": ("status.sock", "s.sock"),
    "the server where the status is": ("status.sock", "new.sock"),
    "the status where the server is": ("new.sock", "s.sock"),
}


@pytest.mark.parametrize("what", ELSEWHERE)
def test_a_reload_onto_an_address_that_the_other_has_is_refused(stack, what):
    with responder(stack, "sync") as server:
        listen, status = ELSEWHERE[what]
        server.set(listen=f"unix:{server.folder}/{listen}", status=f"unix:{server.folder}/{status}")
        server.write()
        server.signal(signal.SIGHUP)
        server.says("not reloaded")
        assert server.answers()


# What a socket is called before a reload, and after it.
SPELLINGS = {
    "a host's name, then its address": ("localhost:PORT", "127.0.0.1:PORT"), "a host's address, then its name": ("127.0.0.1:PORT", "localhost:PORT"),
    "other spellings of an address": ("127.0.0.1:PORT", "127.1:PORT"), "a path, and another way to it": ("unix:FOLDER/s.sock", "unix:FOLDER/./s.sock"),
    "a path, and the name alone": ("unix:FOLDER/s.sock", "unix:s.sock"), "a path, and one through a link": ("unix:FOLDER/s.sock", "unix:link/s.sock"),
}


@pytest.mark.parametrize("which", ["listen", "status"])
@pytest.mark.parametrize("what", SPELLINGS)
@pytest.mark.parametrize("mode", MODES)
def test_a_reload_knows_a_place_by_its_other_names(stack, mode, what, which):
    if which == "status" and mode == "async":
        pytest.skip("the loop answers for its status itself")
    with temporary_folder() as folder:
        os.symlink(".", f"{folder}/link")
        port = free_port()
        before, after = (spelling.replace("PORT", str(port)).replace("FOLDER", folder) for spelling in SPELLINGS[what])
        address = f"{folder}/s.sock" if "unix" in before else ("127.0.0.1", port)

        def status():
            with socket.socket(socket.AF_UNIX if "unix" in before else socket.AF_INET) as client:
                client.connect(address)
                client.sendall(fastcgi(f"/{mode}/{'tag' if which == 'listen' else 'status'}", keep=0))
                return int(answer(client).split()[1])

        settings = {"listen": before} if which == "listen" else {"listen": f"unix:{folder}/other.sock", "status": before}
        with responder(stack, mode, folder=folder, waits=False, **settings) as server:
            server.says("listening on")
            assert status() == 200
            server.set(**{which: after})
            server.write()
            server.signal(signal.SIGHUP)
            eventually(lambda: server.log().count("listening on") == 2, 10, f"it did not reload: {server.log()}")
            assert status() == 200 and "reloaded without" not in server.log()


def test_a_person_may_check_settings_while_their_server_runs(stack):
    with responder(stack, "sync") as server:
        for more in ({}, {"listen": f"unix:{server.folder}/new"}, {"status": f"unix:{server.folder}/new-status"}):
            server.set(**more)
            server.write()
            done = subprocess.run([PROGRAM, "sync", "--check"], cwd=server.folder, env=clean_environment(), capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


PORT = "23456"
REFUSED = {
    "one address for both": ["--status-listen", "unix:s"],
    "one path, two spellings": ["--status-listen", "unix:./s"],
    "one port, two spellings": ["--listen", f"127.0.0.1:{PORT}", "--status-listen", f"localhost:{PORT}"],
    "every address, and one of them": ["--listen", f"0.0.0.0:{PORT}", "--status-listen", f"127.0.0.1:{PORT}"],
    "a log without a name": ["--log", ""],
    "a log whose name is too long": ["--log", "x" * 300],
    "a log behind a link to nowhere": ["--log", "dangling"],
    "a log behind a link in a circle": ["--log", "circle"],
    "a log in a file": ["--log", "file/log"],
    "too few files": ["--rlimit-files", "7"],
}
ACCEPTED = {
    "a log behind a link to what can be made": ["--log", "link"],
    "as few files as may be": ["--rlimit-files", "32"],
    "IPv6": ["--listen", f"[::1]:{PORT}", "--status-listen", f"127.0.0.1:{PORT}"],
}


@pytest.mark.parametrize("case", [*REFUSED, *ACCEPTED])
def test_the_check_says_what_the_start_says(stack, case):
    with temporary_folder() as folder:
        os.symlink("/nowhere/log", f"{folder}/dangling")
        os.symlink("circle", f"{folder}/circle")
        os.symlink("new-log", f"{folder}/link")
        pathlib.Path(folder, "file").touch(0o755)
        port = str(free_port())
        flags = [flag.replace(PORT, port) for flag in (REFUSED | ACCEPTED)[case]]
        command = [PROGRAM, "sync", *([] if "--listen" in flags else ["--listen", "unix:s"]), *flags]
        environment = clean_environment(DB_HOST=stack.path("run"), DB_NAME="forkloop", DB_USER="forkloop", FORKLOOP_SYNC_WORKERS=1)
        check = subprocess.run([*command, "--check"], cwd=folder, env=environment, capture_output=True, text=True)
        assert sorted(os.listdir(folder)) == ["circle", "dangling", "file", "link"], "it has left something behind"
        with open(f"{folder}/out", "w") as out, subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out) as server:
            def said():
                paths = [path for path in ("out", "new-log") if os.path.exists(f"{folder}/{path}")]
                return "".join(pathlib.Path(folder, path).read_text() for path in paths)

            eventually(lambda: server.poll() is not None or "listening on" in said(), message="it neither starts nor ends")
            starts = server.poll() is None
            server.terminate()
        assert starts == (case in ACCEPTED), said()
        assert (check.returncode == 0) == starts, (check, said())
