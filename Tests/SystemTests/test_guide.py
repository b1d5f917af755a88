"""docs/sync-and-async.md: its code stands in the sources or is run here, and what it shows of a run is what a run shows."""

import pathlib
import re
import select
import shutil
import subprocess
import textwrap

import pytest

from fastcgi_client import answer
from local_stack import MODES, ROOT, eventually, temporary_folder
from test_workload import SLEEPING, work, workload

GUIDE = (ROOT / "docs/sync-and-async.md").read_text()
OWN = ROOT / "Tests/SystemTests/guide"
RUN = [*OWN.glob("*.swift"), ROOT / "Tests/AsyncServerTests/GuideTests.swift"]
# The language and the text of each block.
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.M | re.S)
SWIFT = [text for language, text in BLOCKS if language == "swift"]
SHOWN = [text for language, text in BLOCKS if language == "text"]

needs_a_compiler = pytest.mark.skipif(not shutil.which("swiftc"), reason="there is no swiftc")


def shown(word):
    """The block that shows a run's output in which `word` stands."""
    (text,) = [text for text in SHOWN if word in text]
    return text


def without_what_varies(text):
    """A log without its times, process ids, milliseconds and folders."""
    return re.sub(r'"/[^"]*/', '"/', re.sub(r"\d+", "0", text))


def was_logged(one, word):
    """Waits until the log has the line that the guide shows of such a responder."""
    for line in shown(word).splitlines():
        if f" {one.mode}[" in line:
            eventually(lambda: without_what_varies(line) in without_what_varies(one.log.read_text()), 5, f"the log has no such line: {line}")


def swiftc(*arguments):
    done = subprocess.run(["swiftc", "-swift-version", "6", *arguments], cwd=OWN, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_the_guide_is_read_at_one_sitting():
    words = len(re.sub(r"^```.*?^```$", "", GUIDE, flags=re.M | re.S).split())
    assert words <= 2500, f"it has {words} words"


@pytest.mark.parametrize("block", SWIFT, ids=[" ".join(text.split())[:60] for text in SWIFT])
def test_its_code_stands_in_the_sources_or_is_run(block):
    """In a function it stands further to the right."""
    files = [path.read_text() for path in [*(ROOT / "Sources").rglob("*.swift"), *RUN]]
    placed = [textwrap.indent(block, " " * spaces) for spaces in range(0, 14, 2)]
    assert any(text in file for file in files for text in placed), f"it stands nowhere any more:\n{block}"


# --- what one sees

@pytest.mark.parametrize("mode", MODES)
def test_a_request_that_computes_holds_up_a_loop_and_no_pool(stack, mode):
    computing = "processor=500000&statements=0"
    with workload(stack, mode, FORKLOOP_SYNC_WORKERS=2) as one:
        assert work(one)[0] == 200
        with one.send("/work", query=computing) as first:
            assert work(one)[0] == 200
            is_first_answered = bool(select.select([first], [], [], 0)[0])
            assert b"200 OK" in answer(first)
        assert is_first_answered == (mode == "async")
        if mode == "async":
            was_logged(one, "slow: a turn")


@pytest.mark.parametrize("connections", [1, 2])
def test_a_fast_statement_waits_behind_a_slow_one_where_there_is_one_connection(stack, connections):
    with workload(stack, "async", FORKLOOP_ASYNC_DB_CONNECTIONS=connections) as one:
        assert [work(one)[0] for _ in range(4)] == [200] * 4
        with one.send("/work", query="time=9000") as slow:
            eventually(lambda: stack.psql(SLEEPING.format("async")) == [("1",)], 5, "the slow one is not at work")
            if connections == 2:
                assert work(one)[0] == 200
                assert not select.select([slow], [], [], 0)[0], "the slow one was not slow"
            with one.send("/work") as fast:
                assert connections == 2 or not select.select([fast], [], [], 0.1)[0], "it passed the slow one"
                stack.psql("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")
                assert b"200 OK" in answer(fast)


@pytest.mark.parametrize("mode", MODES)
def test_with_fewer_connections_than_planned_requests_wait_and_none_is_refused(stack, mode):
    there = int(stack.psql("select count(*) from pg_stat_activity where usename = 'forkloop'")[0][0])
    stack.psql(f"alter role forkloop connection limit {there + 4}")
    try:
        with workload(stack, mode) as one:
            was_logged(one, "too many connections")
            assert [work(one)[0] for _ in range(20)] == [200] * 20
    finally:
        stack.psql("alter role forkloop connection limit -1")


# --- what the compiler and the kernel say

@needs_a_compiler
def test_no_span_outlives_its_rows():
    include = subprocess.run(["pg_config", "--includedir"], capture_output=True, text=True, check=True).stdout.strip()
    sources = ROOT / "Sources"
    code, said = swiftc(
        "-package-name", "forkloop", "-enable-experimental-feature", "Lifetimes", "-parse-as-library", "-wmo", "-emit-sil", "-o", "/dev/null",
        "-I", str(sources / "CPostgres"), "-Xcc", f"-I{include}", str(sources / "Postgres/ResultSet.swift"), "span.swift")
    missing = [line for line in shown("escapes its scope").splitlines() if line not in said]
    assert code != 0 and not missing, said


@needs_a_compiler
def test_no_task_runs_behind_a_fork():
    with temporary_folder() as folder:
        program = pathlib.Path(folder, "fork")
        code, said = swiftc("-o", str(program), "fork.swift")
        assert code == 0, said
        assert subprocess.run([program], capture_output=True, text=True).stdout == shown("in the child")
