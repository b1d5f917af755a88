"""The command line: settings, exit codes, and messages of one line."""

import os
import pathlib
import socket
import subprocess

import pytest

from local_stack import PROGRAM, ROOT, LocalStack, clean_environment, eventually, free_port, temporary_folder


def run(*arguments, cwd=None, **environment):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60, cwd=cwd or "/", env=clean_environment(**environment))


@pytest.mark.parametrize("command", ["sync", "async"])
def test_check_accepts_a_good_configuration(command):
    done = run(command, "--check", "--listen", "unix:/tmp/x.sock")
    assert (done.returncode, done.stdout) == (0, "the configuration is good\n"), done


@pytest.mark.parametrize("arguments, environment, names", [
    (["sync", "--check"], {"DB_PORT": "x"}, "DB_PORT must be a number from 1 to 65535, not 'x'"),
    (["sync", "--check"], {"DATABASE_URL": "mysql://x"}, "DATABASE_URL"),
    (["async", "--check"], {"DATABASE_URL": "postgresql://x", "DB_HOST": "y"}, "DB_HOST"),
    (["sync", "--check"], {"FORKLOOP_SYNC_WORKERS": "0"}, "FORKLOOP_SYNC_WORKERS"),
    (["sync", "--check", "--workers", "5000"], {}, "--workers"),
    (["async", "--check"], {"FORKLOOP_ASYNC_DB_CONNECTIONS": "many"}, "FORKLOOP_ASYNC_DB_CONNECTIONS"),
    (["sync", "--check", "--listen", "nonsense"], {}, "--listen"),
    (["async", "--check"], {"FORKLOOP_LOG_LEVEL": "loud"}, "FORKLOOP_LOG_LEVEL"),
    (["up", "--port", "70000"], {}, "--port"),
    (["up"], {"FORKLOOP_SYNC_LISTEN": "x"}, "FORKLOOP_SYNC_LISTEN"),
])
def test_a_wrong_setting_stops_the_start_with_a_line_that_names_it(arguments, environment, names):
    done = run(*arguments, **environment)
    assert done.returncode == 2, done
    assert names in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_wrong_usage_is_exit_code_2_and_help_is_0():
    assert run("sync", "--nonsense").returncode == 2
    assert run("nonsense").returncode == 2
    for arguments in (["--help"], ["up", "--help"], ["--version"]):
        assert run(*arguments).returncode == 0


@pytest.mark.parametrize("arguments, names", [
    ([], "http://127.0.0.1:8080/sync/order"), (["http://x:y/"], "http://x:y/"), (["http://a:1:2/"], "http://a:1:2/"),
    (["http://127.0.0.1:1/", "--header", "nothing"], "nothing"), (["http://127.0.0.1:1/", "--nonsense"], "--nonsense"), (["--rate", "fast"], "fast")])
def test_wrong_usage_of_load_is_told_with_its_own_usage(arguments, names):
    done = run("load", *arguments)
    assert done.returncode == 2 and names in done.stderr, done
    assert "Usage: forkloop load " in done.stderr and "<subcommand>" not in done.stderr, done.stderr


NOT_JSON = "is no report that can be read: it is no such JSON"
FILES = {
    "that is not there": (None, "No such file or directory"), "that is a folder": ("folder", "Is a directory"),
    "that may not be read": ("closed", "Permission denied"), "without anything": (b"", NOT_JSON), "that is no JSON": (b"{", NOT_JSON),
    "that is no UTF-8": (b'"\xff"', NOT_JSON), "of another form": (b"[1]", NOT_JSON), "that lacks something": (b"{}", "'version' is missing"),
}


@pytest.mark.parametrize("command, kind", [(["compare", "--open-report"], "report"), (["load", "--plan"], "plan")], ids=["report", "plan"])
@pytest.mark.parametrize("what", FILES)
def test_a_file_that_can_not_be_read_is_told_in_one_line(command, kind, what):
    content, says = FILES[what]
    with temporary_folder() as folder:
        path = pathlib.Path(folder, "file")
        if content == "folder":
            path.mkdir()
        elif content == "closed":
            path.touch(0o600)
        elif content is not None:
            path.write_bytes(content)
        user = "nobody" if os.geteuid() == 0 else None
        done = subprocess.run([PROGRAM, *command, str(path)], capture_output=True, text=True, timeout=60, cwd="/", env=clean_environment(), user=user)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done
    assert str(path) in done.stderr and "Error" not in done.stderr and "(" not in done.stderr, done.stderr
    assert says.replace("report", kind).replace("version", "version" if kind == "report" else "") in done.stderr or kind == "plan", done.stderr


