"""Connections that the web server keeps, parked with the prefork pool's master."""

import contextlib
import os
import pathlib
import resource
import signal
import socket
import subprocess

import pytest

from fastcgi_client import answer, fastcgi
from local_stack import PROGRAM, LocalStack, clean_environment, descendants, eventually, free_port, request, temporary_folder
from test_faults import ORDER, Load
from test_prefork import STOCK, alone, master, pool, status


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 12_000:
        pytest.skip(f"only {hard} files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (12_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def get(client, path="/sync/tag"):
    client.sendall(fastcgi(path))
    return answer(client)


def connected(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    eventually(lambda: client.connect_ex(path) == 0)
    return client


def parked(folder):
    with connected(f"{folder}/s-status.sock") as client:
        client.sendall(fastcgi("/sync/status", keep=0))
        return int(answer(client).split(b'"parked_connections":')[1].split(b",")[0])


def test_ten_thousand_parked_connections_starve_nobody_and_survive_a_reload(own_stack, many_files):
    with alone(own_stack, workers=2, keep_alive=1) as (folder, process), contextlib.ExitStack() as clients:
        kept = []
        for _ in range(10_000):
            client = clients.enter_context(connected(f"{folder}/s.sock"))
            assert b"200 OK" in get(client)
            kept.append(client)
        eventually(lambda: parked(folder) == 10_000, message="not all were parked")
        workers = descendants(process.pid, 1)
        assert all(len(os.listdir(f"/proc/{worker}/fd")) < 30 for worker in workers), "a worker holds parked connections"
        process.send_signal(signal.SIGHUP)
        eventually(lambda: len(w := descendants(process.pid, 1)) == 2 and not set(w) & set(workers), message="it did not reload")
        assert parked(folder) == 10_000
        for client in kept[::97] + kept[-50:]:
            assert b"200 OK" in get(client)
        for client in kept[:5_000]:
            client.close()
        eventually(lambda: parked(folder) == 5_000, message="connections that were closed are still parked")
        process.terminate()
        assert process.wait(30) == 0
        assert kept[-1].recv(1) == b""


def test_a_request_on_a_kept_connection_has_a_worker_started_where_there_is_none(own_stack):
    with alone(own_stack, keep_alive=1, pm="ondemand", workers=3, idle_timeout=1) as (folder, process), connected(f"{folder}/s.sock") as client:
        assert b"200 OK" in get(client)
        eventually(lambda: descendants(process.pid, 1) == [], message="the idle worker stays")
        assert b"200 OK" in get(client)


@contextlib.contextmanager
def kept_through_nginx(**settings):
    """A stack with keep-alive on, and the port of an nginx that keeps its connections to the pool."""
    with pool(keep_alive=1, **settings) as stack, temporary_folder() as folder:
        port = free_port()
        user = "user root;" if os.geteuid() == 0 else ""
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "fastcgi", "proxy", "scgi", "uwsgi"))
        pathlib.Path(folder, "nginx.conf").write_text(f"""
            daemon off; worker_processes 2; pid {folder}/pid; {user} events {{ }}
            http {{ access_log off; {temporary}
              upstream pool {{ server unix:{stack.path("run/sync.sock")}; keepalive 64; }}
              server {{ listen 127.0.0.1:{port}; location / {{ include /etc/nginx/fastcgi_params; fastcgi_param PATH_INFO $uri;
                fastcgi_param SCRIPT_NAME ""; fastcgi_keep_conn on; fastcgi_pass pool; }} }} }}""")
        nginx = subprocess.Popen(["/usr/sbin/nginx", "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"], stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: answers(port), message="nginx did not start")
            yield stack, port
        finally:
            nginx.terminate()
            nginx.wait(30)


def answers(port):
    with contextlib.suppress(OSError):
        return request(port, "GET", "/sync/tag").status == 200


def test_more_kept_connections_than_workers_starve_nobody():
    with kept_through_nginx(workers=2) as (stack, port):
        with Load(port, "/sync/contact", threads=12) as kept, Load(stack.port, "/sync/contact", threads=2) as others:
            eventually(lambda: len(kept.answers) > 1000 and len(others.answers) > 100, message="somebody starved")
        assert kept.broken == others.broken == []
        assert set(kept.answers) == set(others.answers) == {200}
        assert status(stack)["parked_connections"] > 2


def test_no_write_is_lost_on_a_kept_connection_through_reloads_and_recycling():
    with kept_through_nginx(workers=3, max_requests=50) as (stack, port):
        with Load(port, "/sync/order", ORDER, threads=4) as load:
            for _ in range(10):
                done = status(stack)["reloads"]
                os.kill(master(stack), signal.SIGHUP)
                eventually(lambda: status(stack)["reloads"] > done, message="it did not reload")
            eventually(lambda: status(stack)["recycled_workers"] > 10)
        assert load.broken == [] and set(load.answers) == {201}, set(load.answers)
        assert stack.psql('select count(*) from "order"') == [(str(len(load.answers)),)]


def test_no_write_is_lost_on_a_kept_connection_when_the_pool_is_stopped():
    with kept_through_nginx(workers=3) as (stack, port):
        with Load(port, "/sync/order", ORDER, threads=4) as load:
            os.kill(master(stack), signal.SIGTERM)
            eventually(lambda: 502 in load.answers or 503 in load.answers, message="the pool did not stop")
        assert load.broken == []
        taken = load.answers.count(201)
        assert stack.psql('select count(*) from "order"') == [(str(taken),)], "a write was carried out and not answered"
