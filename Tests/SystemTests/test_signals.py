"""A table of signals: each ordered pair of ten, to each server, at each phase of a request, on each kind of socket.

Ordinarily each pair comes once to each server, its phase and its kind of socket drawn by a seed. FORKLOOP_SIGNALS=all runs
all 3,000 cells, FORKLOOP_SIGNALS="async HUP TERM database tcp" one; FORKLOOP_SIGNALS_SEED repeats what was drawn.
"""

import concurrent.futures
import itertools
import os
import queue
import random

import pytest

from local_stack import MODES, slow_row
from signal_cell import Cell
from signal_client import SLOW, Database
from signal_model import KINDS, PHASES, SIGNALS
from signal_server import SEED

CHOICE = os.environ.get("FORKLOOP_SIGNALS", "")
# Cells at a time in this process: most of a cell is waiting.
WIDTH = max(2, 8 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))

STOCK = """
    insert into contact (name, email) select repeat('😀', 250), repeat('e', 300) || '@b' from generate_series(1, 1000);
    insert into contact (name, email) select 'c', 'c@b' from generate_series(1, 200);
    insert into product (name) values ('p'), ('slow')"""


def cells(mode, first):
    """The names of this row's cells."""
    if len(CHOICE.split()) == 5:
        return [CHOICE] if CHOICE.split()[:2] == [mode, first] else []
    places = list(itertools.product(PHASES, KINDS))
    if CHOICE == "all":
        return [f"{mode} {first} {second} {phase} {kind}" for second in SIGNALS for phase, kind in places]
    # All places come, each about as often as another.
    drawn = list(itertools.islice(itertools.cycle(places), len(SIGNALS) ** 2))
    random.Random(f"{SEED} {mode}").shuffle(drawn)
    row = SIGNALS.index(first) * len(SIGNALS)
    return [f"{mode} {first} {second} {' '.join(drawn[row + n])}" for n, second in enumerate(SIGNALS)]


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("mode", MODES)
def test_whatever_signal_follows_another_no_request_is_lost_and_a_stop_stops(stack, mode, first):
    stack.psql(STOCK)
    sessions = queue.SimpleQueue()

    def run(numbered):
        number, name = numbered
        database = sessions.get()
        try:
            return Cell(name, SEED, number, stack).run(database)
        finally:
            sessions.put(database)

    everybody = [Database(stack.psql_open("select")) for _ in range(WIDTH)]
    for database in everybody:
        sessions.put(database)
    try:
        with slow_row(stack, "product", *SLOW), concurrent.futures.ThreadPoolExecutor(WIDTH) as threads:
            done = list(threads.map(run, enumerate(cells(mode, first))))
    finally:
        for database in everybody:
            database.close()
    for cell in done:
        print(cell.line())
    failed = [cell for cell in done if cell.problems]
    assert not failed, "\n".join([f"{len(failed)} of {len(done)} cells failed"] + [cell.report() for cell in failed])
