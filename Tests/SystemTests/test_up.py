"""`forkloop up` under what can happen to it: signals at any moment, a start that is cut off, what a killed one leaves behind."""

import concurrent.futures
import contextlib
import fcntl
import glob
import http.client
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import termios

import pytest

from local_stack import PROGRAM, ROOT, LocalStack, clean_environment, command_line, descendants, eventually, free_port, is_running, listens, locked, request, temporary_folder

STOPPING = [signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGINT]


class Up:
    """A `forkloop up` from its first moment on."""

    def __init__(self, folder, port=None, arguments=(), **more):
        self.folder, self.port = folder, port or free_port()
        self.log = pathlib.Path(folder, f"up-{len(glob.glob(f'{folder}/up-*'))}.log")
        environment = clean_environment(**more.pop("environment", {}))
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([PROGRAM, "up", "--port", str(self.port), "--state", f"{folder}/var", *arguments],
                                            **{"stdout": log, "stderr": log, "cwd": ROOT, "env": environment, **more})

    def path(self, name):
        return f"{self.folder}/var/{name}"

    def output(self):
        return self.log.read_text()

    def says(self, text, seconds=20):
        eventually(lambda: text in self.output() or self.process.poll() is not None, seconds, f"it did not say '{text}' but:\n{self.output()}")
        assert text in self.output(), f"it ended with {self.process.returncode}, and said:\n{self.output()}"

    def parts(self, words):
        return [p for p in descendants(self.process.pid, 2) if words in command_line(p)]


@contextlib.contextmanager
def up(folder, *arguments, **more):
    running = Up(folder, *arguments, **more)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
            try:
                running.process.wait(30)
            except subprocess.TimeoutExpired:
                running.process.kill()
                running.process.wait()
                raise
        eventually(lambda: not left(folder), 20, f"these were left: {[command_line(p) for p in left(folder)]}")


def left(folder):
    """Processes that belong to the state folder."""
    return [p for p in map(int, filter(str.isdigit, os.listdir("/proc"))) if p != os.getpid() and belongs(p, folder)]


def belongs(process, folder):
    try:
        return f"{folder}/var" in command_line(process) or os.readlink(f"/proc/{process}/fd/2").startswith(f"{folder}/var")
    except OSError:
        return False


@pytest.fixture(scope="module")
def made():
    """A state folder whose cluster is made."""
    with temporary_folder() as folder:
        assert LocalStack(folder).stop() == 0
        yield folder


@contextlib.contextmanager
def copy_of(made):
    with temporary_folder() as folder:
        subprocess.run(["cp", "-a", f"{made}/var", folder], check=True)
        yield folder


@contextlib.contextmanager
def requests_under_way(stack):
    """One on each side that waits for a lock; both have to be answered when it goes."""
    with concurrent.futures.ThreadPoolExecutor(2) as clients:
        with locked(stack, "tag"):
            answers = [clients.submit(stack.request, "GET", f"/{mode}/tag") for mode in ("sync", "async")]
            eventually(lambda: stack.psql("select count(*) from pg_locks where not granted") == [("2",)], 5, "the requests do not wait for the lock")
            yield
        assert [a.result(30).status for a in answers] == [200, 200]


@pytest.mark.parametrize("first", STOPPING, ids=lambda s: s.name)
def test_a_signal_stops_it_in_order_whatever_else_comes_meanwhile(own_stack, first):
    process = own_stack.process
    with requests_under_way(own_stack):
        process.send_signal(first)
        eventually(lambda: "stopping" in own_stack.output() or process.poll() is not None, 5, "it does not stop")
        for other in [*STOPPING, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGPIPE, signal.SIGVTALRM, signal.SIGRTMIN, signal.SIGHUP]:
            process.send_signal(other)
    assert process.wait(20) == 0, own_stack.output()


def test_it_goes_on_when_nobody_reads_what_it_says_and_still_stops_in_order(made):
    with copy_of(made) as folder, up(folder, stdout=subprocess.PIPE) as running:
        running.process.stdout.close()
        eventually(lambda: running.process.poll() is not None or listens_on(running.port), 20, "it did not come up")
        assert running.process.poll() is None, f"it ended with {running.process.returncode}"
        os.kill(running.parts(" async --listen")[0], signal.SIGKILL)  # is told of, and that another is started
        eventually(lambda: running.process.poll() is not None or async_answers(running.port), 20, "the event loop was not started again")
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(20) == 0


