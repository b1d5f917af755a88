"""State folders: whose they are, what they may be called, and which server a command goes to that names one."""

import os
import pathlib
import pwd
import shlex
import stat
import subprocess

import pytest

from local_stack import PROGRAM, PSQL, ROOT, LocalStack, clean_environment, command_line, eventually, free_port, made, request, temporary_folder
from test_up import copy_of, up
from test_up import made as made_folder  # noqa: F401

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# libpq's own variables, each of which leads to another server or keeps everybody from this one.
ELSEWHERE = {"PGHOSTADDR": "127.0.0.1", "PGSERVICE": "nosuch", "PGTARGETSESSIONATTRS": "standby", "PGREQUIREPEER": "nobody", "PGGSSENCMODE": "require",
             "PGCHANNELBINDING": "require", "PGSSLMODE": "bogus", "PGOPTIONS": "-c nosuch=1", "PGCONNECT_TIMEOUT": "x", "PGHOST": "/nowhere", "PGPORT": "1",
             "PGDATABASE": "wrong", "PGUSER": "wrong"}


def run(*arguments, cwd="/", user=None, **environment):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60, cwd=cwd, env=clean_environment(**environment), user=user)


def asked(script, sql):
    """What psql says in a shell that has run what `env` printed."""
    return subprocess.run(["sh", "-c", f'eval "$1"; exec {PSQL} -XAtqc "$2"', "sh", script, sql], capture_output=True, text=True, env=clean_environment(**ELSEWHERE))


# --- which server

def test_up_takes_nobody_elsewhere_whatever_the_environment_says_of_libpq():
    with temporary_folder() as folder:
        stack = LocalStack(folder, **ELSEWHERE, FORKLOOP_OWNER_PASSWORD="s3cret", FORKLOOP_ROLE_PASSWORD="s3cret", DB_ADMIN_PASSWORD="s3cret")
        try:
            assert stack.both("GET", "/tag").json == []
            for mode in ("sync", "async"):
                told = pathlib.Path(f"/proc/{stack.children(mode)[0]}/environ").read_bytes()
                assert b"s3cret" not in told, f"{mode} has an administrator's password: {told}"
            log = os.stat(stack.path("log"))
            assert not log.st_mode & 0o007, "clients' values in the logs are open to everybody"
        finally:
            assert stack.stop() == 0


@pytest.mark.parametrize("elsewhere", [{name: value} for name, value in ELSEWHERE.items()] + [{"DB_HOST": "/nowhere"}, {"DATABASE_URL": "postgresql://h/d"}],
                         ids=lambda e: next(iter(e)))
