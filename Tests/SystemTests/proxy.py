"""A proxy between the responders and PostgreSQL, to break conversations where a test wants them broken."""

import contextlib
import os
import select
import socket
import ssl
import subprocess
import threading
import time

# ReadyForQuery, idle.
READY = b"Z\0\0\0\5I"


def complete(messages):
    """How many bytes there are up to the end of the first CommandComplete."""
    end, kind = 0, b""
    while kind != b"C":
        kind, length = messages[end:end + 1], int.from_bytes(messages[end + 1:end + 5], "big")
        end += 1 + length
    return end

class Proxy:
    """Passes bytes on between a TCP port of its own and a Unix socket, until it is told to do otherwise."""

    def __init__(self, target, tls=None, folder=None):
        """`tls`: an SSLContext, to be a server that speaks it. `folder`: where to have a Unix socket instead of the port."""
        self.target, self.tls = target, tls
        if folder:
            self.port = 5432
            self.listener = socket.create_server(f"{folder}/.s.PGSQL.{self.port}", family=socket.AF_UNIX)
        else:
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.pairs = []
        # Held while bytes are passed on.
        self.passing = threading.Lock()
        self.ended = False
        # When each connection came.
        self.came = []
        self.forget()
        threading.Thread(target=self._accept, daemon=True).start()

    def forget(self):
        """Harms nobody from now on."""
        # Bytes still to pass in a direction ("down" to the responder, "up" to the server) before the connection that
        # they stand on is cut; what to say instead of the rest; whether to be silent instead of cutting.
        self.left, self.last_bytes, self.is_silent, self.refuses = {}, b"", False, False
        # What comes is passed on in pieces of so many bytes, each after so many seconds.
        self.piece, self.delay = 65536, 0
        # How long a new connection is left alone before anything is passed on.
        self.sleep = 0
        # A conversation ends when the server has said this.
        self.ends_with = b""

    def cut_after(self, count, direction, last_bytes=b"", silent=False):
        with self.lock:
            self.last_bytes, self.is_silent = last_bytes, silent
            self.left = {direction: count}

    def drop_all(self):
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def interject(self, sql):
        """Says something to the server on every conversation, as a pooler does, and keeps its answers. Nothing may be under way."""
        with self.lock, self.passing:
            for _, there in self.pairs:
                there.sendall(b"Q" + (len(sql) + 5).to_bytes(4, "big") + sql.encode() + b"\0")
                kind = b""
                while kind != b"Z":
                    kind, length = self._exactly(there, 1), int.from_bytes(self._exactly(there, 4), "big")
                    said = self._exactly(there, length - 4)
                    assert kind != b"E", said

    @contextlib.contextmanager
    def taken_over(self):
        """The two ends of the only conversation, to the responder and to the server. Nothing is passed on meanwhile."""
        with self.passing:
            yield self.pairs[0]

    @staticmethod
    def _exactly(source, count):
        data = b""
        while len(data) < count:
            piece = source.recv(count - len(data))
            assert piece, "the server has gone"
            data += piece
        return data

    def leave(self):
        """Refuses whoever comes, and lets go who is there."""
        self.ended = True
        # Closing does not wake whoever waits in accept().
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.drop_all()

    def _accept(self):
        while not self.ended:
            try:
                here, _ = self.listener.accept()
            except OSError:
                return
            self.came.append(time.monotonic())
            if self.refuses:
                here.close()
                continue
            if here.family == socket.AF_INET:
                here.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls and not (here := self._encrypted(here)):
                continue
            there = socket.socket(socket.AF_UNIX)
            try:
                there.connect(self.target)
            except OSError:
                here.close()
                continue
            with self.lock:
                self.pairs.append((here, there))
            threading.Thread(target=self._pass, args=(here, there), daemon=True).start()

    def _encrypted(self, here):
        """Answers SSLRequest (PostgreSQL, "SSL Session Encryption")."""
        try:
            assert here.recv(8)[4:] == (80877103).to_bytes(4, "big"), "the responder did not ask for TLS"
            here.sendall(b"S")
            return self.tls.wrap_socket(here, server_side=True)
        except OSError:
            here.close()

    def _pass(self, here, there):
        try:
            self._pass_on(here, there)
        finally:
            with self.lock, contextlib.suppress(ValueError):
                self.pairs.remove((here, there))

    def _pass_on(self, here, there):
        silent = set()
        time.sleep(self.sleep)
        with contextlib.suppress(OSError), here, there:
            while True:
                for source in select.select([s for s in (here, there) if s not in silent], [], [], 0.5)[0]:
                    sink, direction = (there, "up") if source is here else (here, "down")
                    time.sleep(self.delay)
                    with self.passing:
                        if not select.select([source], [], [], 0)[0]:
                            continue  # It was the answer to an interjection.
                        data = source.recv(self.piece)
                    if not data:
                        return
                    with self.lock:
                        left = self.left.get(direction)
                        is_cut = left is not None and len(data) >= left
                        if left is not None:
                            self.left[direction] = left - len(data)
                        if is_cut:
                            self.left = {}
                    if not is_cut:
                        sink.sendall(data)
                        if self.ends_with and source is there and data.endswith(self.ends_with):
                            return
                        continue
                    sink.sendall(data[:left])
                    if self.is_silent:
                        silent.add(source)
                        continue
                    sink.sendall(self.last_bytes if direction == "down" else b"")
                    return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.ended:
            self.leave()


def in_front_of(stack, tls=None, folder=None):
    return Proxy(os.path.join(stack.path("run"), ".s.PGSQL.5432"), tls, folder)


def certified(folder):
    """An SSLContext with a certificate of its own."""
    certificate, key = f"{folder}/certificate.pem", f"{folder}/key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