def listens_on(port):
    with contextlib.suppress(OSError):
        return request(port, "GET", "/sync/health").status == 200


def async_answers(port):
    with contextlib.suppress(OSError, http.client.HTTPException):
        return request(port, "GET", "/async/health").status == 200


@contextlib.contextmanager
def on_a_terminal(folder, **more):
    """`up` in the foreground of a terminal of its own, and our end of that."""
    ours, theirs = os.openpty()
    try:
        def take_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        with up(folder, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=take_terminal, **more) as running:
            os.close(theirs)
            yield running, ours
    finally:
        with contextlib.suppress(OSError):
            os.close(ours)


def test_it_stops_in_order_when_its_terminal_is_closed(made):
    with copy_of(made) as folder, on_a_terminal(folder) as (running, terminal):
        eventually(lambda: listens_on(running.port), 20, "it did not come up")
        os.close(terminal)
        assert running.process.wait(20) == 0


def test_a_terminal_that_is_held_keeps_it_from_nothing(made):
    with copy_of(made) as folder, on_a_terminal(folder) as (running, terminal):
        os.write(terminal, b"\x13")  # Ctrl-S
        eventually(lambda: listens_on(running.port), 20, "it did not come up")
        running.process.terminate()
        assert running.process.wait(20) == 0


def test_it_is_not_stopped_by_a_terminal_that_closes_where_nohup_was_asked_for(made):
    with copy_of(made) as folder, up(folder, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as running:
        running.says("forkloop is up")
        running.process.send_signal(signal.SIGHUP)
        running.process.send_signal(signal.SIGUSR1)
        os.kill(running.parts(" async --listen")[0], signal.SIGKILL)
        running.says("restarted async")


def test_it_is_heard_by_those_that_it_is_to_tell_that_the_logs_have_been_moved(made):
    with copy_of(made) as folder, up(folder) as running:
        running.says("forkloop is up")
        logs = ["sync.log", "async.log", "access.log", "nginx-error.log"]
        for name in logs:
            os.rename(running.path(f"log/{name}"), running.path(f"log/{name}.1"))
        running.process.send_signal(signal.SIGUSR1)
        for name in logs:
            eventually(lambda: os.path.exists(running.path(f"log/{name}")), 5, f"{name} was not begun anew")
        for mode in ("sync", "async"):
            pathlib.Path(running.path(f"log/{mode}.log.1")).write_text("")
            master = running.parts(f" {mode} --listen")[0]
            eventually(lambda: os.readlink(f"/proc/{master}/fd/2") == running.path(f"log/{mode}.log"), 5, f"{mode} writes to the old log")
            before = descendants(master, 1)
            os.kill(before[0], signal.SIGKILL)
            eventually(lambda: f"worker {before[0]}" in pathlib.Path(running.path(f"log/{mode}.log")).read_text(), 5, f"{mode} says nothing in the new log")
            assert pathlib.Path(running.path(f"log/{mode}.log.1")).read_text() == ""
        assert request(running.port, "GET", "/sync/tag").status == 200
        eventually(lambda: "/sync/tag" in pathlib.Path(running.path("log/access.log")).read_text(), 5, "nginx writes to the old log")


# What a start goes through, and how it is seen that it has come as far.
PHASES = {
    "initdb": lambda u: u.parts("initdb"),
    "postgres": lambda u: u.parts("postgres -D"),
    "sync": lambda u: os.path.exists(u.path("run/sync.sock")),
    "nginx": lambda u: u.parts("nginx"),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_in_the_middle_of_the_start_stops_it_in_order(made, phase):
    with contextlib.ExitStack() as exits:
        def start(_):
            folder = exits.enter_context(temporary_folder() if phase == "initdb" else copy_of(made))
            for path in glob.glob(f"{folder}/var/run/*.sock"):
                os.unlink(path)
            return exits.enter_context(up(folder))

        def stopped(s):
            running = start(s)
            eventually(lambda: PHASES[phase](running), 20, f"it did not get to {phase}")
            running.process.send_signal(signal.SIGUSR1)
            running.process.send_signal(s)
            running.process.send_signal(signal.SIGUSR2)
            assert running.process.wait(10) == 0, f"{s.name}: {running.output()}"
            assert "stopping" in running.output()
            remaining = [command_line(p) for p in left(running.folder)]
            assert not remaining, f"{s.name}: it ended before {remaining}"
            assert glob.glob(running.path("postgres*")) == ([] if phase == "initdb" else [running.path("postgres")])

        with concurrent.futures.ThreadPoolExecutor(3) as threads:
            list(threads.map(stopped, [signal.SIGHUP, signal.SIGQUIT, signal.SIGINT]))


def test_a_signal_stops_it_while_it_waits_for_the_database(stack):
    where = {"DB_HOST": stack.path("run"), "DB_USER": "forkloop", "DB_NAME": "forkloop"}
    with temporary_folder() as folder, locked(stack, "schema_migration"), up(folder, environment=where) as running:
        eventually(lambda: stack.psql("select count(*) from pg_locks where not granted", user="postgres") == [("1",)], 10, "it does not wait for the lock")
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(5) == 0, running.output()


def test_what_it_starts_inherits_nothing_from_whoever_started_it(made):
    with copy_of(made) as folder:
        stray = os.open(f"{folder}/stray", os.O_CREAT | os.O_RDWR)

        def leave_things_behind():
            for number in (3, 4, 20, 999):
                os.dup2(stray, number)
            for s in (signal.SIGCHLD, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGPIPE):
                signal.signal(s, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGCHLD])

        service_manager = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "5000000", "LISTEN_FDS": "2", "LISTEN_PID": "1"}
        with up(folder, preexec_fn=leave_things_behind, close_fds=False, environment=service_manager) as running:
            running.says("forkloop is up")
            for words in ("postgres -D", " sync --listen", " async --listen", "nginx: master"):
                process = running.parts(words)[0]
                files = {n: os.readlink(f"/proc/{process}/fd/{n}") for n in os.listdir(f"/proc/{process}/fd")}
                foreign = {n: f for n, f in files.items() if f.endswith(("/stray", "/up.lock"))}
                assert not foreign, f"{words}: {foreign}"
                assert files["0"] == "/dev/null", f"{words}: it reads from {files['0']}"
                about = pathlib.Path(f"/proc/{process}/status").read_text()
                ignored = int(next(line for line in about.splitlines() if line.startswith("SigIgn")).split()[1], 16)
                assert not ignored & 1 << signal.SIGCHLD - 1, f"{words}: it ignores CHLD"
                told = pathlib.Path(f"/proc/{process}/environ").read_bytes()
                assert not any(name.encode() in told for name in service_manager), f"{words}: {told}"
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(20) == 0, running.output()
        os.close(stray)


