"""nginx by itself: what it makes of requests that it can't read, its files, its log, and the site to install."""

import contextlib
import itertools
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess

import pytest

from fastcgi_client import record
from local_stack import MODES, ROOT, eventually, free_port, temporary_folder
from test_fields import exchange, of

CLOSE = b"Host: x\r\nConnection: close\r\n"
UNREADABLE = [
    (b"GET /sync/tag/50%off HTTP/1.1\r\n" + CLOSE, 400), (b"GET /order/1%00 HTTP/1.1\r\n" + CLOSE, 400), (b"GET /async/tag?tag=a b HTTP/1.1\r\n" + CLOSE, 400),
    (b"POST /sync/tag/% HTTP/1.1\r\n" + CLOSE, 400), (b"DELETE /../tag HTTP/1.1\r\n" + CLOSE, 400), (b"GET http:// HTTP/1.1\r\n" + CLOSE, 400),
    (b"GET tag HTTP/1.1\r\n" + CLOSE, 400), (b"get /sync/tag HTTP/1.1\r\n" + CLOSE, 400), (b"\x16\x03\x01\x02\x00\x01\x00\r\n", 400), (b"GET\r\n", 400),
    (b"GET /sync/tag HTTP/1.1\r\nConnection: close\r\n", 400), (b"GET /sync/tag HTTP/1.1\r\nHost: y\r\n" + CLOSE, 400), (b"GET /sync/tag HTTP/1.1\r\nHost: a/b\r\n", 400),
    (b"GET /sync/tag HTTP/x\r\n" + CLOSE, 400), (b"GET /sync/tag HTTP/2.0\r\n" + CLOSE, 505), (b"PATCH /sync/tag/1 HTTP/3.0\r\n" + CLOSE, 505),
    (b"GET /sync/tag HTTP/9.9\r\n" + CLOSE, 505), (b"CONNECT a:1 HTTP/1.1\r\n" + CLOSE, 400), (b"CONNECT /sync/tag HTTP/1.1\r\n" + CLOSE, 405),
    (b"TRACE /async/tag HTTP/1.1\r\n" + CLOSE, 405), (b"POST /sync/tag HTTP/1.1\r\nContent-Length: x\r\n" + CLOSE, 400),
    (b"POST /sync/tag HTTP/1.1\r\nTransfer-Encoding: gzip\r\n" + CLOSE, 501), (b"POST /sync/tag HTTP/1.1\r\nContent-Length: 2000000\r\n" + CLOSE, 413),
    (b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\n" + CLOSE, 414), (b"GET /sync/tag HTTP/1.1\r\nX-Long: " + b"x" * 9_000 + b"\r\n" + CLOSE, 431),
    (b"GET /sync/tag HTTP/1.1\r\na\0b: c\r\n" + CLOSE, 400), (b"GET /sync HTTP/1.1\r\n" + CLOSE, 404), (b"GET /async HTTP/1.1\r\n" + CLOSE, 404),
    (b"POST /sync HTTP/1.1\r\n" + CLOSE, 404), (b"GET /assets/ HTTP/1.1\r\n" + CLOSE, 404), (b"GET /assets HTTP/1.1\r\n" + CLOSE, 404), (b"GET /assets/installed HTTP/1.1\r\n" + CLOSE, 404), (b"GET /assets/./%69nstalled HTTP/1.1\r\n" + CLOSE, 404),
    (b"GET /assets/nothing.js HTTP/1.1\r\n" + CLOSE, 404), (b"GET /forkloop/problem/400 HTTP/1.1\r\n" + CLOSE, 404), (b"GET /robots.txt HTTP/1.1\r\n" + CLOSE, 404),
    (b"GET /nothing.json HTTP/1.1\r\n" + CLOSE, 404), (b"POST /openapi.json HTTP/1.1\r\n" + CLOSE, 405), (b"GET /openapi.json HTTP/1.1\r\nIf-Match: \"x\"\r\n" + CLOSE, 412),
    (b"GET /docs HTTP/1.1\r\nIf-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n" + CLOSE, 412), (b"GET /sync/%2e%2e/%2e%2e/x.json HTTP/1.1\r\n" + CLOSE, 400),
]


def test_what_nginx_says_by_itself_are_problem_details(stack):
    for request, wanted in UNREADABLE:
        status, fields, body = exchange(stack.port, request + b"\r\n")
        assert status == wanted, (request[:60], status, body)
        assert of(fields, "Content-Type") == ["application/problem+json"] and json.loads(body)["status"] == wanted, (request[:60], fields, body)
        for name in ("X-Request-Id", "X-Content-Type-Options", "Server-Timing"):
            assert len(of(fields, name)) == 1, (name, request[:60], fields)


@pytest.mark.parametrize("path", ["/openapi.json", "/assets/swagger-ui.css", "/"])
def test_what_may_be_compressed_says_that_it_differs_by_what_is_accepted(stack, path):
    tag = stack.request("GET", path).header("ETag")
    for fields in ({}, {"Accept-Encoding": "gzip"}, {"If-None-Match": tag}):
        answer = stack.request("GET", path, headers=fields)
        assert answer.status == (304 if "If-None-Match" in fields else 200), answer
        assert answer.header("Vary") == "Accept-Encoding", (fields, answer.headers)


def test_a_file_that_is_asked_for_and_not_there_is_no_error(stack):
    size = os.path.getsize(stack.path("log/nginx-error.log"))
    icon = stack.request("GET", "/favicon.ico")
    assert (icon.status, icon.header("Content-Type"), icon.body) == (200, "image/svg+xml", pathlib.Path(ROOT, "nginx/html/favicon.svg").read_bytes())
    assert stack.request("POST", "/favicon.ico").status == 405
    for path in ("/sync", "/assets/", "/assets/no.js", "/robots.txt", "/apple-touch-icon.png"):
        assert stack.request("GET", path).status == 404, path
    assert stack.request("GET", "/openapi.json", headers={"Range": "bytes=99999999-"}).status == 200
    added = pathlib.Path(stack.path("log/nginx-error.log")).read_bytes()[size:].decode()
    assert not [line for line in added.splitlines() if re.search("sync|assets|favicon|robots|touch", line)], added


def test_the_log_of_nginx_is_json_whatever_clients_send(stack):
    odd = [b"\xff", "é".encode(), "é".encode()[:1], b"a\xc0\x80b", b"\xed\xa0\x80", "\U0001F600".encode(), b"\xf4\x90\x80\x80", b'"\\\x01'.replace(b"\x01", b"")]
    for number, text in enumerate(odd):
        exchange(stack.port, b"POST /nowhere/" + text + b"?x=" + text + b" HTTP/1.1\r\nX-Request-Id: odd-%d\r\nUser-Agent: agent " % number + text
                 + b"\r\ntraceparent: " + text + b"\r\n" + CLOSE + b"\r\n")
    exchange(stack.port, b"DELETE /sync/tag/% HTTP/1.1\r\n" + CLOSE + b"\r\n")

    def lines():
        whole = [line for line in pathlib.Path(stack.path("log/access.log")).read_bytes().splitlines() if b'"odd-' in line or b'"method":"DELETE","uri":"","status":400' in line]
        return whole if len(whole) > len(odd) else None
    for line in eventually(lines, 5, "nginx has not logged them"):
        entry = json.loads(line.decode())  # Strict: what is not UTF-8 is an error.
        if entry["id"].startswith("odd-"):
            text = odd[int(entry["id"][4:])]
            with contextlib.suppress(UnicodeDecodeError):
                assert (entry["uri"], entry["agent"]) == (f"/nowhere/{text.decode()}?x={text.decode()}", f"agent {text.decode()}"), entry
            assert entry["uri"].startswith("/nowhere/") and entry["agent"].startswith("agent ") and entry["traceparent"] == "", entry
            assert entry["method"] == "POST", entry
        else:
            assert (entry["method"], entry["status"]) == ("DELETE", 400), entry


# The site to install, in front of whoever notes what arrives.

BROWSER = """Host: application.example\r
Connection: close\r
sec-ch-ua: "Chromium";v="130"\r
sec-ch-ua-mobile: ?0\r
sec-ch-ua-platform: "Linux"\r
Upgrade-Insecure-Requests: 1\r
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r
Sec-Fetch-Site: same-origin\r
Sec-Fetch-Mode: cors\r
Sec-Fetch-User: ?1\r
Sec-Fetch-Dest: empty\r
Referer: http://application.example/docs\r
Origin: http://application.example\r
Accept-Encoding: gzip, deflate, br, zstd\r
Accept-Language: de-DE,de;q=0.9,en;q=0.8\r
Cookie: a=b\r
DNT: 1\r
Sec-GPC: 1\r
Priority: u=0, i\r
Pragma: no-cache\r
Cache-Control: no-cache\r
TE: trailers\r
Proxy: http://evil.example\r
X-Forwarded-For: 192.0.2.1\r
X-Forwarded-Proto: https\r
X-Real-IP: 192.0.2.1\r
Via: 1.1 cache\r
Authorization: Basic eA==\r
"""


@pytest.fixture(scope="module")
def site():
    """nginx with the site to install, but for folders and port; and what it sends to /sync, as a list of pairs of bytes."""
    with temporary_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        port = free_port()
        shutil.copytree(f"{ROOT}/nginx/snippets", f"{folder}/snippets")
        # One of our own addresses is nobody's.
        private = pathlib.Path(folder, "snippets/forkloop-private.conf")
        private.write_text(private.read_text().replace("allow ::1;", ""))
        text = pathlib.Path(ROOT, "nginx/forkloop.conf").read_text()
        for old, new in (("8080", str(port)), ("/run/forkloop", folder), ("snippets/", f"{folder}/snippets/"), ("/var/log/nginx", folder)):
            text = text.replace(old, new)
        temporary = "".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "fastcgi", "proxy", "scgi", "uwsgi"))
        pathlib.Path(folder, "nginx.conf").write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}} http {{ {temporary}\n{text} }}")
        listener.bind(f"{folder}/sync.sock")
        os.chmod(f"{folder}/sync.sock", 0o777)
        listener.listen()
        nginx = subprocess.Popen(["/usr/sbin/nginx", "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"])
        try:
            eventually(lambda: nginx.poll() is not None or is_open(port), 5, "nginx does not listen")
            assert nginx.poll() is None, pathlib.Path(folder, "error.log").read_text()
            yield port, folder, listener
        finally:
            nginx.terminate()
            nginx.wait(20)


