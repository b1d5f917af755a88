"""The program as a plain CGI script: by hand, behind fcgiwrap, and under Apache's mod_cgid."""

import contextlib
import grp
import http.client
import itertools
import os
import pathlib
import pwd
import socket
import subprocess
import threading

import pytest

from fastcgi_client import answer, connect_to, record
from local_stack import PROGRAM, clean_environment, eventually, free_port, listens, request, temporary_folder

CONTACT = b'{"name":"Ann","email":"ann@example.org"}'


def variables(stack, method, path, **more):
    return clean_environment(**{
        "GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": method, "SCRIPT_NAME": "/cgi-bin/forkloop", "PATH_INFO": path, "DB_HOST": stack.path("run"),
        "DB_NAME": "forkloop", "DB_USER": "forkloop", **more})


def run(stack, method, path, body=b"", stdin=None, **more):
    """(status, header fields, body) of one run."""
    if body:
        more = {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": len(body), **more}
    reads = {"input": body} if stdin is None else {"stdin": stdin}
    done = subprocess.run([PROGRAM], capture_output=True, env={**variables(stack, method, path), **{n: str(v) for n, v in more.items() if v is not None}}, timeout=60, **reads)
    assert done.returncode == 0, done.stderr
    head, _, rest = done.stdout.partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    return fields.pop("Status"), fields, rest


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_script_answers_as_the_servers_do(stack, mode):
    status, fields, body = run(stack, "POST", f"/{mode}/contact", CONTACT)
    assert (status, body) == ("201 Created", b'{"id":1,"name":"Ann","email":"ann@example.org"}')
    status, fields, body = run(stack, "GET", f"/{mode}/contact", QUERY_STRING="limit=1")
    assert (status, body) == ("200 OK", stack.request("GET", f"/{mode}/contact?limit=1").body)
    assert fields["Content-Length"] == str(len(body))
    assert run(stack, "HEAD", f"/{mode}/contact/1")[2] == b""


# Where a script is mounted, as SCRIPT_NAME and PATH_INFO of /tag under it, and what its links begin with (RFC 3875 §4.1.13).
MOUNTS = {
    "beside others": ("/cgi-bin/forkloop", "/async/tag", "/cgi-bin/forkloop/async"),
    "at a folder": ("/api", "/sync/tag", "/api/sync"),
    "at one of the two": ("/sync", "/tag", "/sync"),
    "at one of the two, in a folder": ("/api/async", "/tag", "/api/async"),
    "at the root": ("", "/sync/tag", "/sync"),
    "at a path of its own": ("/sync/tag", "", "/sync"),
    "in a folder like one of the two": ("/synchronous", "/sync/tag", "/synchronous/sync"),
    "at a name with a space and a letter that is not ASCII": ("/a b/\u00e9", "/sync/tag", "/a%20b/%C3%A9/sync"),
    "at what would be another host": ("//example.org", "/sync/tag", "/example.org/sync"),
    "at what would be another line": ("/a\r\nSet-Cookie: b=1", "/sync/tag", "/a%0D%0ASet-Cookie:%20b=1/sync"),
}


@pytest.mark.parametrize("where", MOUNTS)
def test_links_lead_to_where_the_script_is_mounted(stocked, where):
    script, info, links = MOUNTS[where]
    status, fields, _ = run(stocked, "POST", info, b'{"name":"new"}', SCRIPT_NAME=script)
    assert (status, fields.get("Location")) == ("201 Created", f"{links}/tag/4")
    status, fields, _ = run(stocked, "GET", info, SCRIPT_NAME=script, QUERY_STRING="limit=2")
    assert (status, fields.get("Link")) == ("200 OK", f'<{links}/tag?limit=2&after=2>; rel="next"')
    if info:
        status, fields, _ = run(stocked, "GET", f"{info}/", SCRIPT_NAME=script, QUERY_STRING="limit=2")
        assert (status, fields.get("Location")) == ("308 Permanent Redirect", f"{links}/tag?limit=2")


@pytest.mark.parametrize("method, path, body, more, status", [
    ("GET", "/sync/nothing", b"", {}, "404 Not Found"), ("DELETE", "/sync/contact", b"", {}, "405 Method Not Allowed"),
    ("POST", "/sync/contact", b"{", {}, "400 Bad Request"), ("POST", "/sync/contact", b"{}", {}, "422 Unprocessable Content"),
    ("POST", "/sync/contact", CONTACT, {"CONTENT_TYPE": "text/plain"}, "415 Unsupported Media Type"),
    ("GET", "/sync/contact", b"", {"DB_HOST": "/nowhere"}, "503 Service Unavailable")])
def test_a_script_says_what_is_wrong(stack, method, path, body, more, status):
    assert run(stack, method, path, body, **more)[0] == status


# What stands in CONTENT_LENGTH before a body of 40 bytes, and the status. Without a length nobody knows where a body ends.
LENGTHS = {
    "40": "201 Created", "0040": "201 Created", "0" * 30 + "40": "201 Created", "39": "400 Bad Request", "0": "400 Bad Request",
    None: "411 Length Required", "": "411 Length Required", "-1": "411 Length Required", "+40": "411 Length Required",
    " 40": "411 Length Required", "40 ": "411 Length Required", "0x28": "411 Length Required", "40, 40": "411 Length Required",
    "1048577": "413 Content Too Large", "9223372036854775808": "413 Content Too Large", "9" * 60: "413 Content Too Large",
}


@pytest.mark.parametrize("length", LENGTHS)
def test_the_length_of_a_body_decides(stack, length):
    assert len(CONTACT) == 40
    assert run(stack, "POST", "/sync/contact", CONTACT, CONTENT_LENGTH=length)[0] == LENGTHS[length]


def test_a_body_shorter_than_announced_is_not_stored(stack):
    assert run(stack, "POST", "/sync/contact", CONTACT, CONTENT_LENGTH=500)[0] == "400 Bad Request"
    assert stack.psql("select count(*) from contact") == [("0",)]


@pytest.mark.parametrize("what, more, status", [
    ("too long", {"CONTENT_LENGTH": 3 << 20}, "413 Content Too Large"),
    ("in chunks", {"HTTP_TRANSFER_ENCODING": "chunked"}, "411 Length Required")])
def test_a_body_that_nobody_wants_is_read_all_the_same(stack, what, more, status):
    """A web server that can't get rid of it takes the script for one that has failed. No more is read than there is of it."""
    exit, entrance = os.pipe()

    def send():
        with open(entrance, "wb") as out:
            out.write(b"x" * (3 << 20) + (b"rest" if "CONTENT_LENGTH" in more else b""))

    sender = threading.Thread(target=send)
    sender.start()
    with open(exit, "rb") as stdin:
        got = run(stack, "POST", "/sync/contact", stdin=stdin, CONTENT_TYPE="application/json", **more)[0]
        assert (got, stdin.read()) == (status, b"rest" if "CONTENT_LENGTH" in more else b""), f"a body that is {what}"
    sender.join()


# The words of a query without a "=" are the arguments of a script (RFC 3875 §4.4).
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["env"], ["openapi"], ["migrate"], ["sync", "--check"], ["nothing"], [""], ["--", "env"]])
def test_a_script_answers_whatever_its_arguments_are(stocked, arguments):
    words = "+".join(arguments)
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, env=variables(stocked, "GET", "/sync/tag", QUERY_STRING=words), timeout=60)
    assert done.returncode == 0 and b"\r\nStatus: 422 " in done.stdout.partition(b"\r\n\r\n")[0] or not words, done
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, env=variables(stocked, "GET", "/sync/tag"), timeout=60)
    assert done.stdout.endswith(b"\r\n\r\n" + stocked.request("GET", "/sync/tag").body), done


