"""`forkloop sync` as a daemon: service managers, users, limits, logs, process 1."""

import concurrent.futures
import contextlib
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess

import pytest

from fastcgi_client import answer, fastcgi
from local_stack import MODES, PROGRAM, ROOT, clean_environment, descendants, eventually, free_port, is_running, listens, temporary_folder

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def environment(stack, **more):
    return clean_environment(DB_HOST=stack.path("run"), DB_NAME="forkloop", DB_USER="forkloop", FORKLOOP_SYNC_WORKERS=2, **more)


@contextlib.contextmanager
def running(command, **arguments):
    process = subprocess.Popen(command, **arguments)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def ask(address, path="/sync/tag"):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(20)
        client.connect(address)
        client.sendall(fastcgi(path, keep=0))
        return answer(client)


def answers(address, path="/sync/tag"):
    try:
        return b"200 OK" in ask(address, path)
    except (OSError, AssertionError):
        return False


def test_a_service_manager_s_sockets_are_served_and_survive(stack):
    with temporary_folder() as folder, socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as status:
        for listener, name in ((server, "d"), (status, "s")):
            listener.bind(f"{folder}/{name}")
            listener.listen(50)

        def inherit():
            # To 3 and 4, by way of numbers that are free.
            copies = [os.dup2(listener.fileno(), 100 + i) for i, listener in enumerate((server, status))]
            for i, copy in enumerate(copies):
                os.dup2(copy, 3 + i)

        command = ["sh", "-c", f"LISTEN_PID=$$ LISTEN_FDS=2 exec {PROGRAM} sync"]
        with running(command, env=environment(stack), preexec_fn=inherit, close_fds=False) as process:
            eventually(lambda: answers(f"{folder}/d"), message="the handed-on socket is not served")
            assert b'"workers_max":2' in ask(f"{folder}/s", "/sync/status")
            process.send_signal(signal.SIGHUP)
            eventually(lambda: b'"reloads":1' in ask(f"{folder}/s", "/sync/status"), message="it did not reload")
            assert answers(f"{folder}/d")
        assert os.path.exists(f"{folder}/d"), "a socket that is not ours was removed"


@pytest.mark.parametrize("mode", MODES)
def test_a_listening_socket_on_standard_input_is_served(stack, mode):
    with temporary_folder() as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/d")
        server.listen(50)
        with running([PROGRAM, mode, "--listen", "fd:0"], env=environment(stack), stdin=server.fileno()) as process:
            eventually(lambda: answers(f"{folder}/d", f"/{mode}/tag"), message="descriptor 0 is not served")
            before = descendants(process.pid, 1)
            process.send_signal(signal.SIGHUP)
            eventually(lambda: (now := descendants(process.pid, 1)) and not set(now) & set(before), message="it did not reload")
            assert answers(f"{folder}/d", f"/{mode}/tag")


@pytest.mark.parametrize("abstract", [False, True])
def test_a_service_manager_is_told_what_happens(stack, abstract):
    with temporary_folder() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"{folder}/notify"
        manager.bind("\0" + name if abstract else name)
        manager.settimeout(20)
        told = []

        def hears(text):
            while not any(text in message for message in told):
                told.append(manager.recv(4096).decode())
            told.clear()

        more = dict(NOTIFY_SOCKET=f"@{name}" if abstract else name, WATCHDOG_USEC=200_000)
        with running([PROGRAM, "sync", "--listen", f"unix:{folder}/s.sock"], env=environment(stack, **more)) as process:
            hears("READY=1")
            hears("WATCHDOG=1")
            process.send_signal(signal.SIGHUP)
            hears("RELOADING=1\nMONOTONIC_USEC=")
            hears("READY=1")
            process.terminate()
            hears("STOPPING=1")


@as_root
def test_workers_and_sockets_belong_to_the_user_that_was_named(stack):
    with temporary_folder() as folder:
        os.chmod(folder, 0o755)
        command = [PROGRAM, "sync", "--listen", f"unix:{folder}/s.sock", "--user", "www-data", "--group", "daemon", "--rlimit-files", "64", "--rlimit-core", "4096"]
        with running(command, env=environment(stack)) as process:
            workers = eventually(lambda: (w := descendants(process.pid, 1)) and len(w) == 2 and w)
            # The group that was named has no way to the database, and this path has no need of it.
            assert b"404 Not Found" in ask(f"{folder}/s.sock", "/sync/nothing")
            user = pwd.getpwnam("www-data").pw_uid
            for worker in workers:
                about = pathlib.Path(f"/proc/{worker}/status").read_text()
                assert f"Uid:\t{user}\t{user}\t{user}\t{user}" in about and "Gid:\t1\t1\t1\t1" in about and "Umask:\t0027" in about, about
                limits = pathlib.Path(f"/proc/{worker}/limits").read_text()
                assert "Max open files            64                   64" in limits and "Max core file size        4096                 4096" in limits, limits
            about = os.stat(f"{folder}/s.sock")
            assert (about.st_uid, about.st_gid, about.st_mode & 0o777) == (user, 1, 0o660)
            process.kill()
            process.wait()
            eventually(lambda: not any(is_running(w) for w in workers), 5, "a worker of another user outlived its master")