PLACES = {
    "the same name": ["--log", "s.sock"], "another way to it": ["--log", "./s.sock"], "a way through another folder": ["--log", "sub/../s.sock"],
    "a link to its folder": ["--log", "link/s.sock"], "its whole name": ["--log", "FOLDER/s.sock"], "the status's socket": ["--status-listen", "unix:t", "--log", "t"],
    "the status's own place": ["--log", "s-status.sock"], "the status at the same name": ["--status-listen", "unix:s.sock"],
    "the status by another way": ["--status-listen", "unix:link/./s.sock"],
    "the status at the same port": ["--listen", "127.0.0.1:23457", "--status-listen", "localhost:23457"],
}


@pytest.mark.parametrize("checks", [True, False], ids=["check", "start"])
@pytest.mark.parametrize("what", PLACES)
def test_two_things_in_one_place_are_a_wrong_setting(what, checks):
    with temporary_folder() as folder:
        os.mkdir(f"{folder}/sub")
        os.symlink(".", f"{folder}/link")
        flags = [flag.replace("FOLDER", folder) for flag in PLACES[what]]
        for command in ("sync", "async"):
            if command == "async" and "status" in what:
                continue
            done = run(command, *([] if "--listen" in flags else ["--listen", "unix:s.sock"]), *flags, *(["--check"] if checks else []), cwd=folder)
            assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "the same" in done.stderr, done
        assert sorted(os.listdir(folder)) == ["link", "sub"], "it has left something behind"


@pytest.mark.parametrize("command", ["sync", "async"])
def test_a_log_that_can_not_be_written_is_named(command):
    for checks in ([], ["--check"]):
        done = run(command, "--listen", "unix:/tmp/x.sock", "--log", "/nowhere/x", *checks)
        assert done.returncode in (1, 2) and "/nowhere/x" in done.stderr and done.stderr.count("\n") == 1, done


def test_what_can_not_be_executed_is_told_in_its_log(stack):
    """A script whose interpreter is not there: that shows only when it is executed."""
    with temporary_folder() as folder:
        pathlib.Path(folder, "nginx").write_text("#!/nowhere/interpreter\n")
        os.chmod(f"{folder}/nginx", 0o755)
        done = run("up", "--state", f"{folder}/var", "--port", str(free_port()), cwd=ROOT, PATH=f"{folder}:{os.environ['PATH']}",
                   DB_HOST=stack.path("run"), DB_USER="forkloop", DB_NAME="forkloop")
        assert done.returncode == 1 and f"can't execute {folder}/nginx: No such file" in done.stderr, done
        assert f"can't execute {folder}/nginx" in pathlib.Path(folder, "var/log/nginx.log").read_text()


def test_settings_come_from_flag_then_environment_then_env_file():
    with temporary_folder() as folder:
        pathlib.Path(folder, ".env").write_text("DB_HOST=file\nDB_PORT=1\nDB_NAME='a b'\n")
        lines = run("env", cwd=folder, DB_HOST="environment").stdout.splitlines()
        assert lines == ["export PGDATABASE='a b'", "export PGHOST='environment'", "export PGPORT='1'"]


def test_env_takes_a_url_apart():
    lines = run("env", DATABASE_URL="postgresql://u:p%27w@h:6/d").stdout
    assert lines == "export PGDATABASE='d'\nexport PGHOST='h'\nexport PGPASSWORD='p'\\''w'\nexport PGPORT='6'\nexport PGUSER='u'\n"


def test_no_database_is_one_line_and_exit_code_1():
    done = run("migrate", DB_HOST="/nowhere")
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done


def test_migrate_and_demo_data_can_be_run_twice(stack):
    where = {"DB_HOST": stack.path("run"), "DB_USER": "forkloop", "DB_NAME": "forkloop"}
    assert run("migrate", **where).stdout == "the schema is up to date\n"
    assert run("demo-data", **where).stdout == "loaded the demo data\n"
    assert run("demo-data", **where).stdout == "nothing done: the database is not empty\n"
    assert stack.both("GET", "/order").json[0]["name"] == "SO001"


