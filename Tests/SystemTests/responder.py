"""One responder by itself, without nginx, on whatever database its settings say."""

import contextlib
import pathlib
import socket
import subprocess

from fastcgi_client import answer, connect_to, fastcgi
from local_stack import PROGRAM, clean_environment, eventually, listens, temporary_folder

ONE_CONNECTION = {"FORKLOOP_ASYNC_DB_CONNECTIONS": 1, "FORKLOOP_SYNC_WORKERS": 1}


class Responder:
    """`forkloop sync` or `forkloop async`."""

    def __init__(self, folder, mode, *flags, **settings):
        self.mode, self.path = mode, f"{folder}/s.sock"
        self.log = pathlib.Path(folder, "log")
        settings = {"DB_NAME": "forkloop", "DB_USER": "forkloop", **settings}
        environment = clean_environment(**{name: value for name, value in settings.items() if value is not None})
        with open(self.log, "w") as out:
            self.process = subprocess.Popen([PROGRAM, mode, "--listen", f"unix:{self.path}", *flags], env=environment, stdout=out, stderr=out)
        try:
            eventually(lambda: listens(self.path), message=f"it did not start: {self.log.read_text()}")
        except BaseException:
            self.process.kill()
            raise

    def send(self, path, method="GET", body=b"", query="", **fields):
        """A connection on which the request has been sent."""
        client = connect_to(self.path)
        client.settimeout(60)
        client.sendall(fastcgi(f"/{self.mode}{path}", method, query, body, 0, "application/json" if body else "", **fields))
        return client

    def ask(self, path, method="GET", body=b"", query="", **fields):
        """(status, whole answer)"""
        with self.send(path, method, body, query, **fields) as client:
            whole = answer(client)
            return int(whole.split()[1]), whole

    def is_well(self):
        return self.ask("/health")[0] == 200


@contextlib.contextmanager
def responder(mode, *flags, **settings):
    with temporary_folder() as folder:
        one = Responder(folder, mode, *flags, **settings)
        try:
            yield one
        finally:
            one.process.terminate()
            code = one.process.wait(40)
            assert code == 0, one.log.read_text()