@pytest.mark.parametrize("mode", MODES)
def test_only_the_allowed_may_connect_over_tcp(stack, mode):
    port = free_port()
    with running([PROGRAM, mode, "--listen", f"[::]:{port}", "--allow", "127.0.0.1, ::2"], env=environment(stack)):
        eventually(lambda: answers(("127.0.0.1", port), f"/{mode}/tag"), message="an allowed peer was not served")
        assert not answers(("::1", port), f"/{mode}/tag"), "a peer that is not on the list was served"


def test_the_log_is_begun_anew_on_usr1_by_all(stack):
    with temporary_folder() as folder:
        log = pathlib.Path(folder, "log")
        command = [PROGRAM, "sync", "--listen", f"unix:{folder}/s.sock", "--log", str(log), "--slow", "1"]
        with running(command, env=environment(stack)) as process:
            eventually(lambda: answers(f"{folder}/s.sock"))
            log.rename(f"{folder}/old")
            process.send_signal(signal.SIGUSR1)
            eventually(log.exists, message="the log was not reopened")
            for process_id in [process.pid, *descendants(process.pid, 1)]:
                eventually(lambda: os.readlink(f"/proc/{process_id}/fd/2") == str(log), message=f"{process_id} still writes to the old log")
            process.send_signal(signal.SIGTTIN)
            eventually(lambda: "workers from now on" in log.read_text())
            assert "from now on" not in pathlib.Path(folder, "old").read_text()


TALKATIVE = """
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>
int FCGX_Accept_r(void *request) {
  int (*next)(void *) = (int (*)(void *))dlsym(RTLD_NEXT, "FCGX_Accept_r");
  for (int i = 0; i < 50; i++) {
    fprintf(stderr, "half of ");
    usleep(100);
    fprintf(stderr, "a line of %d\\n", getpid());
  }
  return next(request);
}
"""


def test_what_a_library_writes_in_pieces_reaches_the_log_a_line_at_a_time(stack):
    with temporary_folder() as folder:
        pathlib.Path(folder, "talkative.c").write_text("#define _GNU_SOURCE" + TALKATIVE)
        subprocess.run(["clang", "-shared", "-fPIC", "-o", f"{folder}/talkative.so", f"{folder}/talkative.c"], check=True)
        log = pathlib.Path(folder, "log")
        command = [PROGRAM, "sync", "--listen", f"unix:{folder}/s.sock", "--log", str(log), "--workers", "4"]
        with running(command, env={**environment(stack), "LD_PRELOAD": f"{folder}/talkative.so"}):
            eventually(lambda: listens(f"{folder}/s.sock"))
            with concurrent.futures.ThreadPoolExecutor(4) as threads:
                assert all(threads.map(lambda _: answers(f"{folder}/s.sock"), range(40)))
        lines = [line for line in log.read_text().splitlines() if "half" in line or "a line of" in line]
        assert len({line for line in lines}) > 1 and all(re.fullmatch(r"half of a line of \d+", line) for line in lines), lines[:10]


def zombies(parent):
    """The dead children of `parent` that nobody has fetched."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # It may end while we look.
            stat = pathlib.Path(f"/proc/{process}/stat").read_text()
            if stat.rsplit(")", 1)[1].split()[:2] == ["Z", str(parent)]:
                found.append(stat)
    return found


@as_root
def test_as_process_1_it_reaps_children_that_are_not_its_own(stack):
    with temporary_folder() as folder:
        script = f"(sleep 0.3 &) ; exec {PROGRAM} sync --listen unix:{folder}/s.sock"
        with running(["unshare", "--pid", "--fork", "--kill-child=TERM", "sh", "-c", script], env=environment(stack)) as outer:
            eventually(lambda: answers(f"{folder}/s.sock"))
            (init,) = descendants(outer.pid, 1)
            eventually(lambda: len(descendants(init, 1)) == 2, message="the orphan is still there")
            assert not zombies(init), "a zombie was left"
            os.kill(init, signal.SIGTERM)
            assert outer.wait(30) == 0


@pytest.mark.parametrize("flags, why", [
    (["--pm", "fast"], "--pm must be static, dynamic or ondemand, not 'fast'"), (["--user", "no-such-user"], "there is no user 'no-such-user'"),
    (["--allow", "localhost"], "--allow: 'localhost' is no IPv4 or IPv6 address"), (["--workers", "0"], "--workers must be from 1 to 1024, not 0"),
    (["--pm", "dynamic", "--min-spare", "5", "--max-spare", "4"], "--min-spare (5) must not be more than --max-spare (4)")])
def test_a_wrong_flag_is_one_line_that_names_it(flags, why):
    done = subprocess.run([PROGRAM, "sync", "--check", *flags], capture_output=True, text=True, env=clean_environment())
    assert (done.returncode, done.stderr) == (2, f"forkloop: {why}\n") or (done.returncode == 2 and why in done.stderr and done.stderr.count("\n") == 1), done


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_the_units_are_understood():
    units = sorted(str(p) for p in pathlib.Path(ROOT, "systemd").iterdir())
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "forkloop" in line and "not executable" not in line]
    assert complaints == [], done.stderr
