"""`forkloop trace`: one request through both models as strace sees it; and how many system calls a request costs each of them."""

import contextlib
import glob
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import xml.etree.ElementTree as xml

import pytest

from local_stack import MODES, PROGRAM, ROOT, LocalStack, clean_environment, command_line, descendants, eventually, temporary_folder
from test_commands import run

# One process for all, which has one stack.
pytestmark = pytest.mark.xdist_group("trace")

SVG = "{http://www.w3.org/2000/svg}"
# A line of a timeline: when, who, what, with whom, what came of it, how long it took.
CALL = re.compile(r"^ *(\d+) (nginx|forkloop|postgres) +([a-z0-9_]+) +(\S*) +((?:\S+ )*?\S*) +(\d+|–)$")


@contextlib.contextmanager
def attached(processes, *flags):
    """Some processes under strace."""
    with temporary_folder() as folder:
        said = pathlib.Path(folder, "said")
        with open(said, "w") as log:
            strace = subprocess.Popen(["strace", "-f", *flags, *(f"-p{process}" for process in processes)], stderr=log)
        try:
            eventually(lambda: strace.poll() is not None or said.read_text().count(" attached") >= len(processes), 20, "strace does not attach")
            assert strace.poll() is None, said.read_text()
            yield
        finally:
            strace.send_signal(signal.SIGINT)
            strace.wait(20)


@pytest.fixture(scope="module")
def can_trace():
    """Skips where nobody may look into another user's process, as in a container without CAP_SYS_PTRACE."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    process = subprocess.Popen(["sleep", "60"], user="nobody" if os.geteuid() == 0 else None)
    try:
        with attached([process.pid], "-o/dev/null"):
            pass
    except AssertionError as error:
        pytest.skip(f"strace can't attach to a process here: {error}")
    finally:
        process.kill()
        process.wait()


def scratch(log):
    """The scratch folder of a run, by what it told."""
    return re.search(r" in (/tmp/forkloop-trace\.\w+)", log)[1]


def left(folder):
    """What there still is of a run: its folder, and processes that name it or work in it."""
    def folders(process):
        with contextlib.suppress(OSError):
            return os.readlink(f"/proc/{process}/cwd")
        return ""

    processes = [int(path.split("/")[2]) for path in glob.glob("/proc/[0-9]*/cmdline")]
    here = [f"{p}: {command_line(p)}" for p in processes if folder in command_line(p) or folders(p).startswith(folder)]
    return here + [folder] * os.path.exists(folder)


def trace(*arguments, code=0, command=(), **environment):
    done = subprocess.run([*command, PROGRAM, "trace", *arguments], capture_output=True, text=True, timeout=120, cwd=ROOT, env=clean_environment(**environment))
    assert done.returncode == code, done
    assert left(scratch(done.stderr)) == [], "something is left of it"
    return done


def calls(lines):
    """The calls that are in a timeline's lines, as (who, call, with whom, outcome)."""
    return [match.group(2, 3, 4, 5) for match in map(CALL.match, lines) if match]


def assert_in_order(wanted, calls):
    """That all of them are there, one behind the other."""
    rest = iter(calls)
    for one in wanted:
        assert any(re.fullmatch(pattern, " ".join(call)) for call in rest for pattern in [one]), f"{one} is missing, or not in its place: {calls}"


def counted(lines):
    (found,) = re.findall(r"^  (\d+) system calls: nginx (\d+), forkloop (\d+), postgres (\d+)$", "\n".join(line.rstrip() for line in lines), re.M)
    return [int(number) for number in found]


@pytest.fixture(scope="module")
def traced(can_trace, tmp_path_factory):
    """The columns of a trace of a contact, and its drawing."""
    svg = tmp_path_factory.mktemp("trace") / "trace.svg"
    done = trace("/contact/1", "--svg", str(svg))
    columns = zip(*(line.split("│") if "│" in line else (line, "") for line in done.stdout.splitlines()))
    sync, other = ([cell.rstrip().removeprefix(" ") if index else cell.rstrip() for cell in column] for index, column in enumerate(columns))
    return {"sync": sync, "async": other}, svg