def test_a_state_that_a_flag_names_is_above_the_environment(stack, elsewhere):
    done = run("env", "--state", stack.path(""), **elsewhere)
    assert done.returncode == 0 and f"export PGHOST='{os.path.realpath(stack.path('db'))}'" in done.stdout.splitlines(), done
    for name in set(elsewhere) - {"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "DB_HOST", "DATABASE_URL"}:
        assert f"unset {name}" in done.stdout.splitlines(), done.stdout


def test_commands_and_the_shell_work_on_the_state_that_a_flag_names(stack):
    assert "up to date" in run("migrate", "--state", stack.path(""), **ELSEWHERE).stdout
    done = run("env", "--state", stack.path(""), **ELSEWHERE)
    answer = asked(done.stdout, "select current_database()")
    assert answer.stdout == "forkloop\n", answer


@pytest.mark.parametrize("command", ["env", "migrate", "demo-data", "setup", "sync", "async"])
@pytest.mark.parametrize("named", ["flag", "setting"])
def test_a_state_without_a_database_is_no_reason_to_go_to_another_server(command, named):
    check = ["--check"] if command in ("sync", "async") else []
    flags, settings = (["--state", "/nonexistent"], {}) if named == "flag" else ([], {"FORKLOOP_STATE": "/nonexistent"})
    done = run(command, *flags, *check, **settings)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1 and "/nonexistent" in done.stderr, done


@ROOT_ONLY
def test_who_may_not_look_into_the_cluster_is_not_taken_to_another_server(stack):
    where = os.path.realpath(stack.path("db"))
    done = run("env", "--state", stack.path(""), user="games")
    assert done.returncode == 0 and f"export PGHOST='{where}'" in done.stdout.splitlines(), done
    done = run("migrate", "--state", stack.path(""), user="games")
    assert done.returncode == 1 and where in done.stderr and "Permission denied" in done.stderr, done
    with temporary_folder() as folder:
        os.mkdir(f"{folder}/closed", 0o700)
        done = run("migrate", "--state", f"{folder}/closed/var", user="games")
        assert done.returncode == 2 and f"can't look into {folder}/closed/var" in done.stderr, done


# --- whose folders

def owners(folder):
    return {str(path): (path.lstat().st_uid, path.lstat().st_gid, oct(path.lstat().st_mode)) for path in [folder, *folder.glob("*")]}


@ROOT_ONLY
def test_an_up_of_root_that_is_refused_leaves_a_users_running_one_as_it_is():
    user = pwd.getpwnam("games")
    with temporary_folder() as folder:
        subprocess.run(["cp", "-a", "--sparse=always", made(LocalStack.template), f"{folder}/var"], check=True)
        subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", folder], check=True)
        # Its rules are for the user who made it.
        os.unlink(f"{folder}/var/postgres/pg_hba.conf")
        with up(folder, user=user.pw_uid, group=user.pw_gid, extra_groups=[]) as running:
            running.says("forkloop is up")
            before = owners(pathlib.Path(folder, "var"))
            done = run("up", "--state", f"{folder}/var", "--port", str(free_port()), cwd=ROOT)
            assert done.returncode == 1 and done.stderr.count("\n") == 1 and "games" in done.stderr, done
            assert owners(pathlib.Path(folder, "var")) == before
            assert request(running.port, "GET", "/sync/tag").status == 200


@ROOT_ONLY
@pytest.mark.parametrize("name", ["log", "db", "run", "nginx", "nginx/temporary", "up.lock"])
@pytest.mark.parametrize("owner", ["root", "games"])
def test_a_link_in_the_state_folder_leads_up_nowhere(name, owner):
    with temporary_folder() as folder:
        victim, state = pathlib.Path(folder, "victim"), pathlib.Path(folder, "var")
        pathlib.Path(state, "postgres").mkdir(0o755, parents=True)
        victim.touch(0o640) if name == "up.lock" else victim.mkdir(0o700)
        link = state / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(victim)
        os.chown(state, pwd.getpwnam(owner).pw_uid, 0)
        before = owners(victim)
        done = run("up", "--state", str(state), "--port", str(free_port()), cwd=ROOT, DB_HOST="/nowhere")
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done
        assert owners(victim) == before, "the link was followed"


@ROOT_ONLY
def test_a_state_folder_in_which_others_may_write_is_refused():
    with temporary_folder() as folder:
        os.chmod(folder, 0o1777)
        done = run("up", "--state", folder, "--port", str(free_port()), cwd=ROOT, DB_HOST="/nowhere")
        assert done.returncode == 1 and "others than root may write" in done.stderr and os.listdir(folder) == [], done


def test_a_folder_that_holds_something_else_is_no_state_folder():
    with temporary_folder() as folder:
        for name in ("log", "run", "cache"):
            os.mkdir(f"{folder}/{name}", 0o755)
        before = owners(pathlib.Path(folder))
        done = run("up", "--state", folder, "--port", str(free_port()), cwd=ROOT, DB_HOST="/nowhere")
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and "is no state folder" in done.stderr, done
        assert owners(pathlib.Path(folder)) == before


# --- what they may be called

@pytest.mark.parametrize("name", ["a[1]", "*", "a?", "a\\b", "a,b", 'a"b', "a$host", "${a}", "a\nb", "a\tb", "\udcff"])
def test_a_name_that_can_not_be_quoted_everywhere_is_refused_before_anything_is_made(name):
    with temporary_folder() as folder:
        for command in ("up", "env"):
            done = subprocess.run([os.fsencode(PROGRAM), command, "--state", os.fsencode(f"{folder}/{name}")], capture_output=True, timeout=60, cwd=ROOT,
                                  env=clean_environment())
            assert done.returncode == 2 and done.stderr.count(b"\n") == 1 and done.stdout == b"", done
        assert os.listdir(folder) == []


def test_a_name_that_has_to_be_quoted_is():
    with temporary_folder() as above:
        folder = f"{above}/ a b'c;d#e{{f}}:g]h&ä%2F"
        os.mkdir(folder, 0o755)
        stack = LocalStack(folder)
        try:
            assert stack.both("GET", "/tag").json == []
            assert stack.request("GET", "/sync/status").status == 200
            line = next(line for line in stack.output().splitlines() if "forkloop env" in line)
            command = line.split("database", 1)[1].strip().removesuffix("; psql").replace("forkloop env", f"{shlex.quote(PROGRAM)} env")
            done = subprocess.run(["sh", "-c", f"{command}; exec {PSQL} -XAtqc 'select current_database()'"], capture_output=True, text=True, cwd="/",
                                  env=clean_environment(**ELSEWHERE))
            assert done.stdout == "forkloop\n", done
        finally:
            assert stack.stop() == 0


# --- settings of the responders

@pytest.mark.parametrize("wrong, words", [
    ({"FORKLOOP_LOG_LEVEL": "loud"}, "FORKLOOP_LOG_LEVEL"), ({"FORKLOOP_SYNC_LOG": "/nowhere/x"}, "/nowhere/x"), ({"FORKLOOP_ASYNC_LOG": "/nowhere/x"}, "/nowhere/x"),
    pytest.param({"FORKLOOP_SYNC_LOG": "/etc/passwd"}, "/etc/passwd", marks=ROOT_ONLY),
    ({"FORKLOOP_SYNC_USER": "nobody"}, "FORKLOOP_SYNC_USER"), ({"FORKLOOP_ASYNC_GROUP": "nogroup"}, "FORKLOOP_ASYNC_GROUP"),
    pytest.param({"FORKLOOP_SYNC_RLIMIT_FILES": 1048576}, "rlimit-files", marks=pytest.mark.skipif(
        subprocess.run(["sh", "-c", "ulimit -Hn"], capture_output=True, text=True).stdout.strip() in ("unlimited", "1048576"), reason="no limit to be above")),
    ({"FORKLOOP_ASYNC_RLIMIT_FILES": 3}, "rlimit-files"), ({"FORKLOOP_SYNC_PM": "dynamic", "FORKLOOP_SYNC_START": 100, "FORKLOOP_SYNC_WORKERS": 2}, "FORKLOOP_SYNC_START"),
    ({"FORKLOOP_ASYNC_MAX_TURN": 1}, "FORKLOOP_ASYNC_MAX_TURN"), ({"FORKLOOP_STATEMENT_TIMEOUT": "1s"}, "FORKLOOP_STATEMENT_TIMEOUT"),
    ({"DB_HOST": "h", "PGSSLMODE": "bogus"}, "sslmode"), ({"DB_HOST": "postgresql://u:s3cret@h/d"}, "DB_HOST"), ({"DB_HOST": "host=h password=s3cret"}, "DB_HOST"),
])
def test_up_stops_before_it_makes_anything_where_a_responder_would_not_start(wrong, words):
    with temporary_folder() as folder:
        done = run("up", "--state", f"{folder}/var", "--port", str(free_port()), cwd=ROOT, **wrong)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and words in done.stderr and done.stdout == "", done
        assert "s3cret" not in done.stderr and os.listdir(folder) == [], done


def test_up_places_the_status_where_nginx_looks_for_it_and_says_what_its_database_is(stack):
    with temporary_folder() as folder:
        other = LocalStack(folder, DB_HOST=stack.path("run"), DB_USER="postgres", DB_NAME="forkloop", FORKLOOP_SYNC_STATUS=f"unix:{folder}/other.sock")
        try:
            assert other.request("GET", "/sync/status").status == 200
            assert "the responders will connect as a superuser" in other.output()
            assert "the data stays in the database that the settings name" in other.output() and "/postgres" not in other.output(), other.output()
        finally:
            assert other.stop() == 0


@ROOT_ONLY
def test_up_does_not_promise_pages_that_nginx_s_user_can_not_read():
    with temporary_folder() as folder:
        project = pathlib.Path(folder, "closed/project")
        project.mkdir(parents=True)
        os.chmod(project.parent, 0o700)
        subprocess.run(["cp", "-r", f"{ROOT}/nginx", str(project)], check=True)
        with up(folder, cwd=project) as running:
            running.says("Ctrl-C stops everything")
            assert "/docs" not in running.output() and "nginx's user can't get to" in running.output(), running.output()


# --- who gets into the cluster

def test_rules_of_the_user_s_outlive_every_change_of_the_role(made_folder):  # noqa: F811
    with copy_of(made_folder) as folder:
        rules = pathlib.Path(folder, "var/postgres/pg_hba.conf")
        rules.write_text(f"{rules.read_text()}# mine\n")
        for role in ("one", "two", "one"):
            with up(folder, environment={"DB_USER": role}) as running:
                running.says("forkloop is up")
        kept = {path.name: path.read_text() for path in rules.parent.glob("pg_hba.conf.before*")}
        assert any("# mine" in text for text in kept.values()), kept
