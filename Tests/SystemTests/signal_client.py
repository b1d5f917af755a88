"""Those who ask a server while it gets signals: what they sent and when, and what became of it."""

import errno
import json
import os
import re
import select
import socket
import threading
import time

from fastcgi_client import fastcgi, record

SLOW = 2, 0.03  # a product that a read of the load takes, and for how many seconds it takes the database


def post(mode, name, contact):
    """A whole request for a new order, which names itself."""
    body = json.dumps({"name": name, "contact_id": contact, "order_lines": [{"product_id": 1, "quantity": 1, "price": 1}]})
    return fastcgi(f"/{mode}/order", "POST", body=body.encode(), content_type="application/json", keep=0)


class Asked:
    """One request over a connection of its own, or over one that is kept; `outcome` says what became of it.

    The outcome is a status, `refused` (nobody took the connection, or all of the request), `cut` (the connection ended
    without the whole answer), `silence` (neither came in time), or `left` (it still stands in the queue of a socket that
    outlives the server).
    """

    def __init__(self, what, address, whole=b"", key=None):
        self.what, self.address, self.whole, self.key = what, address, whole, key
        self.outcome, self.detail, self.body = None, "", b""
        self.began_at = self.whole_at = None
        # The connection was idle before: a server that stops may have closed it. The request's end never comes.
        self.is_kept = self.is_never_whole = False
        self.socket = None
        self._got = bytearray()

    def connect(self, buffer=None):
        self.socket = socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.began_at = time.monotonic()
        try:
            if isinstance(self.address, str):
                self.socket.connect(self.address)
            else:
                self._connect_tcp()
        except OSError as error:
            self._ends("refused", error)
        return self

    def _connect_tcp(self):
        self.socket.setblocking(False)
        code = self.socket.connect_ex(self.address)
        # The SYN has gone at last: the processor may have been another's before.
        self.began_at = time.monotonic()
        if code == errno.EINPROGRESS:
            # A server that stops lets the port hear of nobody new until its queue is empty: a second later the next try is
            # refused, or finds whoever comes after it.
            if not select.select([], [self.socket], [], 0.7)[1]:
                raise TimeoutError("timed out")
            code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        self.socket.settimeout(5)

    def send(self, piece=None, last=True):
        """Sends a piece, by default all."""
        if self.outcome:
            return self
        try:
            self.socket.settimeout(5)
            self.socket.sendall(self.whole if piece is None else piece)
            if last:
                self.whole_at = time.monotonic()
        except OSError as error:
            # An answer may be there all the same: it was refused before it was all sent.
            self._ends("refused" if self.is_kept else "cut", error)
        return self

    def ask(self):
        return self.connect().send()

    def reuse(self, whole, key):
        """Sends a request over the idle connection, as nginx would: not if the connection has become readable. Whether that
        was possible."""
        self.whole, self.key, self.is_kept = whole, key, True
        self._got.clear()
        try:
            self.socket.setblocking(False)
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            self.outcome, self.body, self.began_at = None, b"", time.monotonic()
            self.send()
        except OSError as error:
            self._ends("refused", error)
        else:
            self._ends("refused", "the server had ended the connection")
        return self.outcome is None

    def collect(self, deadline):
        """Reads the answer to its end."""
        out = bytearray()
        at = 0
        while not self.outcome:
            while not self.outcome and len(self._got) >= at + 8:
                length = int.from_bytes(self._got[at + 4:at + 6], "big")
                end = at + 8 + length + self._got[at + 6]
                if len(self._got) < end:
                    break
                if self._got[at + 1] == 6:
                    out += self._got[at + 8:at + 8 + length]
                if self._got[at + 1] == 3:
                    self.body = bytes(out)
                    status = re.search(rb"^Status: (\d+)", self.body, re.MULTILINE)
                    self._ends(status[1].decode() if status else "cut", self.body[:60])
                at = end
            if not self.outcome:
                self._receive(deadline)
        return self

    def _receive(self, deadline):
        try:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            piece = self.socket.recv(65536)
        except TimeoutError:
            return self._ends("silence", f"after {len(self._got)} bytes")
        except OSError as error:
            return self._ends("cut", f"{error} after {len(self._got)} bytes")
        if not piece:
            return self._ends("cut", f"the end after {len(self._got)} bytes")
        self._got += piece

    def taste(self):
        """Reads the answer's first byte: it is being written."""
        self.socket.settimeout(10)
        self._got += self.socket.recv(1)
        return self

    def _ends(self, outcome, detail):
        self.outcome, self.detail = ("left" if outcome == "299" else outcome), str(detail)

    def close(self):
        if self.socket:
            self.socket.close()

    def __repr__(self):
        return f"{self.what}: {self.outcome} ({self.detail})"


class Load:
    """So many who ask one request after another, so that somebody always stands in the queue."""

    def __init__(self, cell, clients=6):
        self.cell, self.ended, self.asked, self.first = cell, threading.Event(), [], set()
        self.threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def _run(self, number):
        mode, turn = self.cell.mode, 0
        while not self.ended.is_set():
            turn += 1
            if (number + turn) % 3 == 0:
                asked = self.cell.order("load")
            else:
                asked = Asked("load", self.cell.address, fastcgi(f"/{mode}/product/{SLOW[0]}", keep=0))
            asked.ask()
            self.first.add(number)
            asked.collect(time.monotonic() + 20).close()
            self.asked.append(asked)
            if asked.outcome in ("refused", "cut"):
                self.ended.wait(0.01)

    def has_begun(self):
        return len(self.first) == len(self.threads)

    def end(self):
        self.ended.set()

    def is_running(self):
        return any(thread.is_alive() for thread in self.threads)

    def join(self):
        for thread in self.threads:
            thread.join(25)


class Leftover:
    """Takes what still stands in the queue of a socket that has outlived its server, and tells it so."""

    ANSWER = record(6, b"Status: 299 Left\r\n\r\n") + record(3, bytes(8))

    def __init__(self, listener):
        self.listener, self.taken = listener, []

    def take(self):
        """Takes all who are there now."""
        self.listener.setblocking(False)
        while True:
            try:
                connection, _ = self.listener.accept()
            except BlockingIOError:
                return True
            self.taken.append(connection)
            try:
                connection.sendall(self.ANSWER)
            except OSError:
                pass  # It has gone.

    def close(self):
        for connection in self.taken:
            connection.close()


class Database:
    """A session of psql that is kept, to look and to lock with."""

    def __init__(self, psql):
        self.psql, self.is_locking = psql, False

    def rows(self, sql):
        self.psql.stdin.write(f"{sql};\n\\echo .\n")
        self.psql.stdin.flush()
        rows = []
        while (line := self.psql.stdout.readline()) not in (".\n", ""):
            rows.append(line.rstrip("\n").split("|"))
        return rows

    def lock(self, contact):
        self.is_locking = True
        self.rows(f"begin; select from contact where id = {contact} for update")

    def is_waited_for(self):
        return self.rows("select exists (select from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid)))") == [["t"]]

    def unlock(self):
        if self.is_locking:
            self.rows("rollback")
        self.is_locking = False

    def close(self):
        self.psql.kill()
        self.psql.wait()
        for pipe in (self.psql.stdin, self.psql.stdout):
            pipe.close()