def is_open(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def arrives(site, lines):
    """The names of the variables that a request of these header lines brings to a responder."""
    port, _, listener = site
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"GET /sync/tag HTTP/1.1\r\n{lines}\r\n".encode())
        listener.settimeout(10)
        peer, _ = listener.accept()
        with peer, peer.makefile("rb") as data:
            params = b""
            while header := data.read(8):
                length = int.from_bytes(header[4:6], "big")
                content = data.read(length + header[6])[:length]
                if header[1] == 4:
                    params += content
                if header[1] == 5 and length == 0:
                    break
            peer.sendall(record(6, b"Status: 200 OK\r\nX-Request-Id: twice\r\nX-Content-Type-Options: twice\r\n\r\n") + record(3, bytes(8)))
        got = b""
        while piece := client.recv(4096):
            got += piece
    names, at = [], 0

    def length():
        nonlocal at
        size = 1 if params[at] < 128 else 4
        value = int.from_bytes(params[at:at + size], "big") & 0x7FFFFFFF
        at += size
        return value
    while at < len(params):
        name, value = length(), length()
        names.append(params[at:at + name].decode())
        at += name + value
    return names, got


def test_what_browsers_send_and_nobody_reads_does_not_reach_a_responder(site):
    usual = ["REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_X_REQUEST_ID"]
    plain, got = arrives(site, "Host: x\r\nConnection: close\r\n")
    assert plain == usual and got.count(b"X-Request-Id") == 1 and b"nosniff" in got and b"twice" not in got, (plain, got)
    assert arrives(site, BROWSER)[0] == usual
    read = "If-Match: x\r\nIf-None-Match:\r\nIdempotency-Key: k\r\ntraceparent: t\r\nIf-Modified-Since:\r\nIf-Unmodified-Since: d\r\nContent-Encoding: gzip\r\n"
    assert sorted(arrives(site, BROWSER + read)[0]) == sorted([*usual, *(f"HTTP_{line.split(':')[0].upper().replace('-', '_')}" for line in read.splitlines())])


def test_the_site_to_install_listens_on_both_families_and_has_a_log_of_its_own(site):
    port, folder, _ = site
    for host in ("127.0.0.1", "::1"):
        assert exchange(port, b"GET /sync HTTP/1.1\r\nX-Request-Id: from-" + host.replace(":", "").encode() + b"\r\n" + CLOSE + b"\r\n", host)[0] == 404
    log = pathlib.Path(folder, "forkloop-access.log")
    eventually(lambda: log.exists() and '"from-1"' in log.read_text(), 5, "it has not logged")
    assert not pathlib.Path(folder, "access.log").exists()


def test_status_is_for_some_addresses_and_says_so(site):
    for mode, page in itertools.product(MODES, ("status", "metrics")):
        request = f"GET /{mode}/{page} HTTP/1.1\r\n".encode() + CLOSE + b"\r\n"
        status, fields, body = exchange(site[0], request, "::1")
        assert (status, json.loads(body)["detail"]) == (403, "This is not for your address."), body
        assert of(fields, "Content-Type") == ["application/problem+json"], fields
        assert exchange(site[0], request)[0] == 503, "whoever is let in finds no responder here"