def test_a_newer_database_is_refused(stack):
    where = {"DB_HOST": stack.path("run"), "DB_USER": "forkloop", "DB_NAME": "forkloop"}
    stack.psql("insert into schema_migration (number, name) values (999, 'future')")
    try:
        done = run("migrate", **where)
        assert done.returncode == 1 and "newer" in done.stderr, done
    finally:
        stack.psql("delete from schema_migration where number = 999")


def test_up_says_in_one_line_that_a_port_or_a_folder_is_taken(stack):
    with temporary_folder() as folder:
        done = run("up", "--port", str(stack.port), "--state", folder, cwd=ROOT)
        assert done.returncode == 1 and f"port {stack.port} is taken" in done.stderr and done.stderr.count("\n") == 1, done
    done = run("up", "--port", "1", "--state", stack.path(""), cwd=ROOT)
    assert done.returncode == 1 and "another 'forkloop up'" in done.stderr and done.stderr.count("\n") == 1, done


def test_of_two_that_start_on_one_port_at_once_one_is_told_that_it_is_taken():
    with temporary_folder() as first, temporary_folder() as second:
        arguments = [PROGRAM, "up", "--port", str(free_port()), "--state"]
        ups = [subprocess.Popen([*arguments, folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=clean_environment())
               for folder in (first, second)]
        try:
            loser = eventually(lambda: next((up for up in ups if up.poll() is not None), None), 30, "neither gave up")
            winner = ups[1 - ups.index(loser)]
            assert loser.returncode == 1 and "is taken" in loser.stderr.read()
            assert any("forkloop is up" in line for line in winner.stdout), winner.stderr.read()
        finally:
            for up in ups:
                up.terminate()
                up.communicate(timeout=60)


@pytest.mark.parametrize("command", ["sync", "async"])
def test_a_socket_that_somebody_answers_on_is_not_taken(stack, command):
    done = run(command, "--listen", f"unix:{stack.path(f'run/{command}.sock')}", DB_HOST=stack.path("run"))
    assert done.returncode == 1 and "already listens" in done.stderr and done.stderr.count("\n") == 1, done
    assert stack.request("GET", f"/{command}/tag").status == 200


def test_up_uses_a_database_that_the_settings_name(stack):
    stack.psql("insert into tag (name) values ('shared')")
    with temporary_folder() as folder:
        other = LocalStack(folder, DB_HOST=stack.path("run"), DB_USER="forkloop", DB_NAME="forkloop")
        try:
            assert other.children("postgres") == [] and not os.path.exists(other.path("postgres/PG_VERSION"))
            assert other.both("GET", "/tag").json == [{"id": 1, "name": "shared"}]
        finally:
            assert other.stop() == 0


@pytest.mark.parametrize("command", ["sync", "async"])
def test_responders_take_a_socket_from_their_parent(stack, command):
    with temporary_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/s")
        listener.listen()
        process = subprocess.Popen([PROGRAM, command, "--listen", "fd:0"], stdin=listener, stderr=subprocess.DEVNULL,
                                   env=clean_environment(DB_HOST=stack.path("run"), DB_USER="forkloop", DB_NAME="forkloop"))
        try:
            from fastcgi_client import answer, fastcgi
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(30)
                client.connect(f"{folder}/s")
                client.sendall(fastcgi(f"/{command}/tag", keep=0))
                whole = answer(client)
                assert whole.startswith(b"Status: 200 OK\r\nContent-Type: application/json\r\n") and whole.endswith(b"\r\n\r\n[]"), whole
        finally:
            process.terminate()
            assert process.wait(30) == 0


def test_the_site_to_install_is_the_template_with_its_defaults():
    text = pathlib.Path(ROOT, "nginx/templates/forkloop.conf.template").read_text()
    for name, value in {"LISTEN": "8080 reuseport;\n    listen [::]:8080", "RUN": "/run/forkloop", "HTML": "/usr/share/forkloop/html", "ASSETS": "/usr/share/forkloop/assets", "SNIPPETS": "snippets",
                        "LOG": "/var/log/nginx/forkloop-access.log"}.items():
        text = text.replace("${FORKLOOP_%s}" % name, value)
    assert pathlib.Path(ROOT, "nginx/forkloop.conf").read_text() == text