# Settings that can't be used, and what of each nobody but the log may know.
WRONG = [
    {"DB_PORT": "secret"}, {"DB_HOST": "", "DATABASE_URL": "secret://"}, {"FORKLOOP_STATEMENT_TIMEOUT": "secret"}, {"FORKLOOP_LOG_LEVEL": "secret"},
    {"FORKLOOP_PREPARED": "secret"}, {"FORKLOOP_APPLICATION": "secret"}, {"PGSSLMODE": "secret"}, {"PGCONNECT_TIMEOUT": "secret"}]


@pytest.mark.parametrize("setting", WRONG, ids=str)
def test_a_wrong_setting_is_an_answer_that_tells_the_log_alone(stack, setting):
    for method in ("GET", "HEAD"):
        done = subprocess.run([PROGRAM], capture_output=True, env=variables(stack, method, "/sync/tag", HTTP_X_REQUEST_ID="mine", **setting), timeout=60)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        assert done.returncode == 0 and b"\r\nStatus: 500 " in head and b"Content-Type: application/problem+json" in head, done
        assert b"X-Request-Id: mine\r\n" in head and b"\r\nServer-Timing: " in head and bool(body) == (method == "GET"), done
        name = [name for name, value in setting.items() if value][0]
        assert b"secret" not in done.stdout and (name.encode() in done.stderr or name.startswith("PG")) and b"500: " in done.stderr, done


