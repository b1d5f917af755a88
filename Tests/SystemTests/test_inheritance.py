"""What a process inherits from whoever starts it: dispositions of signals, the mask, descriptors. None of it may matter."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess

import pytest

from local_stack import MODES, PROGRAM, clean_environment, descendants, eventually, listens, temporary_folder

# Whoever starts us may have these ignored (nohup, a shell's `&`, a supervisor) or blocked (one that waits in sigwait).
SIGNALS = [signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGALRM, signal.SIGQUIT]


def ignoring(*signals):
    return lambda: [signal.signal(s, signal.SIG_IGN) for s in signals]


def blocking(*signals):
    return lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signals)


@contextlib.contextmanager
def responder(stack, mode, address, **arguments):
    process = subprocess.Popen(
        [PROGRAM, mode, "--listen", f"unix:{address}"],
        **{"stderr": subprocess.DEVNULL,
           "env": clean_environment(DB_HOST=stack.path("run"), DB_NAME="forkloop", DB_USER="forkloop", FORKLOOP_SYNC_WORKERS=1, FORKLOOP_DRAIN_TIMEOUT=20), **arguments})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def other_worker(process, before):
    now = descendants(process.pid, 1)
    return now if now and not set(now) & set(before) else None


@pytest.mark.parametrize("inherit", [ignoring, blocking])
@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_was_started_with_a_signal_ignored_or_blocked_serves_as_any_other(stack, mode, inherit):
    with temporary_folder() as folder, contextlib.ExitStack() as exits:
        started = [(s, exits.enter_context(responder(stack, mode, f"{folder}/{s.name}", preexec_fn=inherit(s)))) for s in SIGNALS]
        workers = {}
        for s, process in started:
            eventually(lambda: listens(f"{folder}/{s.name}"), 20, f"{inherit.__name__} {s.name}: it does not listen")
            workers[s] = eventually(lambda: descendants(process.pid, 1), 5, f"{inherit.__name__} {s.name}: there is no worker")
        for killed in workers.values():
            os.kill(killed[0], signal.SIGKILL)
        for s, process in started:
            workers[s] = eventually(lambda: other_worker(process, workers[s]), 10, f"{inherit.__name__} {s.name}: the worker that was killed was not replaced")
        for s, process in started:
            process.send_signal(signal.SIGHUP)
        for s, process in started:
            workers[s] = eventually(lambda: other_worker(process, workers[s]), 20, f"{inherit.__name__} {s.name}: there was no reload")
        for s, process in started:
            process.terminate()
        for s, process in started:
            assert process.wait(10) == 0, f"{inherit.__name__} {s.name}: it did not stop in order"


@pytest.mark.parametrize("mode", MODES)
def test_a_server_goes_on_when_nobody_reads_its_log_any_more(stack, mode):
    with temporary_folder() as folder, responder(stack, mode, f"{folder}/s", stderr=subprocess.PIPE) as process:
        assert any(b"listening" in line for line in process.stderr), "it did not start"
        process.stderr.close()
        workers = eventually(lambda: descendants(process.pid, 1), 5, "there is no worker")
        process.send_signal(signal.SIGTTIN)  # is logged
        os.kill(workers[0], signal.SIGKILL)  # so is this
        eventually(lambda: process.poll() is not None or other_worker(process, workers), 5, "the worker that was killed was not replaced")
        assert process.poll() is None, f"the master ended with {process.returncode}"
        before = descendants(process.pid, 1)
        process.send_signal(signal.SIGHUP)
        eventually(lambda: process.poll() is not None or other_worker(process, before), 10, "there was no reload")
        assert process.poll() is None, f"the master ended with {process.returncode}"
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_was_started_without_standard_streams_takes_no_file_of_its_own_for_them(stack, mode):
    with temporary_folder() as folder:
        closed = {"stderr": None, "preexec_fn": lambda: [os.close(n) for n in range(3)]}
        with responder(stack, mode, f"{folder}/s", **closed) as process:
            eventually(lambda: listens(f"{folder}/s"), 5, "it does not listen")
            files = [os.readlink(f"/proc/{process.pid}/fd/{n}") for n in range(3)]
            assert files == ["/dev/null"] * 3, files


@pytest.mark.parametrize("arguments", [["env"], ["openapi"], ["--help"], ["load", "http://127.0.0.1:{port}/sync/tag", "--seconds", "0.1", "--warm-up", "0"]])
def test_a_command_whose_output_nobody_reads_ends_quietly(stack, arguments):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([PROGRAM, *(a.format(port=stack.port) for a in arguments)], stdout=writer, stderr=subprocess.PIPE, timeout=20,
                          env=clean_environment(DATABASE_URL="postgresql://u:p@h:6/d"))
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b""), done


def test_an_hour_of_measuring_survives_its_terminal_where_nohup_was_asked_for():
    with temporary_folder() as folder:
        process = subprocess.Popen([PROGRAM, "compare", "--quick", "--out", f"{folder}/out", "--scenario", "rate"], preexec_fn=ignoring(signal.SIGHUP),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean_environment())
        try:
            status = pathlib.Path(f"/proc/{process.pid}/status")
            bits = lambda name: int(re.search(rf"^{name}:\s*(\w+)", status.read_text(), re.M)[1], 16)
            eventually(lambda: bits("SigCgt") & 1 << signal.SIGTERM - 1, 5, "it does not obey TERM")
            assert bits("SigIgn") & 1 << signal.SIGHUP - 1, "HUP is not ignored any more"
        finally:
            process.terminate()
            process.wait(60)
