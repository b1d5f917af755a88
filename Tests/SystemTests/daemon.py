"""One responder as a daemon: `forkloop sync` or `forkloop async` in a folder of its own with a `.env`, on the database of a stack."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import time

from fastcgi_client import answer, fastcgi
from local_stack import PROGRAM, clean_environment, descendants, eventually, free_port, temporary_folder


class Responder:
    """`settings` are its own, as in `workers=2`; `listener` a socket that it is handed as a service manager would."""

    def __init__(self, stack, mode, folder, tcp=False, listener=None, program=PROGRAM, stderr=None, begin=None, environment=(), **settings):
        self.stack, self.mode, self.folder = stack, mode, folder
        self.log_path = f"{folder}/log"
        self.address = ("127.0.0.1", free_port()) if tcp else listener.getsockname() if listener else f"{folder}/s.sock"
        self.settings = {"DB_HOST": stack.path("run"), "DB_NAME": "forkloop", "DB_USER": "forkloop", "FORKLOOP_DRAIN_TIMEOUT": 10}
        if not listener:
            self.set(listen=f"{self.address[0]}:{self.address[1]}" if tcp else f"unix:{self.address}")
        if mode == "sync":
            self.set(workers=2, status=f"unix:{folder}/status.sock")
        self.set(**settings)
        self.write()

        def prepare():
            if listener:
                os.dup2(listener.fileno(), 3)
            if begin:
                begin()

        command = [program, mode]
        if listener:
            command = ["sh", "-c", f'LISTEN_PID=$$ LISTEN_FDS=1 exec {program} {mode} 0<&-']
        out = stderr if stderr is not None else open(self.log_path, "a")
        self.process = subprocess.Popen(
            command, cwd=folder, env=clean_environment(**dict(environment)), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            preexec_fn=prepare, close_fds=not listener)
        if stderr is None:
            out.close()

    def set(self, **settings):
        """Settings of its own by their short names, others by their whole ones."""
        for name, value in settings.items():
            self.settings[name if name.isupper() else f"FORKLOOP_{self.mode.upper()}_{name.upper()}"] = value

    def write(self):
        pathlib.Path(self.folder, ".env").write_text("".join(f"{name}={value}\n" for name, value in self.settings.items()))

    def connect(self):
        family = socket.AF_INET if isinstance(self.address, tuple) else socket.AF_UNIX
        client = socket.socket(family)
        try:
            client.connect(self.address)
        except BaseException:
            client.close()
            raise
        client.settimeout(20)
        return client

    def ask(self, path="tag", **more):
        """The answer to a request of its own connection."""
        with self.connect() as client:
            client.sendall(fastcgi(f"/{self.mode}/{path}", keep=0, **more))
            return answer(client)

    def status(self, path="status"):
        if self.mode == "async":
            return self.ask(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(f"{self.folder}/status.sock")
            client.sendall(fastcgi(f"/sync/{path}", keep=0))
            return answer(client)

    def answers(self):
        try:
            return b"Status: 200" in self.ask()
        except (OSError, AssertionError):
            return False

    def workers(self):
        return descendants(self.process.pid, 1)

    def log(self):
        return pathlib.Path(self.log_path).read_text()

    def says(self, text, seconds=10):
        eventually(lambda: text in self.log(), seconds, f"its log does not say '{text}':\n{self.log()[-2000:]}")

    def signal(self, number):
        self.process.send_signal(number)

    def ends(self, seconds=15):
        """Its exit code, once it has ended."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {seconds} s") from None


@contextlib.contextmanager
def responder(stack, mode, **settings):
    """One that answers; ended in the end, whatever has become of it."""
    folder = settings.pop("folder", None)
    waits = settings.pop("waits", True)
    with contextlib.ExitStack() as exits:
        if not folder:
            folder = exits.enter_context(temporary_folder())
        server = Responder(stack, mode, folder, **settings)
        try:
            if waits:
                eventually(lambda: server.process.poll() is None and server.answers(), message="it did not start")
            yield server
        finally:
            if server.process.poll() is None:
                server.process.terminate()
                try:
                    server.process.wait(15)
                except subprocess.TimeoutExpired:
                    everybody = descendants(server.process.pid, 2)
                    server.process.kill()
                    for process in everybody:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(process, 9)
                    raise AssertionError("TERM did not end it") from None


def processor_time(process):
    """Nanoseconds that a process and its threads have run."""
    return sum(int(pathlib.Path(path, "schedstat").read_text().split()[0]) for path in pathlib.Path(f"/proc/{process}/task").iterdir())


def lowest_free_descriptor(process):
    """Of a process that has nothing to do; what it has just served may not be closed yet."""
    def now():
        taken = {int(name) for name in os.listdir(f"/proc/{process}/fd")}
        return next(number for number in range(1 << 16) if number not in taken)

    found = []
    for _ in range(20):
        found.append(now())
        time.sleep(0.01)
    return min(found)


def copy_of_program(folder):
    path = f"{folder}/forkloop"
    shutil.copy(PROGRAM, path)
    os.chmod(path, 0o755)
    return path


def stays(condition, seconds=0.5):
    """Whether a condition holds all the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            return False
        time.sleep(0.02)
    return True