def test_a_start_behind_one_that_was_killed_waits_for_what_is_still_ending(made):
    with copy_of(made) as folder, up(folder) as first:
        first.says("forkloop is up")
        postgres = first.parts("postgres -D")[0]
        # It has to write a checkpoint before it ends.
        checkpointer = next(p for p in descendants(postgres, 1) if "checkpointer" in command_line(p))
        os.kill(checkpointer, signal.SIGSTOP)
        try:
            first.process.kill()
            first.process.wait()
            with up(folder, first.port) as second:
                second.says(f"waiting for postgres ({postgres})")
                assert is_running(postgres)
                os.kill(checkpointer, signal.SIGCONT)
                second.says("forkloop is up")
                assert request(second.port, "GET", "/sync/tag").status == 200
                second.process.send_signal(signal.SIGINT)
                assert second.process.wait(20) == 0, second.output()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(checkpointer, signal.SIGCONT)


def test_it_starts_after_any_start_that_was_killed(made):
    with temporary_folder() as folder:
        port = free_port()
        for phase in PHASES:
            running = Up(folder, port)
            eventually(lambda: PHASES[phase](running) or running.process.poll() is not None, 30, f"it did not get to {phase}: {running.output()}")
            assert running.process.poll() is None, running.output()
            if phase == "initdb":
                for process in running.parts("initdb"):
                    os.kill(process, signal.SIGKILL)
            running.process.kill()
            running.process.wait()
        with up(folder, port) as running:
            running.says("forkloop is up", 30)
            assert request(port, "GET", "/async/tag").status == 200
            assert glob.glob(running.path("postgres*")) == [running.path("postgres")], "a folder of a start that was cut off is left"