EVERY_MODEL = {
    "sync": ["nginx recvfrom client .*", "nginx connect forkloop ", "forkloop accept4 nginx ", "forkloop sendto postgres .* B", "postgres recvfrom forkloop .* B",
             "postgres sendto forkloop .* B", "forkloop recvfrom postgres .* B", "forkloop write nginx .* B", "nginx recvfrom forkloop .* B", "nginx writev client .* B"],
    # The connection to the loop was kept.
    "async": ["nginx recvfrom client .*", "nginx writev forkloop .*", "forkloop read nginx .* B", "forkloop sendto postgres .* B", "postgres recvfrom forkloop .* B",
              "postgres sendto forkloop .* B", "forkloop recvfrom postgres .* B", "forkloop sendto nginx .* B", "nginx recvfrom forkloop .* B", "nginx writev client .* B"],
}


@pytest.mark.parametrize("mode", MODES)
def test_a_timeline_shows_the_way_of_the_request(traced, mode):
    lines = traced[0][mode]
    found = calls(lines)
    assert f"/{mode}, " in lines[0], lines[0]
    assert_in_order(EVERY_MODEL[mode], found)
    assert counted(lines) == [len(found), *(sum(who == one for who, *_ in found) for one in ("nginx", "forkloop", "postgres"))]
    times = [int(line.split()[0]) for line in lines if CALL.match(line)]
    assert times[0] == 0 and times == sorted(times), "it is not in order"
    assert not [call for call in found if mode == "async" and call[1] == "connect"], "the connection was not kept"


def test_the_drawing_shows_the_same_calls_and_needs_nothing_else(traced):
    columns, svg = traced
    drawing = xml.parse(svg).getroot()
    panels = drawing.findall(f"{SVG}g")
    for mode, panel in zip(MODES, panels, strict=True):
        found = calls(columns[mode])
        assert [text.text for text in panel.findall(f"{SVG}text") if text.get("class") == "call"] == [call for _, call, *_ in found]
        assert f"GET /{mode}/contact/1" in panel.find(f"{SVG}text").text
        # Client, nginx, responder, PostgreSQL, and back.
        assert len([path for path in panel.findall(f"{SVG}path") if path.get("class") == "arrow"]) >= 6
        for box in panel.findall(f"{SVG}rect"):
            assert float(box.get("x")) >= 0 and float(box.get("y")) + float(box.get("height")) <= float(drawing.get("height"))
    text = svg.read_text()
    assert "prefers-color-scheme: dark" in text and not re.search(r"href|url\((?!#)|@import|<script", text), "it fetches something"


def test_a_path_that_is_not_there_is_traced_and_said_and_a_narrow_terminal_gets_one_model_beneath_the_other(can_trace):
    done = trace("/nothing", "--warm-up", "0", COLUMNS="80")
    for mode in MODES:
        assert f"GET /{mode}/nothing was answered with 404" in done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80 and "│" not in done.stdout
    (second,) = [index for index, line in enumerate(lines) if line.startswith("/async, ")]
    for mode, part in zip(MODES, (lines[:second], lines[second:])):
        found = calls(part)
        assert {who for who, *_ in found} == {"nginx", "forkloop"}, f"/{mode}: the database has nothing to do with it: {found}"
        assert f"  404, " in "\n".join(part)


def test_a_write_s_timeline_has_what_postgresql_writes(can_trace):
    order = {"name": "a", "contact_id": 1, "order_lines": [{"product_id": 1, "quantity": 1, "price": 1}], "tag_ids": [1]}
    done = trace("/order", "--method", "POST", "--body", json.dumps(order), COLUMNS="1")
    assert done.stdout.count("  201, ") == 2, done.stdout
    assert done.stdout.count(" fdatasync ") == 2, done.stdout


def test_ctrl_c_leaves_nothing(can_trace):
    with temporary_folder() as folder:
        log = pathlib.Path(folder, "log")
        with open(log, "w") as out:
            process = subprocess.Popen([PROGRAM, "trace", "/contact/1", "--warm-up", "10000"], stdout=out, stderr=out, cwd=ROOT, env=clean_environment())
        # In the middle: everything has been started, and it warms up.
        eventually(lambda: " in /tmp/" in log.read_text(), 20, "it does not begin")
        state = f"{scratch(log.read_text())}/var"
        eventually(lambda: os.path.exists(f"{state}/nginx/nginx.pid"), 60, "the stack does not start")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()
        assert log.read_text().endswith("forkloop: stopped\n")
        assert left(scratch(log.read_text())) == [], "something is left of it"