def pairs(values):
    out = b""
    for name, value in values.items():
        name, value = name.encode(), str(value).encode()
        out += b"".join(bytes([len(x)]) if len(x) < 128 else (len(x) | 1 << 31).to_bytes(4, "big") for x in (name, value)) + name + value
    return out


@pytest.fixture
def fcgiwrap(stack):
    """Sends a request with its body to the script behind fcgiwrap, and returns the answer."""
    with temporary_folder() as folder:
        path = f"{folder}/s.sock"
        database = {"DB_HOST": stack.path("run"), "DB_NAME": "forkloop", "DB_USER": "forkloop"}
        process = subprocess.Popen(["/usr/sbin/fcgiwrap", "-s", f"unix:{path}"], env={**clean_environment(), **database})

        def ask(body, path_info="/sync/contact"):
            wanted = {
                "GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "POST", "SCRIPT_NAME": "/api", "PATH_INFO": path_info, "SCRIPT_FILENAME": PROGRAM,
                "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": len(body)}
            with connect_to(path) as client:
                bodies = b"".join(record(5, body[at:at + 60_000]) for at in range(0, len(body), 60_000))
                client.sendall(record(1, bytes([0, 1, 0, 0, 0, 0, 0, 0])) + record(4, pairs(wanted)) + record(4) + bodies + record(5))
                return answer(client)

        try:
            eventually(lambda: listens(path), message="fcgiwrap did not start")
            yield ask
        finally:
            process.terminate()
            process.wait(20)


def test_a_script_runs_behind_fcgiwrap(fcgiwrap):
    made = fcgiwrap(CONTACT)
    assert made.endswith(b'{"id":1,"name":"Ann","email":"ann@example.org"}') and b"\r\nLocation: /api/sync/contact/1\r\n" in made, made


def test_a_body_that_is_too_long_is_told_so_behind_fcgiwrap(fcgiwrap):
    assert fcgiwrap(b"x" * (5 << 20)).startswith(b"Status: 413 ")


APACHE = """
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/apache.pid
ErrorLog {folder}/error.log
DefaultRuntimeDir {folder}
User {user}
Group {group}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule alias_module {modules}/mod_alias.so
LoadModule env_module {modules}/mod_env.so
LoadModule cgid_module {modules}/mod_cgid.so
ScriptSock {folder}/cgid.sock
ScriptAlias /api {program}
ScriptAlias /sync {program}
SetEnv DB_HOST {database}
SetEnv DB_NAME forkloop
SetEnv DB_USER forkloop
"""


