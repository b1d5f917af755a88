"""The row for `forkloop up`: each of the ten signals, and pairs of those that stop it."""

import contextlib
import os
import random
import signal
import threading
import time

import pytest

from local_stack import LocalStack, descendants, eventually, is_running, temporary_folder
from signal_model import SIGNALS
from signal_server import SEED
from test_faults import ORDER

STOPS = ("TERM", "INT", "HUP", "QUIT")
PAIRS = [f"{first} {second}" for first in STOPS for second in STOPS]
# What would end any other process, and means nothing else to it, stops it in its order, too.
ALONE = (*STOPS, "USR2")


def row():
    for name in [*SIGNALS, *PAIRS]:
        yield pytest.param(name, id=name.replace(" ", "-"))


@pytest.fixture(scope="module")
def state():
    """A folder whose cluster is made once."""
    with temporary_folder() as folder:
        yield folder


class Under:
    """An order that is under way, waiting for its contact's row until the end of the block."""

    def __init__(self, stack):
        self.stack, self.answer = stack, None
        self.thread = threading.Thread(target=self._ask)

    def _ask(self):
        try:
            self.answer = self.stack.request("POST", "/sync/order", ORDER, timeout=8).status
        except OSError as error:
            self.answer = repr(error)

    def __enter__(self):
        self.lock = self.stack.psql_open("begin; select from contact where id = 1 for update")
        self.thread.start()
        eventually(lambda: self.stack.psql("select 1 from pg_locks where not granted"), message="the order did not get to the database")
        return self

    def __exit__(self, *_):
        self.lock.kill()
        self.lock.wait()
        self.thread.join()


@pytest.mark.parametrize("name", row())
def test_up_ends_in_its_order_or_goes_on(state, name):
    if os.environ.get("FORKLOOP_SIGNALS") != "all" and name in PAIRS and name not in random.Random(SEED).sample(PAIRS, 4):
        pytest.skip("not drawn this time")
    dice = random.Random(f"{SEED} up {name}")
    gap = dice.choice((0, dice.uniform(0, 0.3)))
    about = f"up {name} (seed {SEED}, {gap * 1000:.0f} ms between)"
    stack = LocalStack(state, FORKLOOP_SYNC_WORKERS=2, FORKLOOP_DRAIN_TIMEOUT=10)
    everybody = [stack.process.pid]
    try:
        stack.psql("truncate contact, product restart identity cascade; insert into contact (name, email) values ('c', 'c@b');"
                   "insert into product (name) values ('p')")
        everybody += descendants(stack.process.pid, 3)
        with Under(stack) as under:
            for index, sig in enumerate(name.split()):
                time.sleep(gap * index)
                # It has not been waited for: the id is still its own.
                os.kill(stack.process.pid, getattr(signal, f"SIG{sig}"))
            time.sleep(0.1)
        assert under.answer == 201, f"{about}: the order under way got {under.answer}\n{stack.output()[-500:]}"
        if name not in ALONE and name not in PAIRS:
            assert stack.process.poll() is None, f"{about}: it ended with {stack.process.poll()}"
            assert stack.request("GET", "/sync/tag", timeout=8).status == 200, about
            os.kill(stack.process.pid, signal.SIGTERM)
        assert stack.process.wait(20) == 0, f"{about}: exit code {stack.process.poll()}\n{stack.output()[-500:]}"
        eventually(lambda: not any(is_running(process) for process in everybody), 3, f"{about}: processes are left")
    finally:
        end(stack, everybody)


def end(stack, everybody):
    with contextlib.suppress(ProcessLookupError):
        os.kill(stack.process.pid, signal.SIGCONT)
        os.kill(stack.process.pid, signal.SIGTERM)
    with contextlib.suppress(AssertionError):
        eventually(lambda: stack.process.poll() is not None and not any(is_running(process) for process in everybody), 15)
    for process in everybody:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    stack.process.wait(10)
    stack.log.close()