def test_what_may_not_be_traced_is_told_in_a_line(can_trace):
    if os.geteuid() != 0:
        pytest.skip("only root can give the right away")
    done = trace("/contact/1", "--warm-up", "0", code=1, command=["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"])
    assert "Operation not permitted" in done.stderr and "trace as root" in done.stderr and "SYS_PTRACE" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 2, done.stderr


def test_that_strace_is_not_installed_is_told_before_anything_is_started():
    done = run("trace", "/contact/1", PATH="/nowhere")
    assert (done.returncode, done.stderr) == (1, "forkloop: strace is not installed: apt-get install strace\n")


@pytest.mark.parametrize("arguments, words", [
    (["contact"], "'contact' is no path"), (["/a b"], "'/a b' is no path"), (["/sync/contact/1"], "below /sync and /async: /contact/1"), ([], "<path>"),
    (["/contact/1", "--method", "get"], "--method must be in capital letters"), (["/contact/1", "--warm-up", "-1"], "--warm-up"),
    (["/contact/1", "--warm-up=10001"], "--warm-up must be from 0 to 10000, not 10001"), (["/contact/1", "--svg", "/nowhere/a.svg"], "/nowhere/a.svg")])
def test_a_wrong_flag_is_told(arguments, words):
    done = run("trace", *arguments)
    assert done.returncode in (1, 2) and words in done.stderr, done
    assert "starting" not in done.stderr


# --- how many there are

@pytest.fixture(scope="module")
def small(can_trace):
    """One worker, one loop, a database connection each: nobody but the request's own process is counted."""
    with temporary_folder() as folder:
        stack = LocalStack(folder, arguments=(), FORKLOOP_SYNC_WORKERS=1, FORKLOOP_ASYNC_DB_CONNECTIONS=1)
        yield stack
        assert stack.stop() == 0, stack.output()


ORDER = {"name": "SO1", "contact_id": 1, "order_lines": [{"product_id": 1, "quantity": 3, "price": 0.25}], "tag_ids": [1]}
# The system calls of the responder for a sequential request, at most. Whether one needs more is a decision: it is taken here.
MOST = [
    ("GET", "/contact/1", None, {"sync": 9.1, "async": 4.1}),
    ("GET", "/order?limit=20", None, {"sync": 9.1, "async": 4.1}),
    ("POST", "/order", ORDER, {"sync": 9.1, "async": 4.1}),
]
REQUESTS = 100
# A worker looks whether it has been told to end every 10 ms, however many requests it answers meanwhile. A loop waits twice for a
# request, for its bytes and for the rows; and once more where a timer has come between, on a slow machine more often.
BY_THE_CLOCK = {"rt_sigpending", "epoll_wait", "epoll_pwait2"}
MOST_WAITS = 2.7


def ask(client, method, path, body):
    client.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"} if body else {})
    answer = client.getresponse()
    assert answer.status in (200, 201), answer.read()
    answer.read()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method, path, body, most", MOST, ids=[f"{method} {path}" for method, path, *_ in MOST])
def test_a_sequential_request_costs_its_responder_so_many_system_calls(small, tmp_path, method, path, body, most, mode):
    """All that the process asks of the kernel, the least of a few counts: what happens by the clock, on a busy machine more often, only adds."""
    client = http.client.HTTPConnection("127.0.0.1", small.port, timeout=30)
    workers = descendants(small.children(mode)[0], 1)
    assert len(workers) == 1, workers
    for _ in range(10):
        ask(client, method, f"/{mode}{path}", body)
    counts = []
    while len(counts) < 5 and (not counts or min(counts)[0] > most[mode]):
        with attached(workers, "-c", "-Ucalls,name", f"-o{tmp_path}/calls"):
            for _ in range(REQUESTS):
                ask(client, method, f"/{mode}{path}", body)
        rows = re.findall(r"^\s*(\d+)\s+(\w+)$", (tmp_path / "calls").read_text(), re.M)
        names = sorted((name, int(number) / REQUESTS) for number, name in rows if name not in {"total", *BY_THE_CLOCK})
        waits = sum(int(number) for number, name in rows if name in {"epoll_wait", "epoll_pwait2"}) / REQUESTS
        assert waits <= MOST_WAITS, f"{method} /{mode}{path}: the loop waits {waits} times per request"
        counts.append((sum(number for _, number in names), names))
    client.close()
    each, names = min(counts)
    print(f"{method} /{mode}{path}: {each:.2f}", names)
    assert 3.9 < each <= most[mode], f"{method} /{mode}{path}: {each:.2f} system calls per request, not {most[mode]}: {names}"
