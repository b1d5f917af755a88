"""The program as a plain CGI script: by hand, behind fcgiwrap, and under Apache's mod_cgid."""

import grp
import os
import pathlib
import pwd
import socket
import subprocess
import urllib.error
import urllib.request

import pytest

from fastcgi_client import answer, record
from house import PROGRAM, clean_environment, eventually, free_port, listens, temporary_folder

CONTACT = b'{"name":"Ann","email":"ann@example.org"}'


def variables(house, method, path, **more):
    return clean_environment(
        GATEWAY_INTERFACE="CGI/1.1", REQUEST_METHOD=method, SCRIPT_NAME="/cgi-bin/forkloop", PATH_INFO=path, DB_HOST=house.path("run"),
        DB_NAME="forkloop", DB_USER="forkloop", **more)


def run(house, method, path, body=b"", **more):
    """(status line, header fields, body) of one run."""
    if body:
        more = {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": len(body), **more}
    done = subprocess.run([PROGRAM], input=body, capture_output=True, env=variables(house, method, path, **more), timeout=60)
    assert done.returncode == 0, done.stderr
    head, _, rest = done.stdout.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return lines[0], dict(line.split(": ", 1) for line in lines[1:]), rest


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_script_answers_as_the_doors_do(house, mode):
    status, fields, body = run(house, "POST", f"/{mode}/contact", CONTACT)
    assert (status, fields["Location"], body) == ("Status: 201 Created", f"/{mode}/contact/1", b'{"id":1,"name":"Ann","email":"ann@example.org"}')
    status, fields, body = run(house, "GET", f"/{mode}/contact", QUERY_STRING="limit=1")
    assert (status, body) == ("Status: 200 OK", house.request("GET", f"/{mode}/contact?limit=1").body)
    assert fields["Content-Length"] == str(len(body))
    assert run(house, "HEAD", f"/{mode}/contact/1")[2] == b""


@pytest.mark.parametrize("method, path, body, more, status", [
    ("GET", "/sync/nothing", b"", {}, "404 Not Found"), ("DELETE", "/sync/contact", b"", {}, "405 Method Not Allowed"),
    ("POST", "/sync/contact", b"{", {}, "400 Bad Request"), ("POST", "/sync/contact", b"{}", {}, "422 Unprocessable Content"),
    ("POST", "/sync/contact", b"{}", {"CONTENT_LENGTH": 2_000_000}, "413 Content Too Large"),
    ("POST", "/sync/contact", CONTACT, {"CONTENT_TYPE": "text/plain"}, "415 Unsupported Media Type"),
    ("GET", "/sync/contact", b"", {"DB_HOST": "/nowhere"}, "503 Service Unavailable")])
def test_a_script_says_what_is_wrong(house, method, path, body, more, status):
    environment = dict(more)
    if "DB_HOST" in environment:  # not twice
        done = subprocess.run([PROGRAM], capture_output=True, env={**variables(house, method, path), **environment}, timeout=60)
        assert done.stdout.startswith(f"Status: {status}\r\n".encode()), done
        return
    assert run(house, method, path, body, **environment)[0] == f"Status: {status}"


def test_a_body_shorter_than_announced_is_not_stored(house):
    status, _, _ = run(house, "POST", "/sync/contact", CONTACT, CONTENT_LENGTH=500)
    assert status == "Status: 400 Bad Request"
    assert house.psql("select count(*) from contact") == [("0",)]


def test_with_arguments_it_is_no_script(house):
    done = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, env=variables(house, "GET", "/sync/tag"))
    assert (done.returncode, "Status" in done.stdout) == (0, False), done


def pairs(values):
    out = b""
    for name, value in values.items():
        name, value = name.encode(), str(value).encode()
        out += b"".join(bytes([len(x)]) if len(x) < 128 else (len(x) | 1 << 31).to_bytes(4, "big") for x in (name, value)) + name + value
    return out


def test_a_script_runs_behind_fcgiwrap(house):
    with temporary_folder() as folder:
        path = f"{folder}/s.sock"
        environment = variables(house, "POST", "/sync/contact", CONTENT_TYPE="application/json", CONTENT_LENGTH=len(CONTACT), SCRIPT_FILENAME=PROGRAM)
        database = {name: environment.pop(name) for name in ("DB_HOST", "DB_NAME", "DB_USER")}
        process = subprocess.Popen(["/usr/sbin/fcgiwrap", "-s", f"unix:{path}"], env={**clean_environment(), **database})
        try:
            eventually(lambda: listens(path), message="fcgiwrap did not start")
            wanted = {n: v for n, v in environment.items() if n.isupper() and n.split("_")[0] in ("GATEWAY", "REQUEST", "SCRIPT", "PATH", "CONTENT") and n != "PATH"}
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(20)
                client.connect(path)
                client.sendall(record(1, bytes([0, 1, 0, 0, 0, 0, 0, 0])) + record(4, pairs(wanted)) + record(4) + record(5, CONTACT) + record(5))
                assert answer(client).endswith(b'{"id":1,"name":"Ann","email":"ann@example.org"}')
        finally:
            process.terminate()
            process.wait(20)


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
SetEnv DB_HOST {database}
SetEnv DB_NAME forkloop
SetEnv DB_USER forkloop
"""


def test_a_script_runs_under_apache(house):
    with temporary_folder() as folder:
        os.chmod(folder, 0o755)
        port = free_port()
        user = pwd.getpwuid(os.stat(house.path("postgres")).st_uid)
        configuration = APACHE.format(
            folder=folder, port=port, user=user.pw_name, group=grp.getgrgid(user.pw_gid).gr_name, modules="/usr/lib/apache2/modules",
            program=os.path.realpath(PROGRAM), database=house.path("run"))
        pathlib.Path(folder, "apache.conf").write_text(configuration)
        apache = subprocess.Popen(["/usr/sbin/apache2", "-f", f"{folder}/apache.conf", "-DFOREGROUND"], env=clean_environment())
        try:
            def status():
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/sync/contact", timeout=20) as answered:
                        return answered.status
                except (urllib.error.URLError, ConnectionError) as error:
                    return f"{error}; {pathlib.Path(folder, 'error.log').read_text()[-500:] if os.path.exists(f'{folder}/error.log') else ''}"
            eventually(lambda: status() == 200, message="the script did not answer under Apache: " + str(status()))
            url = f"http://127.0.0.1:{port}/api/sync/contact"
            asked = urllib.request.Request(url, CONTACT, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked, timeout=20) as answered:
                assert (answered.status, answered.read()) == (201, b'{"id":1,"name":"Ann","email":"ann@example.org"}')
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/sync/contact/99", timeout=20)
            assert refused.value.code == 404 and b"no contact with this id" in refused.value.read()
        finally:
            apache.terminate()
            apache.wait(20)
