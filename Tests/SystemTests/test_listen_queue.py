"""How many may wait to be accepted: as many as the kernel allows, as the settings say, or as whoever made the socket has said."""

import json
import pathlib
import re
import signal
import socket

import pytest

import responder as alone
from daemon import responder
from fastcgi_client import answer, connect_to, fastcgi
from local_stack import MODES, eventually, temporary_folder

LONGEST = int(pathlib.Path("/proc/sys/net/core/somaxconn").read_text())


def length(server):
    """What the status says, which is what the kernel says."""
    return json.loads(server.status().partition(b"\r\n\r\n")[2])["listen_queue_length"]


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
@pytest.mark.parametrize("mode", MODES)
def test_a_queue_is_as_long_as_the_kernel_allows_or_the_settings_say_after_a_reload_too(stack, mode, tcp):
    assert LONGEST not in (7, 511)
    with responder(stack, mode, tcp=tcp) as server:
        assert length(server) == LONGEST
        for setting, wanted in ((7, 7), (LONGEST + 1000, LONGEST), ("", LONGEST)):
            server.set(FORKLOOP_BACKLOG=setting)
            server.write()
            server.signal(signal.SIGHUP)
            eventually(lambda: length(server) == wanted, message=f"with {setting} the queue's length is {length(server)}")
            assert server.answers()
        assert re.search(rb"_listen_queue_limit (\d+)", server.status("metrics"))[1] == b"%d" % LONGEST


@pytest.mark.parametrize("mode", MODES)
def test_the_queue_of_a_socket_that_was_handed_on_is_left_alone(stack, mode):
    with temporary_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/handed-on")
        listener.listen(9)
        with responder(stack, mode, listener=listener, FORKLOOP_BACKLOG=20) as server:
            assert length(server) == 9
            server.signal(signal.SIGHUP)
            server.says("reloading")
            eventually(server.answers)
            assert length(server) == 9


@pytest.mark.parametrize("mode", MODES)
def test_the_flag_has_the_last_word(stack, mode):
    with alone.responder(mode, "--backlog", "3", DB_HOST=stack.path("run"), FORKLOOP_BACKLOG=50) as one:
        with connect_to(one.path if mode == "async" else one.path.replace("s.sock", "s-status.sock")) as client:
            client.sendall(fastcgi(f"/{mode}/status", keep=0))
            assert json.loads(answer(client).partition(b"\r\n\r\n")[2])["listen_queue_length"] == 3
