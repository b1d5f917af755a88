"""What the findings' scripts share: a stack of their own, nginx before a responder, load, the machine, the drawing."""

import argparse
import contextlib
import html
import json
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
os.environ.setdefault("FORKLOOP", str(ROOT / ".build/release/forkloop"))
sys.path.insert(0, str(ROOT / "Tests" / "SystemTests"))

from local_stack import PROGRAM, LocalStack, eventually, free_port, request, temporary_folder  # noqa: E402, F401

HOLDS, DOES_NOT_HOLD, NOT_MEASURED = 0, 1, 2


class NotMeasured(Exception):
    """Something that the measurement needs is not there, or did not work."""


def run(description, measure, **flags):
    """Runs a finding and ends with its exit code. `measure(options)` gives what speaks against the claim; nothing, if it holds."""
    # Whoever ends it leaves nothing running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(NOT_MEASURED))
    sys.stdout.reconfigure(line_buffering=True)
    name = pathlib.Path(sys.argv[0]).name
    cli = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--quick", action="store_true", help="fewer and shorter measurements, for a test")
    cli.add_argument("--out", default=str(ROOT / f".build/findings/{name}.svg"), help="where the graph is drawn")
    for flag, (default, text) in flags.items():
        cli.add_argument(f"--{flag}", type=type(default), default=default, help=text)
    options = cli.parse_args()
    try:
        print(machine())
        against = measure(options)
    except (NotMeasured, AssertionError, OSError, subprocess.SubprocessError) as error:
        print(f"\nIt could not be measured: {error}", file=sys.stderr)
        sys.exit(NOT_MEASURED)
    for reason in against:
        print(f"against the claim: {reason}")
    print("\nThe claim does not hold here." if against else "\nThe claim holds.")
    sys.exit(DOES_NOT_HOLD if against else HOLDS)


def machine():
    def first(pattern, text):
        found = re.search(pattern, text, re.MULTILINE)
        return found[1].strip() if found else "?"

    def said(*command):
        with contextlib.suppress(OSError):
            done = subprocess.run(command, capture_output=True, text=True)
            return done.stdout + done.stderr
        return ""

    system = first(r'^PRETTY_NAME="(.*)"', pathlib.Path("/etc/os-release").read_text())
    model = first(r"^model name\s*:(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return (f"{len(os.sched_getaffinity(0))} × {model}, load {os.getloadavg()[0]:.1f}; {system}, Linux {platform.release()}\n"
            f"forkloop {first('(.*)', said(PROGRAM, '--version'))}, nginx {first(r'nginx/(.*)', said('/usr/sbin/nginx', '-v'))}, "
            f"PostgreSQL {first(r'([0-9.]+)', said('psql', '--version'))}, Python {platform.python_version()}\n")


@contextlib.contextmanager
def stack():
    """PostgreSQL, nginx and both responders in a folder of their own."""
    with temporary_folder() as folder:
        one = LocalStack(folder)
        try:
            yield one
        finally:
            one.stop()


@contextlib.contextmanager
def nginx(sockets):
    """One more nginx: of each (Unix socket, connections that are kept to it) the port that leads there."""
    with temporary_folder() as folder:
        ports = [free_port() for _ in sockets]
        user = "user root;" if os.geteuid() == 0 else ""
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "fastcgi", "proxy", "scgi", "uwsgi"))
        names = ("REQUEST_METHOD $request_method", 'SCRIPT_NAME ""', "PATH_INFO $uri", "QUERY_STRING $query_string",
                 "CONTENT_TYPE $content_type", "CONTENT_LENGTH $content_length")
        parameters = "".join(f"fastcgi_param {name};" for name in names)
        servers = "".join(f"""
            upstream u{port} {{ server unix:{socket}; {f"keepalive {kept}; keepalive_requests 1000000;" if kept else ""} }}
            server {{ listen 127.0.0.1:{port}; keepalive_requests 1000000; location / {{
              {parameters} fastcgi_pass u{port}; fastcgi_keep_conn {"on" if kept else "off"}; fastcgi_buffers 64 16k; }} }}"""
                          for port, (socket, kept) in zip(ports, sockets))
        pathlib.Path(folder, "nginx.conf").write_text(
            f"daemon off; pid {folder}/pid; {user} events {{ worker_connections 4096; }} http {{ access_log off; {temporary} {servers} }}")
        process = subprocess.Popen(["/usr/sbin/nginx", "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"], stderr=subprocess.DEVNULL)
        try:
            for port in ports:
                eventually(lambda: answers(port), message="nginx did not start")
            yield ports
        finally:
            process.terminate()
            process.wait(30)


def answers(port, path="/"):
    with contextlib.suppress(OSError):
        return request(port, "GET", path, timeout=2).status


def load(port, path, connections, seconds):
    """Answers of 200 per second, by `forkloop load`; whoever gets none is counted for a second and gives up."""
    url = f"http://127.0.0.1:{port}{path}"
    done = subprocess.run([PROGRAM, "load", url, "--json", "--connections", str(connections), "--seconds", str(seconds),
                           "--warm-up", "0.3", "--timeout", "1"], capture_output=True, text=True, timeout=60)
    if done.returncode not in (0, 1) or not done.stdout.startswith("{"):
        raise NotMeasured(f"forkloop load: {done.stderr.strip()}")
    result = json.loads(done.stdout)
    answered = sum(kind["answered"] - sum(kind["refused"].values()) for kind in result["kinds"])
    return answered / result["seconds"]


# --- drawing

STYLE = """
svg { --paper: #fff; --ink: #1c2024; --faint: #5b646d; --line: #d5d9de; --one: #b4511c; --two: #0f6aa8; --three: #6b7280; }
@media (prefers-color-scheme: dark) {
  svg { --paper: #16181b; --ink: #e8eaed; --faint: #a9b1b9; --line: #3b4147; --one: #f0a06a; --two: #6cb8ee; --three: #a9b1b9; }
}
text { font: 13px system-ui, "DejaVu Sans", sans-serif; fill: var(--ink); }
.title { font-weight: bold; font-size: 15px; }
.note { fill: var(--faint); font-size: 12px; }
.end { text-anchor: end; } .middle { text-anchor: middle; }
.paper { fill: var(--paper); } .grid { stroke: var(--line); }
.one { fill: var(--one); } .two { fill: var(--two); } .three { fill: var(--three); }
polyline { fill: none; stroke-width: 2.5; } polyline.one { stroke: var(--one); fill: none; } polyline.two { stroke: var(--two); fill: none; }
"""


def text(x, y, content, style=""):
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{style}">{html.escape(str(content))}</text>'


def draw(path, title, description, width, height, parts):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(path).write_text("\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{html.escape(title)}</title>", f"<desc>{html.escape(description)}</desc>", f"<style>{STYLE}</style>",
        f'<rect width="{width}" height="{height}" class="paper"/>', text(20, 28, title, "title"), *parts, "</svg>\n"]))
    print(f"drawn: {os.path.relpath(path)}")