def test_a_pid_that_somebody_else_has_by_now_is_no_postgresql(made):
    with copy_of(made) as folder:
        # As after a crash of the machine: our own id stands for that of any process which is there.
        other = subprocess.Popen(["sleep", "600"], user="postgres" if os.geteuid() == 0 else None)
        try:
            pathlib.Path(folder, "var/postgres/postmaster.pid").write_text(f"{other.pid}\n{folder}/var/postgres\n1\n5432\n{folder}/var/run\n\n  1 1\nready   \n")
            pathlib.Path(folder, "var/db/.s.PGSQL.5432.lock").write_text(f"{other.pid}\n{folder}/var/postgres\n1\n5432\n{folder}/var/run\n")
            for name in ("postgres/postmaster.pid", "db/.s.PGSQL.5432.lock"):
                shutil.chown(f"{folder}/var/{name}", "postgres") if os.geteuid() == 0 else None
            with up(folder) as running:
                running.says("forkloop is up")
        finally:
            other.kill()
            other.wait()


def recovers_until_told(folder):
    """PostgreSQL is starting up for as long as the file `go` is not there."""
    with open(f"{folder}/var/postgres/postgresql.conf", "a") as settings:
        settings.write(f"restore_command = 'while [ ! -e {folder}/go ]; do sleep 0.05; done; false'\n")
    pathlib.Path(folder, "var/postgres/recovery.signal").touch()
    if os.geteuid() == 0:
        shutil.chown(f"{folder}/var/postgres/recovery.signal", "postgres")


def test_a_recovery_that_takes_its_time_is_waited_for_and_told_of(made):
    with copy_of(made) as folder:
        recovers_until_told(folder)
        with up(folder) as running:
            running.says("waiting for postgres to start (5 s): ")
            pathlib.Path(folder, "go").touch()
            running.says("forkloop is up")


def test_a_postgresql_that_ends_while_it_is_waited_for_is_told_at_once(made):
    with copy_of(made) as folder:
        recovers_until_told(folder)
        with up(folder) as running:
            eventually(lambda: listens(running.path("db/.s.PGSQL.5432")), 20, "postgres has no socket")
            os.kill(running.parts("postgres -D")[0], signal.SIGKILL)
            pathlib.Path(folder, "go").touch()
            assert running.process.wait(5) == 1
            assert running.output().splitlines()[-1].startswith("forkloop: postgres did not start"), running.output()


@pytest.mark.parametrize("files", [["base/1/x"], ["PG_VERSION", "postgresql.conf"]])
def test_a_cluster_that_was_never_completed_is_one_line_that_says_what_to_do(files):
    with temporary_folder() as folder:
        for name in files:
            path = pathlib.Path(folder, "var/postgres", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("15\n")
        with up(folder) as running:
            assert running.process.wait(20) == 1
            assert running.output().count("\n") == 1 and f"rm -r {running.path('postgres')}" in running.output(), running.output()


def test_an_initdb_that_fails_is_one_line_and_leaves_nothing_behind(made):
    with temporary_folder() as folder:
        # No file may be longer than this: a disk that is full, to initdb.
        with up(folder, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))) as running:
            assert running.process.wait(20) == 1
            assert running.output().splitlines()[-1].startswith("forkloop: initdb exited with 1; see "), running.output()
            assert glob.glob(running.path("postgres*")) == [], "something was left"


def test_a_state_folder_is_made_with_the_folders_above_it(made):
    with temporary_folder() as folder:
        done = subprocess.run([PROGRAM, "up", "--port", str(free_port()), "--state", f"{folder}/a/b/c"], capture_output=True, text=True, timeout=30, umask=0o077,
                              cwd=ROOT, env=clean_environment(DB_HOST="/nowhere"))
        assert os.path.isdir(f"{folder}/a/b/c/run"), done
        assert "a folder above it is closed" not in done.stderr, done


def test_a_service_that_does_not_hear_that_it_is_to_stop_does_not_keep_it_from_stopping(made):
    with copy_of(made) as folder, up(folder) as running:
        running.says("forkloop is up")
        for words in (" sync --listen", "nginx: master", "postgres -D"):
            os.kill(running.parts(words)[0], signal.SIGSTOP)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(20) == 0, running.output()
