"""One cell of the table of signals: two signals to a server, at one phase of a request, on one kind of socket."""

import contextlib
import itertools
import os
import random
import signal
import socket
import time

from fastcgi_client import fastcgi
from local_stack import temporary_folder
from signal_client import Asked, Leftover, Load, post
from signal_model import DRAIN, LIMIT, OBEYED, RELOADS, STOPS, WORKERS, outcomes
from signal_server import Server


class Failure(Exception):
    """What was expected and did not happen."""


class Cell:
    """A cell, and what became of it: `problems` is empty if all was as it should be."""

    def __init__(self, name, seed, number, stack):
        self.name, self.seed, self.stack = name, seed, stack
        self.mode, self.first, self.second, self.phase, self.kind = name.split()
        self.contact = 1001 + number
        self.prefix = f"{number}-{seed}"
        # Drawn by the cell's name, so that a cell is the same whatever else is run.
        self.dice = random.Random(f"{seed} {name}")
        self.moment = self.dice.choice(("at once", "later", "obeyed"))
        self.gap = self.dice.uniform(0, 0.1)
        self.pause = self.dice.uniform(0, 0.05)
        self.has_load = self.dice.random() < 0.35
        self.is_never_whole = self.phase == "reading" and self.dice.random() < 0.25
        self.is_kept = self.dice.random() < 0.5
        self.problems, self.asked, self.events = [], [], []
        self.orders = itertools.count()
        self.stopped_at = self.load = self.exit_code = None
        self.is_ordered = False
        self.began_at = time.monotonic()
        self.seconds = 0

    def run(self, database):
        with temporary_folder() as folder:
            self.server = Server(self.stack, folder, self.mode, self.kind, self.flags())
            self.address = self.server.address
            try:
                self.start()
                self.get_into_phase(database)
                self.send_both()
                self.get_out_of_phase(database)
                if not {self.first, self.second} & STOPS:
                    self.go_on()
                    self.send("TERM")
                self.see_the_end()
            except Failure as failure:
                self.problems.append(str(failure))
            except Exception as error:
                self.problems.append(f"the table itself: {error!r}")
            finally:
                self.clean_up(database)
        self.seconds = time.monotonic() - self.began_at
        return self

    def flags(self):
        if self.mode == "async":
            return ["--loops", str(WORKERS), "--db-connections", "1", "--drain-timeout", str(DRAIN)] + ["--peer-timeout", "1"] * self.is_never_whole
        return (["--workers", str(WORKERS), "--drain-timeout", str(DRAIN)] + ["--request-timeout", "1500"] * self.is_never_whole
                + ["--keep-alive"] * (self.phase == "parked"))

    def start(self):
        self.until(lambda: self.ask_once() and len(self.server.workers()) == WORKERS, "the server starts", 30)
        self.workers = self.server.workers()

    def ask_once(self):
        if self.server.has_ended():
            raise Failure("expected: the server starts")
        asked = Asked("start", self.address, fastcgi(f"/{self.mode}/tag", keep=0)).ask()
        asked.collect(time.monotonic() + 20).close()
        return asked.outcome == "200"

    def get_into_phase(self, database):
        main = self.main = Asked(self.phase, self.address)
        if self.phase == "idle" and not self.is_kept:
            main.connect()
        elif self.phase in ("idle", "parked"):
            main.whole = fastcgi(f"/{self.mode}/tag")
            self.must(main.ask().collect(time.monotonic() + 20).outcome == "200", f"a first answer on {main}")
        elif self.phase == "reading":
            self.order("reading", main)
            main.is_never_whole = self.is_never_whole
            self.cut = self.dice.randrange(1, len(main.whole))
            main.connect().send(main.whole[:self.cut], last=False)
        elif self.phase == "database":
            database.lock(self.contact)
            self.order("database", main, self.contact).ask()
            self.until(database.is_waited_for, "the request gets to the database")
        elif self.phase == "writing":
            main.whole = fastcgi(f"/{self.mode}/contact", query="limit=1000", keep=0)
            main.connect(buffer=4096).send().taste()
        if self.has_load:
            self.load = Load(self)
            self.until(self.load.has_begun, "the load begins")
        else:
            time.sleep(self.pause)
        self.note(f"{self.phase}, {'kept' if main.outcome else 'connected'}, {'load' if self.load else 'no load'}")

    def send_both(self):
        between = None
        if self.moment == "at once":
            between = self.order("before both").ask()
        self.send(self.first)
        if self.moment == "later":
            time.sleep(self.gap)
        if self.moment == "obeyed":
            self.happens(self.is_first_obeyed, 2)
        if not between:
            between = self.order("between both").ask()
        self.send(self.second)
        time.sleep(self.pause)
        self.asked += [between, self.order("after both").ask()]

    def is_first_obeyed(self):
        if self.first == "USR1":
            return self.server.log.exists()
        self.is_ordered = OBEYED.get(self.first, "") in self.server.output()
        return self.is_ordered

    def get_out_of_phase(self, database):
        main = self.main
        if self.phase == "database":
            database.unlock()
        elif self.phase == "reading" and not self.is_never_whole:
            main.send(main.whole[self.cut:])
        elif self.phase in ("idle", "parked"):
            name = self.name_of_order()
            if not main.reuse(post(self.mode, name, 1), name):
                self.note(repr(main))
                self.asked.append(self.order("another connection, as the idle one was refused").ask())
        self.asked.append(main)
        # A pool that is paused answers what it has not accepted yet when it goes on.
        is_accepted = self.phase in ("database", "writing")
        if is_accepted or not main.is_never_whole and "WINCH" not in (self.first, self.second):
            main.collect(self.deadline())

    def go_on(self):
        """After a pair without a stop: the pool is as it should be, and serves."""
        expected = outcomes(self.first, self.second, self.is_ordered)
        workers = self.until_settled(expected)
        pair = {self.first, self.second}
        if not pair & {*RELOADS, "WINCH"} and pair != {"TTIN", "TTOU"} and not self.is_never_whole:
            stayed = set(workers) & set(self.workers)
            self.must(len(stayed) == min(len(workers), WORKERS), f"nobody is replaced; there are {workers}, before it were {self.workers}")
        if not workers:
            self.send("TTIN")
            self.until_settled({(size + 1, False) for size, is_paused in expected if is_paused})
        last = self.order("at last").ask().collect(self.deadline())
        self.asked.append(last)
        if "USR1" in pair:
            self.must(self.happens(self.log_is_reopened, LIMIT), "everybody writes to the new log")

    def until_settled(self, expected):
        pair, seen = {self.first, self.second}, [None]

        def is_settled():
            if self.server.has_ended():
                raise Failure(f"the server serves on; it has ended after {self.first} {self.second}")
            workers = self.server.workers()
            possible = expected
            if len({is_paused for _, is_paused in expected}) == 2:
                # Those who were told to go are there for a moment more, and would be taken for those who stay.
                possible = {one for one in expected if one[1] == self.server.says_that_it_is_paused()}
            fits = any(len(workers) == (0 if is_paused else size) for size, is_paused in possible)
            if pair & RELOADS:
                fits = fits and self.server.programs() > 1 and not set(workers) & set(self.workers)
            # Twice the same: what is on its way from one to another passes.
            fits, seen[0] = fits and seen[0] == workers, workers
            time.sleep(0.02)
            return fits

        sizes = " or ".join(f"{size} workers{' that are let go' * is_paused}" for size, is_paused in sorted(expected))
        self.until(is_settled, lambda: f"{sizes}{' of a new generation' if pair & RELOADS else ''}; there are {self.server.workers()}, before it were {self.workers}, "
                   f"{self.server.programs()} programs")
        self.note(f"settled: {self.server.workers()}")
        return self.server.workers()

    def log_is_reopened(self):
        processes = [self.server.process.pid, *self.server.workers()]
        with contextlib.suppress(OSError):
            return all(os.readlink(f"/proc/{process}/fd/2") == str(self.server.log) for process in processes)

    def see_the_end(self):
        self.until(self.server.has_ended, f"it ends within {LIMIT} s")
        self.note("ended")
        if self.load:
            self.load.end()
        if self.kind == "inherited":
            self.must(os.path.exists(self.server.path), "the path of an inherited socket stays")
        elif self.server.path:
            self.must(not os.path.exists(self.server.path), "the socket's path is removed")
        else:
            with socket.socket() as probe:
                self.must(probe.connect_ex(self.address) != 0, "nobody listens on the port any more")
        left = [name for name in os.listdir(self.server.folder) if name.endswith(".sock") and not (self.kind == "inherited" and name == "s.sock")]
        self.must(not left, f"no socket is left, not {left}")
        self.must(self.server.has_gone(1.5), f"no process is left, not {self.server.rest()}")

    def clean_up(self, database):
        output, has_ended = self.server.output(), self.server.has_ended()
        self.exit_code = self.server.wipe_out()
        if has_ended:
            self.must(self.exit_code == 0, f"exit code 0, not {self.exit_code}")
        if self.load:
            self.load.end()
        leftover = Leftover(self.server.listener) if self.server.listener else None
        while leftover and leftover.take() and self.load and self.load.is_running():
            time.sleep(0.01)
        if self.load:
            self.load.join()
            self.asked += self.load.asked
        for asked in self.asked:
            asked.collect(time.monotonic() + 1)
            asked.close()
        if leftover:
            leftover.close()
        database.unlock()
        if has_ended:
            self.judge(database)
        self.log_end = "\n".join(output.splitlines()[-25:])

    def judge(self, database):
        """Every request that was accepted has been answered, every order that was acknowledged exists once, and no other."""
        rows = dict(database.rows(f"""select name, count(*) from "order" where name like '{self.prefix}-%' group by 1"""))
        lost = []
        for asked in self.asked:
            count, is_answered = int(rows.get(asked.key, 0)), asked.outcome in ("200", "201")
            if asked.key and count != is_answered:
                lost.append(f"an order that got {asked!r} is in the database {count} times")
            elif not is_answered and (why := self.why_an_answer_is_due(asked)):
                lost.append(f"{asked!r}, although {why}")
        # One of a kind is enough to read.
        self.problems += lost[:4] + [f"and {len(lost) - 4} more"] * (len(lost) > 4)

    def why_an_answer_is_due(self, asked):
        """None where it may be without one."""
        stop = self.stopped_at
        if asked.is_never_whole or asked.is_kept and asked.outcome == "refused":
            return None
        if asked.outcome == "left":
            return None if stop else "nothing has been told to stop"
        if stop is None or (asked.whole_at or asked.began_at) < stop:
            return f"it was sent {'before the stop' if stop else 'and nothing has been told to stop'}"
        if asked.began_at < stop and not asked.is_kept:
            return "it had begun before the stop"
        if asked.outcome == "refused" or asked.is_kept or self.kind == "tcp":
            return None
        return "its connection was accepted"

    def name_of_order(self):
        return f"{self.prefix}-{next(self.orders)}"

    def order(self, what, asked=None, contact=1):
        asked = asked or Asked(what, self.address)
        asked.key = self.name_of_order()
        asked.whole = post(self.mode, asked.key, contact)
        return asked

    def send(self, name):
        if name in STOPS and self.stopped_at is None:
            self.stopped_at = time.monotonic()
        if name == "USR1" and not self.server.old_log.exists():
            os.rename(self.server.log, self.server.old_log)
        self.note(name)
        self.server.send(getattr(signal, f"SIG{name}"))

    def note(self, text):
        self.events.append(f"{(time.monotonic() - self.began_at) * 1000:.0f} ms {text}")

    def must(self, holds, what):
        if not holds:
            self.problems.append(f"expected: {what}")

    def until(self, condition, what, seconds=LIMIT):
        if not self.happens(condition, seconds):
            raise Failure(f"expected: {what() if callable(what) else what}")

    @staticmethod
    def happens(condition, seconds):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    @staticmethod
    def deadline():
        return time.monotonic() + LIMIT

    def report(self):
        """What a person needs to see why it failed, and how to see it again."""
        happened = "\n  ".join(self.problems)
        return (f"{self.name} (seed {self.seed}): {'; '.join(self.events)}; exit code {self.exit_code}\n  {happened}\n"
                f"  the log's end:\n    {self.log_end.replace(chr(10), chr(10) + '    ')}")

    def line(self):
        answered = sum(asked.outcome in ("200", "201") for asked in self.asked)
        return f"{self.name}: {'FAILED' if self.problems else 'good'}, {self.seconds:.2f} s, {answered} of {len(self.asked)} answered"
