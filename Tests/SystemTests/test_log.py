"""A log that nobody reads, or nobody can, never makes anybody wait."""

import contextlib
import fcntl
import os
import pty
import signal
import socket
import termios

import pytest

from fastcgi_client import answer, fastcgi
from local_stack import MODES, eventually, listens, temporary_folder
from daemon import responder



class Output:
    """Something to be standard error, its other end, and a way to read what has come."""

    def __init__(self, kind, folder):
        self.kind = kind
        if kind == "pipe":
            self.reader, self.writer = os.pipe()
            fcntl.fcntl(self.writer, 1031, 4096)  # F_SETPIPE_SZ
        elif kind == "socket":
            ends = socket.socketpair()
            for end in ends:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            self.reader, self.writer = (end.detach() for end in ends)
        elif kind == "terminal":
            self.reader, self.writer = pty.openpty()
        elif kind == "fifo":
            os.mkfifo(f"{folder}/fifo")
            self.reader = os.open(f"{folder}/fifo", os.O_RDONLY | os.O_NONBLOCK)
            self.writer = os.open(f"{folder}/fifo", os.O_WRONLY)

    def fill(self):
        if self.kind == "terminal":
            return termios.tcflow(self.writer, termios.TCOOFF)  # as Ctrl-S does
        flags = fcntl.fcntl(self.writer, fcntl.F_GETFL)
        fcntl.fcntl(self.writer, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        for size in (1024, 1):
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(self.writer, b"x" * size)
        fcntl.fcntl(self.writer, fcntl.F_SETFL, flags)

    def read(self):
        if self.kind == "terminal":
            termios.tcflow(self.writer, termios.TCOON)
        os.set_blocking(self.reader, False)
        text = b""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self.reader, 65536):
                text += piece
        return text.replace(b"x", b"")

    def close(self):
        for end in (self.reader, self.writer):
            with contextlib.suppress(OSError):
                os.close(end)


def refused(server, count):
    """So many requests that cost a line of the log each, were it not for their number."""
    return {server.ask("tag")[:11] for _ in range(count)}


@pytest.fixture(params=["pipe", "socket", "terminal", "fifo"])
def output(request):
    with temporary_folder() as folder:
        output = Output(request.param, folder)
        yield output
        output.close()


@pytest.mark.parametrize("mode", MODES)
def test_nobody_waits_for_a_log_that_is_full(stack, mode, output):
    output.fill()
    with responder(stack, mode, stderr=output.writer, waits=False, DB_HOST="/nowhere") as server:
        eventually(lambda: listens(server.address), message="it did not begin to listen")
        assert refused(server, 300) == {b"Status: 503"}
        server.signal(signal.SIGHUP)
        assert refused(server, 50) == {b"Status: 503"}
        output.read()
        server.signal(signal.SIGTTIN)
        eventually(lambda: (refused(server, 1), b"could not be written" in output.read())[1], message="what was lost was not told")
        server.signal(signal.SIGTERM)
        assert server.ends() == 0


@pytest.mark.parametrize("mode", MODES)
def test_nobody_dies_of_a_log_whose_reader_has_gone(stack, mode, output):
    with responder(stack, mode, stderr=output.writer, waits=False, DB_HOST="/nowhere") as server:
        eventually(lambda: listens(server.address), message="it did not begin to listen")
        output.close()
        assert refused(server, 20) == {b"Status: 503"}
        server.signal(signal.SIGTTIN)
        assert refused(server, 20) == {b"Status: 503"}
        server.signal(signal.SIGHUP)
        assert refused(server, 20) == {b"Status: 503"}
        server.signal(signal.SIGTERM)
        assert server.ends() == 0


@pytest.mark.parametrize("mode", MODES)
def test_refusals_of_one_cause_are_a_line_a_second_with_their_number(stack, mode):
    with responder(stack, mode, waits=False, DB_HOST="/nowhere", **({"workers": 1} if mode == "sync" else {})) as server:
        eventually(lambda: listens(server.address), message="it did not begin to listen")
        assert refused(server, 1000) == {b"Status: 503"}

        def told():
            lines = [line for line in server.log().splitlines() if " 503: " in line]
            more = [int(line.split("(and ")[1].split(" more")[0]) for line in lines if "(and " in line]
            return len(lines), sum(more) + sum("request=" in line or "(and" not in line for line in lines)

        eventually(lambda: told()[1] == 1000, message=f"not every one was counted: {told()}")
        assert told()[0] < 100, "each has its line"


@pytest.mark.parametrize("mode", MODES)
def test_a_log_that_is_a_fifo_without_a_reader_is_refused_and_does_not_hang(stack, mode):
    with temporary_folder() as folder:
        os.mkfifo(f"{folder}/fifo")
        with responder(stack, mode, folder=folder, waits=False, log=f"{folder}/fifo") as server:
            assert server.ends() == 1
            assert f"{folder}/fifo" in server.log(), server.log()