@pytest.fixture(scope="module")
def apache(_shared):
    """The port of an Apache that runs the script at /api and at /sync."""
    with temporary_folder() as folder:
        os.chmod(folder, 0o755)
        port = free_port()
        user = pwd.getpwuid(os.stat(_shared.path("postgres")).st_uid)
        configuration = APACHE.format(
            folder=folder, port=port, user=user.pw_name, group=grp.getgrgid(user.pw_gid).gr_name, modules="/usr/lib/apache2/modules",
            program=os.path.realpath(PROGRAM), database=_shared.path("run"))
        pathlib.Path(folder, "apache.conf").write_text(configuration)
        process = subprocess.Popen(["/usr/sbin/apache2", "-f", f"{folder}/apache.conf", "-DFOREGROUND"], env=clean_environment())

        def answers():
            try:
                return request(port, "GET", "/api/sync/contact").status == 200
            except OSError:
                return False

        def errors():
            return pathlib.Path(folder, "error.log").read_text()[-500:] if os.path.exists(f"{folder}/error.log") else ""

        try:
            with contextlib.suppress(AssertionError):
                eventually(answers)
            assert answers(), f"the script does not answer under Apache: {errors()}"
            yield port
        finally:
            process.terminate()
            process.wait(20)


def test_a_script_runs_under_apache(stack, apache):
    made = request(apache, "POST", "/api/sync/contact", CONTACT, {"Content-Type": "application/json"})
    assert (made.status, made.body) == (201, b'{"id":1,"name":"Ann","email":"ann@example.org"}')
    missing = request(apache, "GET", "/api/sync/contact/99")
    assert missing.status == 404 and b"no contact with this id" in missing.body


@pytest.mark.parametrize("below", ["/api/sync", "/sync"])
def test_links_lead_to_where_apache_has_the_script(stocked, apache, below):
    made = request(apache, "POST", f"{below}/tag", {"name": "new"})
    assert (made.status, made.header("Location")) == (201, f"{below}/tag/4")
    assert request(apache, "GET", made.header("Location")).json == {"id": 4, "name": "new"}
    assert request(apache, "GET", f"{below}/tag?limit=1").header("Link") == f'<{below}/tag?limit=1&after=1>; rel="next"'
    moved = request(apache, "GET", f"{below}/tag/?limit=1")
    assert (moved.status, moved.header("Location")) == (308, f"{below}/tag?limit=1")


@pytest.mark.parametrize("coding, status", [("none", 413), ("chunked", 411)])
def test_apache_tells_what_is_wrong_with_a_long_body(stack, apache, coding, status):
    connection = http.client.HTTPConnection("127.0.0.1", apache, timeout=60)
    body = [b"x" * (1 << 20)] * 3 if coding == "chunked" else b"x" * (3 << 20)
    connection.request("POST", "/api/sync/contact", body, {"Content-Type": "application/json"}, encode_chunked=coding == "chunked")
    assert connection.getresponse().status == status
    connection.close()


# Queries without "=": Apache has the script know their words as arguments.
QUERIES = (
    "limit", "limit&", "%", "&", "&&", "health", "--help", "--version", "-h", "env", "migrate", "demo-data", "openapi", "sync+--check", "nothing", "+", "%2B",
    "async+--listen+127.0.0.1:{port}", "sync+--listen+127.0.0.1:{port}", "load+http://127.0.0.1:{port}/", "up+--port+{port}", "%2d%2dversion", "limit%3D1")


@pytest.mark.parametrize("below", ["/api/sync", "/sync"])
def test_no_query_is_a_command(stocked, apache, below):
    other, wrong = free_port(), []
    for query, path in itertools.product(QUERIES, ("tag", "tag/1", "order", "health", "nothing")):
        target = f"{path}?{query.format(port=other)}"
        got, wanted = request(apache, "GET", f"{below}/{target}"), stocked.request("GET", f"/sync/{target}")
        if (got.status, got.body) != (wanted.status, wanted.body):
            wrong.append((target, f"{wanted} and not {got}"))
    assert not wrong, wrong
    with contextlib.closing(socket.socket()) as client:
        assert client.connect_ex(("127.0.0.1", other)) != 0, "a query has started a server"
