"""A whole stack for the tests: `forkloop up` in a temporary folder, on a free port, and ways to look into it."""

import contextlib
import fcntl
import glob
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("FORKLOOP", str(ROOT / ".build" / "release" / "forkloop"))
MODES = ("sync", "async")
# The program itself: Debian's `psql` is a script in Perl that finds it.
PSQL = max(glob.glob("/usr/lib/postgresql/*/bin/psql"), key=lambda path: int(path.split("/")[4]), default="psql")


_claims = []


def free_port():
    """A port that nobody else is given: not in this run, nor in another that goes on at the same time. Each is claimed by a
    socket in the abstract namespace (unix(7)), which ends with this process. Below the ports that the kernel gives to clients."""
    for port in random.sample(range(20_000, 32_000), 1_000):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0forkloop-test-port-{port}")
            with socket.socket() as s:
                s.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return port
    raise AssertionError("no port is free")


def eventually(condition, seconds=20, message="it did not happen"):
    """Waits until `condition()` is true; a generous bound against hanging, not a timing."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{message} within {seconds} s")


def listens(path):
    """Whether somebody listens on a Unix socket; its file alone is there a little earlier."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


def clean_environment(**more):
    """This environment without what would lead to another database."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "DB_", "DATABASE_URL", "FORKLOOP"))}
    return {**keep, **{k: str(v) for k, v in more.items()}}


def in_memory():
    """Where files cost no disk, if there is space for the clusters of a few stacks, and programs may be run from there."""
    with contextlib.suppress(OSError):
        space = os.statvfs("/dev/shm")
        if space.f_bavail * space.f_frsize > 2 << 30 and not space.f_flag & os.ST_NOEXEC and os.access("/dev/shm", os.W_OK):
            return "/dev/shm"


@contextlib.contextmanager
def temporary_folder():
    """A folder that PostgreSQL's and nginx's users can get to."""
    folder = tempfile.mkdtemp(prefix="forkloop-", dir=in_memory())
    os.chmod(folder, 0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def header(self, name):
        values = [v for n, v in self.headers if n.lower() == name.lower()]
        return values[0] if len(values) == 1 else (None if not values else values)

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:300]!r}"


def request(port, method, path, body=None, headers=None, timeout=30):
    """One request over a connection of its own. `body` may be bytes, text, or anything that becomes JSON."""
    headers = dict(headers or {})
    if body is not None and not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    if body is not None and not any(h.lower() == "content-type" for h in headers):
        headers["Content-Type"] = "application/json"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        if body is not None:
            try:
                connection.send(body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before it was all sent: the answer is there
        response = connection.getresponse()
        return Answer(response.status, response.getheaders(), response.read())
    finally:
        connection.close()


class LocalStack:
    """A running `forkloop up`."""

    # A folder with the state that a new stack is to find, made by the first who needs it; None: each begins with nothing.
    template = None

    def __init__(self, folder, arguments=("--empty",), **environment):
        self.folder, self.port = folder, free_port()
        if self.template and "DB_HOST" not in environment and not os.path.exists(f"{folder}/var"):
            subprocess.run(["cp", "-a", "--sparse=always", made(self.template), f"{folder}/var"], check=True)
        self.log = open(os.path.join(folder, "up.log"), "w+")
        self.process = subprocess.Popen(
            [PROGRAM, "up", "--port", str(self.port), "--state", f"{folder}/var", *arguments],
            stdout=self.log, stderr=subprocess.STDOUT, cwd=ROOT, env=clean_environment(**environment))
        try:
            eventually(self._is_up, 60, "the stack did not come up")
        except BaseException:
            print(self.output(), self.logs())
            self.process.kill()
            raise

    def _is_up(self):
        assert self.process.poll() is None, f"forkloop up ended: {self.output()}"
        return "forkloop is up" in self.output()

    def output(self):
        return pathlib.Path(self.log.name).read_text()

    def logs(self):
        return "\n".join(f"== {p}\n{pathlib.Path(p).read_text()[-3000:]}" for p in glob.glob(f"{self.folder}/var/log/*"))

    def path(self, name):
        return f"{self.folder}/var/{name}"

    def request(self, method, path, body=None, headers=None, **more):
        return request(self.port, method, path, body, headers, **more)

    def both(self, method, path, body=None, headers=None):
        """The answer that both servers give to the same request, once it is the same but for the server's name."""
        sync, other = (self.request(method, f"/{mode}{path}", body, headers) for mode in MODES)
        assert comparable(sync, "sync") == comparable(other, "async"), f"{method} {path}: {sync} is not {other}"
        return sync

    def psql(self, sql, user="postgres", database="forkloop"):
        """Runs SQL on the stack's database, or on another of its server, as somebody who may do anything with it (the responders' role
        is `forkloop`); rows as tuples of text."""
        done = subprocess.run(
            [PSQL, "-XAtq", "-v", "ON_ERROR_STOP=1", "-F", "\t", "-c", sql], capture_output=True, text=True,
            env=clean_environment(PGHOST=self.path("run"), PGPORT=5432, PGUSER=user, PGDATABASE=database))
        assert done.returncode == 0, done.stderr
        return [tuple(line.split("\t")) for line in done.stdout.splitlines()]

    def psql_open(self, sql):
        """A session that has run `sql` and holds what it got until it is killed."""
        session = subprocess.Popen(
            [PSQL, "-XAtq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=clean_environment(PGHOST=self.path("run"), PGPORT=5432, PGUSER="postgres", PGDATABASE="forkloop"))
        session.stdin.write(f"{sql};\nselect 'done';\n")
        session.stdin.flush()
        while session.stdout.readline() not in ("done\n", ""):
            pass
        return session

    def children(self, name):
        """Process ids of the service `sync`, `async`, `postgres` or `nginx` itself."""
        words = {"sync": " sync --listen", "async": " async --listen", "postgres": "postgres -D", "nginx": "nginx: master"}
        return [p for p in descendants(self.process.pid, 1) if words[name] in command_line(p)]

    def workers(self):
        """Process ids of the prefork workers."""
        masters = self.children("sync")
        return descendants(masters[0], 1) if masters else []

    def stop(self, sig=signal.SIGINT):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        code = self.process.wait(60)
        self.log.close()
        return code


def made(template):
    """The state of a stack that was up once, with a cluster that need not survive the end of the machine. To make a cluster takes
    most of the time that a stack takes to come up, so this is done once in a run of the tests, for all of its processes."""
    with open(f"{template}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(template):
            with temporary_folder() as folder:
                stack = LocalStack.__new__(LocalStack)
                stack.template = None
                stack.__init__(folder)
                stack.psql("alter system set fsync = off")
                # What a test puts in a table's place, the responders may read and write.
                for rights in ("select, insert, update, delete on tables", "usage on sequences"):
                    stack.psql(f"alter default privileges in schema public grant {rights} to forkloop")
                assert stack.stop() == 0, stack.output()
                for name in ("log", "run", "db", "nginx", "up.lock"):
                    subprocess.run(["rm", "-rf", stack.path(name)], check=True)
                subprocess.run(["cp", "-a", "--sparse=always", f"{folder}/var", f"{template}.new"], check=True)
                os.rename(f"{template}.new", template)
    return template


def emptied(stack):
    """The stack, whose tables are empty and whose ids start over, whichever tables there are."""
    stack.psql("""
        do $$ begin
          execute (select 'truncate ' || string_agg(format('%I', tablename), ', ') || ' restart identity cascade'
                   from pg_tables where schemaname = 'public' and tablename <> 'schema_migration');
        end $$""")
    return stack


@contextlib.contextmanager
def locked(stack, table):
    """While nobody can read `table`."""
    lock = stack.psql_open(f'begin; lock table "{table}"')
    try:
        yield lock
    finally:
        lock.kill()
        lock.wait()


@contextlib.contextmanager
def slow_row(stack, table, id, seconds):
    """While the responders' reads of one row of `table` take that long: a policy sleeps."""
    stack.psql(f"""alter table "{table}" enable row level security; create policy free on "{table}" using (true) with check (true);
                   create policy slow on "{table}" as restrictive for select using (id <> {id} or pg_sleep({seconds}) is not null)""")
    try:
        yield
    finally:
        # Those that sleep for nobody any more would keep the table.
        stack.psql("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")
        stack.psql(f'drop policy free on "{table}"; drop policy slow on "{table}"; alter table "{table}" disable row level security')


def comparable(answer, mode):
    """What of an answer has to be equal on both servers."""
    skip = {"date", "x-request-id", "server-timing"}
    headers = sorted((n.lower(), v.replace(f"/{mode}/", "/MODE/")) for n, v in answer.headers if n.lower() not in skip)
    return answer.status, headers, answer.body


def descendants(process, levels):
    """Process ids of children, and of theirs."""
    found = []
    for child in children(process):
        try:
            state = pathlib.Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state != "Z":
            found.append(child)
            if levels > 1:
                found += descendants(child, levels - 1)
    return sorted(found)


def children(process):
    """Of all its threads (proc(5)); to look at every process of the machine takes a hundred times as long."""
    found = []
    for path in glob.glob(f"/proc/{process}/task/[0-9]*/children"):
        with contextlib.suppress(OSError):
            found += map(int, pathlib.Path(path).read_text().split())
    return found


def command_line(process):
    try:
        return pathlib.Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def is_running(process):
    try:
        return pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
