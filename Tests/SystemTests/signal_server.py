"""A server by itself, on a Unix socket, a TCP port or an inherited socket, and ways to see whether all of it has gone."""

import contextlib
import fcntl
import glob
import itertools
import os
import pathlib
import random
import select
import signal
import socket
import subprocess
import threading
import time

from local_stack import PROGRAM, clean_environment, command_line, is_running

# What is drawn is drawn from this; set it to what a failure told to see it again. Processes of the tests share it.
SEED = os.environ.setdefault("FORKLOOP_SIGNALS_SEED", str(random.SystemRandom().randrange(1_000_000)))

# Below the ports that the kernel gives to clients, each process of the tests in a range of its own.
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports, _port_lock = itertools.cycle(range(12_000 + _worker % 16 * 1000, 13_000 + _worker % 16 * 1000)), threading.Lock()


def next_port():
    while True:
        with _port_lock:
            port = next(_ports)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


class Server:
    """`forkloop sync` or `async` with two workers, in the foreground, in a session of its own."""

    def __init__(self, stack, folder, mode, kind, flags):
        self.folder, self.mode, self.kind = folder, mode, kind
        self.log, self.old_log = pathlib.Path(folder, "log"), pathlib.Path(folder, "log.old")
        self.listener, inherited = None, []
        self.path = None if kind == "tcp" else f"{folder}/s.sock"
        self.address = self.path or ("127.0.0.1", next_port())
        listen = [] if kind == "inherited" else ["--listen", f"unix:{self.path}" if self.path else "127.0.0.1:%d" % self.address[1]]
        command = [PROGRAM, mode, *listen, "--log", str(self.log), *flags]
        if kind == "inherited":
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(self.path)
            self.listener.listen(100)
            number = self.listener.fileno()
            command = ["bash", "-c", f'exec 3<&{number} {number}<&-; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "-", *command]
            inherited = [number]
        # Every process of the server holds the other end of this pipe, and nobody else does: its end is theirs.
        self._lifeline, held = os.pipe()
        held_high = fcntl.fcntl(held, fcntl.F_DUPFD_CLOEXEC, 60)
        os.close(held)
        environment = clean_environment(DB_HOST=stack.path("run"), DB_NAME="forkloop", DB_USER="forkloop")
        with open(f"{folder}/errors", "w") as errors:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                                            pass_fds=[held_high, *inherited], start_new_session=True)
        os.close(held_high)

    def output(self):
        """All that it has logged."""
        texts = []
        for path in (pathlib.Path(self.folder, "errors"), self.old_log, self.log):
            with contextlib.suppress(FileNotFoundError):
                texts.append(path.read_text(errors="replace"))
        return "".join(texts)

    def send(self, sig):
        # Whether or not it has ended: it has not been waited for, so its id is still its own.
        os.kill(self.process.pid, sig)

    def has_ended(self):
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def workers(self):
        """Process ids of the workers: all children but the program that only checks its settings."""
        with contextlib.suppress(OSError):
            children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            return sorted(int(child) for child in children if "--check" not in command_line(child) and is_running(child))
        return []

    def programs(self):
        """How many programs this process has been so far, one after another."""
        return self.output().count("listening on ")

    def says_that_it_is_paused(self):
        """Whether it is paused by its log; None if it has never been."""
        said = self.output()
        paused = said.rfind("are let go")
        return None if paused < 0 else paused > max(said.rfind("workers from now on"), said.rfind("listening on"))

    def has_gone(self, seconds):
        """Whether every process of it has gone by then."""
        return bool(select.select([self._lifeline], [], [], seconds)[0])

    def rest(self):
        """What is still running of it, as command lines."""
        found = []
        for path in glob.glob("/proc/[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = pathlib.Path(path).read_text().rsplit(")", 1)[1].split()
                if int(fields[3]) == self.process.pid and fields[0] != "Z":
                    found.append(int(path.split("/")[2]))
        return found

    def wipe_out(self):
        """Leaves nothing of it, however it is."""
        deadline = time.monotonic() + 5
        while not self.has_gone(0.05) and time.monotonic() < deadline:
            for process in self.rest():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        os.close(self._lifeline)
        return self.process.wait(5)
