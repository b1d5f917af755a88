"""The responders behind other web servers than nginx, where those are installed."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

from local_stack import MODES, ROOT, clean_environment, eventually, free_port, locked, request, temporary_folder

HAPROXY = """
global
  log /dev/null local0
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend web
  bind 127.0.0.1:{port}
  option http-buffer-request
  {private}
  use_backend sync if {{ path_beg /sync/ }}
  use_backend async if {{ path_beg /async/ }}
fcgi-app sync
  docroot /
  no option keep-conn
  option get-values
fcgi-app async
  docroot /
  option mpxs-conns
  option max-reqs 30
backend sync
  use-fcgi-app sync
  server s {run}/sync.sock proto fcgi
backend async
  http-reuse always
  use-fcgi-app async
  server s {run}/async.sock proto fcgi
"""

CADDY = """
{{
  admin off
  auto_https off
}}
http://127.0.0.1:{port} {{
  {private}
  reverse_proxy /sync/* unix/{run}/sync.sock {{
    transport fastcgi
  }}
  reverse_proxy /async/* unix/{run}/async.sock {{
    transport fastcgi
  }}
}}
"""

APACHE = """
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/pid
ErrorLog {folder}/error.log
DefaultRuntimeDir {folder}
User {user}
Group {user}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule authz_host_module {modules}/mod_authz_host.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_fcgi_module {modules}/mod_proxy_fcgi.so
ProxyPass "/apps/sync/"  "unix:{run}/sync.sock|fcgi://sync/apps/sync/"   retry=0
ProxyPass "/apps/async/" "unix:{run}/async.sock|fcgi://async/apps/async/" retry=0
ProxyPass "/sync/"  "unix:{run}/sync.sock|fcgi://sync/sync/"   retry=0
ProxyPass "/async/" "unix:{run}/async.sock|fcgi://async/async/" retry=0
{private}
"""


def private(name):
    """The lines of docs/install.md that keep others from the pages about the servers, for addresses that are none of ours."""
    lines = pathlib.Path(ROOT, "docs/install.md").read_text().split("```\n<LocationMatch")[1].split("```")[0]
    apache, rest = f"<LocationMatch{lines}".split("http-request deny")
    haproxy, caddy = f"http-request deny{rest}".split("\n", 1)
    parts = {"apache2": apache, "haproxy": haproxy, "caddy": caddy}[name]
    return re.sub(" +# [A-Z].*", "", parts).replace("127.0.0.0/8 ::1", "192.0.2.0/24")

# How each is started on a configuration in a folder.
SERVERS = {
    "haproxy": (HAPROXY, ["-db", "-f", "configuration"]),
    "caddy": (CADDY, ["run", "--adapter", "caddyfile", "--config", "configuration"]),
    "apache2": (APACHE, ["-DFOREGROUND", "-f", "configuration"]),
}


@pytest.fixture(scope="module", params=SERVERS)
def server(_shared, request):
    """(name, port) of a web server in front of the stack's responders."""
    name, port = request.param, free_port()
    configuration, arguments = SERVERS[name]
    program = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    if not program:
        pytest.skip(f"{name} is not installed")
    with temporary_folder() as folder, contextlib.ExitStack() as exits:
        path, log = pathlib.Path(folder, "configuration"), pathlib.Path(folder, "log")
        path.write_text(configuration.format(
            folder=folder, port=port, run=_shared.path("run"), modules="/usr/lib/apache2/modules", user="www-data" if os.geteuid() == 0 else os.environ.get("USER", ""),
            private=private(name)))
        out = exits.enter_context(open(log, "w"))
        arguments = [argument.replace("configuration", str(path)) for argument in arguments]
        process = subprocess.Popen([program, *arguments], cwd=folder, stdout=out, stderr=out, env=clean_environment(HOME=folder))
        try:
            eventually(lambda: process.poll() is not None or serves(port), message=f"{name} does not serve")
            assert process.poll() is None, log.read_text()
            yield name, port
        finally:
            process.terminate()
            process.wait(20)


def serves(port):
    try:
        return request(port, "GET", "/sync/health").status == 200
    except OSError:
        return False


@pytest.mark.parametrize("mode", MODES)
def test_statuses_and_links_arrive_as_they_were_sent(stocked, server, mode):
    _, port = server
    made = request(port, "POST", f"/{mode}/tag", {"name": "new"})
    assert (made.status, made.header("Location"), made.json) == (201, f"/{mode}/tag/4", {"id": 4, "name": "new"})
    moved = request(port, "GET", f"/{mode}/tag/")
    assert (moved.status, moved.header("Location")) == (308, f"/{mode}/tag")
    assert request(port, "GET", f"/{mode}/tag?limit=1").header("Link") == f'</{mode}/tag?limit=1&after=1>; rel="next"'
    assert request(port, "GET", f"/{mode}/tag/99").status == 404


@pytest.mark.parametrize("mode", MODES)
def test_many_at_a_time_are_all_answered(stocked, server, mode):
    """HAProxy sends up to thirty over one connection here, which is more than one has answered at a time."""
    _, port = server
    assert request(port, "GET", f"/{mode}/tag").status == 200
    with concurrent.futures.ThreadPoolExecutor(64) as threads, locked(stocked, "tag") as lock:
        answers = [threads.submit(request, port, "GET", f"/{mode}/tag?limit={number}") for number in range(1, 65)]
        eventually(lambda: int(stocked.psql("select count(*) from pg_stat_activity where wait_event_type = 'Lock'")[0][0]) > 0)
        lock.kill()
        assert [answer.result().status for answer in answers] == [200] * 64


@pytest.mark.parametrize("mode", MODES)
def test_a_body_in_chunks_is_taken(stocked, server, mode):
    _, port = server
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", f"/{mode}/tag", iter([b'{"na', b'me":"new"}']), {"Content-Type": "application/json"}, encode_chunked=True)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (201, b'{"id":4,"name":"new"}')
    connection.close()


@pytest.mark.parametrize("mode", MODES)
def test_links_lead_to_a_folder_in_which_the_responder_is_mounted(stocked, server, mode):
    name, port = server
    if name != "apache2":
        pytest.skip("has no folder for it here")
    made = request(port, "POST", f"/apps/{mode}/tag", {"name": "new"})
    assert (made.status, made.header("Location")) == (201, f"/apps/{mode}/tag/4")
    assert request(port, "GET", made.header("Location")).json == made.json


@pytest.mark.parametrize("page", ["status", "metrics"])
def test_the_readme_s_lines_keep_others_from_the_pages_about_the_servers(stocked, server, page):
    name, port = server
    paths = [f"/async/{page}", f"/async/%73{page[1:]}" if page == "status" else "/async/m%65trics", f"/async/{page}?x=1", f"/async//{page}", f"/sync/{page}", f"/async/./{page}"]
    for path in paths + [f"/apps{path}" for path in paths if name == "apache2"]:
        for method in ("GET", "HEAD", "OPTIONS"):
            answer = request(port, method, path)
            assert answer.status in (403, 404) and b"mode" not in answer.body and b"forkloop_" not in answer.body, (method, path, answer)
    assert request(port, "GET", "/async/health").status == 200


@pytest.mark.parametrize("mode", MODES)
def test_a_reload_loses_no_request(stocked, server, mode):
    """Connections that were idle are closed about half a second after HUP, when each client asks again: reads and writes alike."""
    name, port = server
    master = stocked.children(mode)[0]

    def ask(number, connection):
        path, method, body = (f"/{mode}/contact/1", "GET", None) if number % 2 else (f"/{mode}/tag", "POST", json.dumps({"name": f"{name} {mode} {time.monotonic_ns()} {number}"}))
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    with concurrent.futures.ThreadPoolExecutor(24) as threads, contextlib.ExitStack() as exits:
        clients = [exits.enter_context(contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30))) for _ in range(24)]
        before = int(stocked.psql("select count(*) from tag")[0][0])
        written = 0
        for pause in (0, 0.45, 0.5, 0.55, 0.6):
            for wait in (0, pause):
                if wait or not pause:
                    os.kill(master, signal.SIGHUP)
                time.sleep(wait)
                statuses = list(threads.map(ask, range(24), clients))
                assert statuses == [201, 200] * 12, f"{name}, {pause} s after HUP: {statuses}"
                written += 12
        assert int(stocked.psql("select count(*) from tag")[0][0]) - before == written
