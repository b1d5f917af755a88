"""Settings: `.env` is read as docker compose reads it or refused in a line, the same defaults stand everywhere, and nothing is lost."""

import os
import pathlib
import re
import shlex
import signal

import pytest

from daemon import responder
from local_stack import MODES, ROOT, eventually, temporary_folder
from settings_help import defaults_of_the_code, helps, run, settings, sources

SECRET = "s3cret"


def exported(done):
    """The variables of `forkloop env`."""
    assert done.returncode == 0, done.stderr
    return dict(word.split("=", 1) for word in shlex.split(done.stdout) if word != "export")


def env(content, **environment):
    with temporary_folder() as folder:
        pathlib.Path(folder, ".env").write_bytes(content)
        return run("env", cwd=folder, **environment)


@pytest.mark.parametrize("content, host, password", [
    (b"# a comment\r\nDB_HOST=h\r\nDB_PASSWORD=\"p\"\r\n", "h", "p"),
    (b"\xef\xbb\xbfDB_HOST=h\nDB_PASSWORD=p", "h", "p"),
    (b"export DB_HOST=h\nexport\tDB_PASSWORD = p  \n", "h", "p"),
    (b"DB_HOST: h\nDB_PASSWORD: 'p'\n", "h", "p"),
    (b"DB_HOST=h # here\nDB_PASSWORD=p#q\n", "h", "p#q"),
    (b"DB_HOST=\"h\" # here\nDB_PASSWORD='p # q'#here\n", "h", "p # q"),
    (b"DB_HOST=h\nDB_PASSWORD=\"a\\\"b\\\\c\\$d\"\n", "h", 'a"b\\c$d'),
    (b"DB_HOST=h\nDB_PASSWORD='a\\'b\\\\c$d'\n", "h", "a'b\\\\c$d"),
    (b"DB_HOST=h\nDB_PASSWORD=a$$b$1\n", "h", "a$b$1"),
    (b"DB_HOST=\"h\n\"\nDB_PASSWORD=\"p\\tq\nr\"\n", "h\n", "p\tq\nr"),
    ("DB_HOST=\u0301h\nDB_PASSWORD='\u0301p'\u00a0\n".encode(), "\u0301h", "\u0301p"),
    ("DB_HOST=h\nDB_PASSWORD=\"'\u0301\"\n".encode(), "h", "'\u0301"),
    (b"DB_HOST=first\nDB_HOST=h\nDB_PASSWORD=p", "h", "p"),
])
def test_env_files_are_read_as_docker_compose_reads_them(content, host, password):
    done = env(content)
    assert exported(done) == {"PGHOST": host, "PGPASSWORD": password} and done.stderr == "", done


@pytest.mark.parametrize("line, why", [
    (b"DB_PASSWORD=\"s3cret", "not closed"),
    (b"DB_PASSWORD='s3cret' s3cret", "behind the quote"),
    (b"DB_PASSWORD=\"s3cret\"s3cret", "behind the quote"),
    (b"s3cret", "NAME=value"),
    (b"postgresql://u:s3cret@h/d?x=1", "NAME=value"),
    (b"=s3cret", "no name"),
    (b"DB_PASSWORD s3cret=x", "no name"),
    ("DB_P\u00c4SSWORD=s3cret".encode(), "no name"),
    (b"DB_PASSWORD=s3cret\xff", "UTF-8"),
    (b"DB_PASSWORD=s3cret\0", "control character"),
    (b"# a comment\rDB_PASSWORD=s3cret", "carriage return"),
    (b"DB_PASSWORD=s3cret$HOME", "single quotes"),
    (b"DB_PASSWORD=\"s3cret${HOME}\"", "single quotes"),
    (b"DB_PASSWORD= # s3cret", "comment"),
])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_what_nobody_can_have_meant_is_refused_with_its_line_and_no_secret(line, why, end):
    done = env(end.join([b"# one", b"DB_HOST=h", line, b""]))
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done
    assert ".env, line 3:" in done.stderr and why in done.stderr and SECRET not in done.stderr, done.stderr


def test_a_file_of_another_encoding_is_refused():
    done = env("DB_HOST=h\r\n".encode("utf-16"))
    assert done.returncode == 2 and ".env, line 1: this is no UTF-8 text" in done.stderr, done


def test_an_env_that_can_t_be_read_is_not_taken_for_none():
    with temporary_folder() as folder:
        pathlib.Path(folder, ".env").mkdir()
        done = run("env", cwd=folder)
        assert done.returncode == 2 and ".env can't be read: Is a directory" in done.stderr, done
    longest = 1 << 20
    assert env(b"DB_HOST=h".ljust(longest)).returncode == 0
    done = env(b"DB_HOST=h".ljust(longest + 1))
    assert done.returncode == 2 and f"longer than {longest} bytes" in done.stderr, done


def test_a_setting_in_the_environment_that_is_no_text_is_named_and_a_message_stays_a_line():
    done = run("env", DB_PASSWORD="s3cret\udcff")
    assert done.returncode == 2 and done.stderr == "forkloop: DB_PASSWORD is no UTF-8 text\n", done
    done = run("sync", "--check", FORKLOOP_SYNC_PM="sta\ntic")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done
    assert run("env", **{"FORKLOOP_\nX": "1", "DB_HOST": "h"}).stderr.count("\n") == 1


def test_a_setting_that_does_not_exist_is_told_of_with_the_nearest_that_does():
    done = env(b"\nFORKLOOP_SYNC_WORKER=3\nFORKLOOP_PORT=1\nFORKLOOP_ASYNC_X=\n", FORKLOOP_STATEMENTS_TIMEOUT=3, DB_HOST="h")
    assert exported(done) == {"PGHOST": "h"}
    assert done.stderr == (
        "forkloop: warning: there is no setting FORKLOOP_STATEMENTS_TIMEOUT, the nearest is FORKLOOP_STATEMENT_TIMEOUT\n"
        "forkloop: warning: there is no setting FORKLOOP_SYNC_WORKER (.env, line 2), the nearest is FORKLOOP_SYNC_WORKERS\n")


@pytest.mark.parametrize("command", ["sync", "async"])
def test_a_responder_tells_it_in_its_log(command):
    done = run(command, "--check", "--listen", "unix:/tmp/x.sock", FORKLOOP_LOGLEVEL="info")
    assert done.returncode == 0 and done.stdout.endswith("the configuration is good\n")
    assert f"warning {command}[" in done.stderr and "no setting FORKLOOP_LOGLEVEL, the nearest is FORKLOOP_LOG_LEVEL" in done.stderr, done


@pytest.mark.parametrize("mode", MODES)
def test_a_reload_tells_once_of_a_setting_that_has_been_misspelt(stack, mode):
    with responder(stack, mode) as server:
        server.set(FORKLOOP_DRAIN_TIMEOUTS=3)
        server.write()
        server.signal(signal.SIGHUP)
        server.says("listening on")
        eventually(lambda: server.log().count("listening on") > 1, 10, "it did not reload")
        told = [line for line in server.log().splitlines() if "there is no setting" in line]
        assert len(told) == 1 and told[0].endswith("FORKLOOP_DRAIN_TIMEOUTS (.env, line " + str(len(server.settings)) + "), the nearest is FORKLOOP_DRAIN_TIMEOUT"), told


def test_no_setting_that_the_help_names_is_told_of():
    meant = {name: "" for name in settings()} | {"FORKLOOP_PORT": 1, "FORKLOOP_SYNC_WORKERS": 1, "FORKLOOP_APPLICATION": "workload", "FORKLOOP_SYNC_KEEP_ALIVE": 1}
    assert run("sync", "--check", "--listen", "unix:/tmp/x.sock", **meant).stderr == ""


@pytest.mark.parametrize("name, nearest", [("DB_PASS", "DB_"), ("DB_HOSTS", "DB_HOST"), ("DATABASE_URI", "DATABASE_URL")])
def test_a_name_that_is_nearly_one_of_the_database_s_is_told_of(name, nearest):
    assert f"there is no setting {name}, the nearest is {nearest}" in run("env", DB_HOST="h", **{name: "x"}).stderr


@pytest.mark.parametrize("flags, settings, words", [
    ([], {"FORKLOOP_SYNC_GROUP": "nogroup"}, "FORKLOOP_SYNC_GROUP needs --user"), (["--group", "nogroup"], {}, "--group needs --user"),
    ([], {"FORKLOOP_SYNC_USER": "0"}, "(FORKLOOP_SYNC_USER)"), (["--user", "0"], {"FORKLOOP_SYNC_USER": "nobody"}, "(--user)"),
    ([], {"FORKLOOP_SYNC_USER": "nobody", "FORKLOOP_SYNC_GROUP": "0"}, "(FORKLOOP_SYNC_GROUP)"),
    (["--pm", "dynamic", "--start", "100", "--workers", "2", "--min-spare", "3"], {}, "--start (100) must not be more than --workers (2)"),
    (["--pm", "dynamic", "--workers", "2"], {"FORKLOOP_SYNC_MIN_SPARE": "3"}, "FORKLOOP_SYNC_MIN_SPARE (3) must not be more than --workers (2)"),
    ([], {"FORKLOOP_SYNC_PM": "dynamic", "FORKLOOP_SYNC_MIN_SPARE": "5"}, "FORKLOOP_SYNC_MIN_SPARE (5) must not be more than --max-spare (4)"),
    ([], {"DB_HOST": "postgresql://u:s3cret@h/d"}, "DB_HOST is no host's name"), ([], {"DB_HOST": "a,u:s3cret@h"}, "DB_HOST is no host's name"),
    ([], {"DB_HOST": "host=h password=s3cret"}, "DB_HOST is no host's name"),
])
def test_a_setting_that_would_do_nothing_or_harm_is_refused_by_the_name_that_it_was_given(flags, settings, words):
    done = run("sync", "--check", "--listen", "unix:/tmp/x.sock", *flags, **settings)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and words in done.stderr and SECRET not in done.stderr, done


def test_defaults_of_the_pool_give_way_to_few_workers():
    assert run("sync", "--check", "--listen", "unix:/tmp/x.sock", "--pm", "dynamic", "--workers", "1").returncode == 0


def test_an_env_that_is_no_file_is_refused_and_one_that_leads_to_nothing_is_none():
    with temporary_folder() as folder:
        os.mkfifo(f"{folder}/.env")
        done = run("env", cwd=folder)
        assert done.returncode == 2 and done.stderr == "forkloop: .env can't be read: it is no file\n", done
        os.unlink(f"{folder}/.env")
        os.symlink("/dev/null", f"{folder}/.env")
        assert exported(run("env", cwd=folder, DB_HOST="h")) == {"PGHOST": "h"}


UNUSABLE = [({"PGSSLMODE": "bogus"}, "sslmode"), ({"PGCONNECT_TIMEOUT": "x"}, "connect_timeout"), ({"PGSERVICE": "nosuch"}, "service"),
            ({"DB_HOST": "a", "DB_PORT": "1,2"}, "port"), ({"DB_HOST": "a,b", "PGTARGETSESSIONATTRS": "best"}, "target_session_attrs"),
            ({"DB_HOST": "a", "PGHOSTADDR": "1.2.3.4,1.2.3.5"}, "host")]


@pytest.mark.parametrize("wrong, word", UNUSABLE)
@pytest.mark.parametrize("mode", MODES)
def test_settings_of_libpq_that_no_server_can_mend_stop_the_start_and_the_check(mode, wrong, word):
    for check in (["--check"], []):
        done = run(mode, "--listen", "unix:/tmp/x.sock", *check, **wrong)
        assert done.returncode == 2 and word in done.stderr and done.stderr.count("\n") == 1, done


@pytest.mark.parametrize("usable", [{}, {"DB_HOST": "nowhere.example,/tmp", "DB_PORT": "1,2"}, {"PGHOSTADDR": "127.0.0.1"}, {"PGSSLMODE": "require"}])
def test_settings_that_a_server_may_fit_are_good(usable):
    done = run("async", "--check", "--listen", "unix:/tmp/x.sock", **usable)
    assert done.returncode == 0 and "the configuration is good" in done.stdout, done


@pytest.mark.parametrize("mode", MODES)
def test_a_reload_onto_settings_that_no_server_can_mend_changes_nothing(stack, mode):
    with responder(stack, mode) as server:
        server.set(PGSSLMODE="bogus")
        server.write()
        server.signal(signal.SIGHUP)
        server.says("sslmode")
        assert b'"reloads":0' in server.status() and server.answers()


@pytest.mark.parametrize("mode", MODES)
def test_what_is_no_text_in_the_environment_goes_on_unchanged_through_a_reload(stack, mode):
    with responder(stack, mode, environment={"OF_OTHERS": "a\udcffb"}) as server:
        server.signal(signal.SIGHUP)
        server.says("reload", 10)
        eventually(lambda: server.log().count("listening on") > 1, 10, "it did not reload")
        environment = pathlib.Path(f"/proc/{server.process.pid}/environ").read_bytes().split(b"\0")
        assert b"OF_OTHERS=a\xffb" in environment


# --- the database

@pytest.mark.parametrize("url, reason", [
    ("postgresql://u:s3cret%zz@h/d", "invalid percent-encoded token"),
    ("postgresql://u:p@h/d?sslmod=require", 'invalid URI query parameter: "sslmod"'),
    ("postgresql://h/d?password%zz=s3cret", "invalid percent-encoded token"),
    ("postgresql://u:\u0301s3cret%zz@h/d", "invalid percent-encoded token"),
    ("postgresql://h/d?s3cret@x=1", "invalid URI query parameter"),
    ("postgresql://h/d?s3cret", "missing key/value separator"),
    ("postgresql://u:s3cret@[::1/d", 'matching "]"'),
    ("postgresql://u:s3cret@[::1]x/d", "unexpected character"),
    ("postgresql://u:s3cret/x@h/d", "DATABASE_URL's port"),
    ("postgresql://u:s3cret@h:0/d", "DATABASE_URL's port"),
    ("mysql://u:s3cret@h/d", "postgresql://"),
])
def test_a_url_that_can_t_be_understood_is_told_with_the_reason_and_no_secret(url, reason):
    done = run("env", DATABASE_URL=url)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stdout == "", done
    assert reason in done.stderr and "DATABASE_URL" in done.stderr and SECRET not in done.stderr, done.stderr


IMPOSSIBLE = {
    # Settings of which no server can make anything, whichever way the connection goes, and what is told.
    **{f"{name}={value} over {host}": ({"DATABASE_URL": f"postgresql://u@/d?host={host}&{name}={value}"}, f'"{name}"')
       for host in ("127.0.0.1", "/nowhere", "/nowhere,127.0.0.1")
       for name, value in (("keepalives", "x"), ("keepalives_idle", "10s"), ("keepalives_interval", "1.5"), ("keepalives_count", "%20"),
                           ("tcp_user_timeout", "abc"), ("connect_timeout", "5s"), ("tcp_user_timeout", "99999999999"))},
    "a blank host": ({"DB_HOST": " "}, "blank"), "a blank in a host": ({"DB_HOST": "data base"}, "blank"),
    "a blank between hosts": ({"DB_HOST": "a, b"}, "blank"), "of libpq's": ({"PGHOST": "a b"}, "blank"), "an address": ({"PGHOSTADDR": "127.0.0.1 "}, "blank"),
    "no certificate": ({"DB_HOST": "127.0.0.1", "PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/nowhere/root.crt"}, "/nowhere/root.crt"),
    "none of an authority": ({"DB_HOST": "/nowhere,db", "PGSSLMODE": "verify-ca", "PGSSLROOTCERT": "/nowhere/root.crt"}, "/nowhere/root.crt"),
    "no such mode": ({"DB_HOST": "127.0.0.1", "PGSSLMODE": "some"}, "sslmode"),
}
POSSIBLE = [
    {"DB_HOST": "/no where"}, {"DB_HOST": "/nowhere", "PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/nowhere/root.crt"},
    {"DB_HOST": "127.0.0.1", "DB_PORT": "1", "PGSSLMODE": "require", "PGSSLROOTCERT": "/nowhere/root.crt"},
    {"DATABASE_URL": "postgresql://u@127.0.0.1:1/d?keepalives=0&keepalives_idle=%2010%20&tcp_user_timeout=-1"},
]


@pytest.mark.parametrize("mode", MODES)
def test_what_no_server_can_make_anything_of_is_refused_in_one_line(mode):
    with temporary_folder() as folder:
        check = (mode, "--check", "--listen", f"unix:{folder}/s.sock")
        for name, (said, told) in IMPOSSIBLE.items():
            done = run(*check, cwd=folder, **said)
            assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stdout == "" and told in done.stderr, (name, done)
        for said in POSSIBLE:
            done = run(*check, cwd=folder, **said)
            assert (done.returncode, done.stdout, done.stderr) == (0, "the configuration is good\n", ""), (said, done)


def test_env_gives_all_that_libpq_has_a_variable_for_and_names_the_rest():
    url = ("postgresql://u@h1:1,h2:2/d?sslmode=verify-full&sslrootcert=/x&options=-c%20a%3Db&target_session_attrs=read-write&connect_timeout=7"
           "&application_name=a&keepalives_idle=9&gssencmode=disable&channel_binding=require&client_encoding=UTF8&passfile=/p&tcp_user_timeout=1")
    done = run("env", DATABASE_URL=url)
    assert exported(done) == {
        "PGUSER": "u", "PGHOST": "h1,h2", "PGPORT": "1,2", "PGDATABASE": "d", "PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/x",
        "PGOPTIONS": "-c a=b", "PGTARGETSESSIONATTRS": "read-write", "PGCONNECT_TIMEOUT": "7", "PGAPPNAME": "a", "PGGSSENCMODE": "disable",
        "PGCHANNELBINDING": "require", "PGCLIENTENCODING": "UTF8", "PGPASSFILE": "/p"}
    assert done.stderr.count("\n") == 1 and "keepalives_idle, tcp_user_timeout" in done.stderr, done.stderr


def test_env_gives_what_only_the_file_says_of_libpq_s_variables():
    content = b"DB_HOST=h\nPGSSLMODE=require\nPGHOST=other\n"
    assert exported(env(content)) == {"PGHOST": "h", "PGSSLMODE": "require"}
    assert exported(env(content, PGSSLMODE="disable")) == {"PGHOST": "h"}, "the shell has it already"


def test_a_password_may_stand_beside_the_url_and_what_the_url_says_may_not():
    assert exported(run("env", DATABASE_URL="postgresql://u@h/d", DB_PASSWORD="p")) == {"PGUSER": "u", "PGHOST": "h", "PGDATABASE": "d", "PGPASSWORD": "p"}
    done = run("env", DATABASE_URL="postgresql://u:s3cret@h/d", DB_PASSWORD="p")
    assert done.returncode == 2 and "DATABASE_URL and DB_PASSWORD are both set" in done.stderr and SECRET not in done.stderr, done


# --- one default everywhere

def as_set(default):
    """A default as one writes it into a setting; None where it is described and not named."""
    return {"on": "1", "off": "0"}.get(default, default) if default and re.fullmatch(r"[\w./:-]+", default) and default != "all" else None


def test_the_help_tells_the_defaults_of_the_code():
    code = defaults_of_the_code()
    assert len(code) >= 25, code
    for name, setting in settings().items():
        told = as_set(setting.default)
        if name in code and told:
            assert code[name] in (told, setting.default), f"{name}: {setting} in the help, {code[name]} in the code"
        assert name in code or not (told or "").isdigit(), f"{name} has a default in the help, and none that is found in the code"
        if name in code:
            assert code[name] in (told or "") + (setting.default or ""), f"{name}: the help does not tell {code[name]}"


def test_every_setting_of_the_code_is_in_the_help():
    templates = {name for path in pathlib.Path(ROOT, "nginx").rglob("*.template") for name in re.findall(r"\$\{(FORKLOOP_\w+)\}", path.read_text())}
    inner = {"FORKLOOP_NO_ENV_FILE", "FORKLOOP_BOUND", "FORKLOOP_INHERITANCE"}
    for path, text in sources("Sources").items():
        for name in re.findall(r'"(FORKLOOP_[A-Z_]*[A-Z])"', text):
            assert name in settings() or name in templates | inner, f"{path}: no help names {name}"
        for name in re.findall(r'"\\\(Name\.prefix\)([A-Z_]+)"', text):
            assert {f"FORKLOOP_SYNC_{name}", f"FORKLOOP_ASYNC_{name}"} <= set(settings()), f"{path}: no help names {name}"


def told_rows():
    """Of the table of docs/operation.md: the names that a row is about, its flags and its default."""
    text = pathlib.Path(ROOT, "docs/operation.md").read_text()
    for names, flags, default in re.findall(r"^\| (`(?:FORKLOOP_|DB_HOST)[^|]*) \|([^|]*)\|([^|]*)\|$", text, re.MULTILINE):
        expanded, whole = [], ""
        for name in re.findall(r"`([A-Z_{},]+)`", names):
            # `_GROUP` behind `FORKLOOP_SYNC_USER` takes the place of its end.
            if name.startswith("_"):
                name = whole[:-len(tail)] + name if (tail := re.search(r"_[A-Z]+$|_M(?:IN|AX)_[A-Z]+$|_RLIMIT_[A-Z]+$", whole)[0]) else name
            whole = name
            pieces = re.fullmatch(r"(.*)\{(.*)\}(.*)", name)
            expanded += [pieces[1] + piece + pieces[3] for piece in pieces[2].split(",")] if pieces else [name]
        yield expanded, re.findall(r"--[a-z-]+", flags), default


def test_the_page_of_operation_tells_every_setting_with_its_flag_and_default():
    told = {}
    for names, flags, default in told_rows():
        numbers = re.findall(r"\d+", default)
        for name in names:
            told[name] = default
            if name not in settings():
                continue
            setting = settings()[name]
            negated = setting.flag and setting.flag.replace("--", "--no-", 1)
            assert setting.flag is None or {setting.flag, negated} & set(flags), f"{name}: {setting.flag} is not in docs/operation.md"
            expected = setting.default if as_set(setting.default) else None
            if (expected or "").isdigit():
                assert numbers[:1] == [expected], f"{name}: docs/operation.md says '{default}', the help {expected}"
                # Of several in one row each has the next number; of `{SYNC,ASYNC}` both the same.
                numbers = numbers[1:] if len(names) > 1 and numbers[1:] else numbers
            elif expected:
                assert re.search(rf"\b{re.escape(expected)}\b", default), f"{name}: docs/operation.md says '{default}', the help {expected}"
    assert set(settings()) <= set(told), f"not in docs/operation.md: {sorted(set(settings()) - set(told))}"
    known = set(settings()) | {"DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD", "DATABASE_URL"}
    assert set(told) <= known, f"in docs/operation.md alone: {sorted(set(told) - known)}"


def example():
    text = pathlib.Path(ROOT, ".env.example").read_text()
    return dict(re.findall(r"^#?([A-Z_]+)=(.*)$", text, re.MULTILINE))


def test_the_example_has_every_setting_with_its_default():
    code = defaults_of_the_code()
    for name, setting in settings().items():
        assert name in example(), f"{name} is not in .env.example"
        expected = code.get(name) or as_set(setting.default) or ""
        assert example()[name] == expected, f"{name}: .env.example says '{example()[name]}', the default is '{expected}'"
    strangers = {name for name in example() if name.startswith("FORKLOOP_")} - set(settings())
    assert not strangers, f"in .env.example alone: {strangers}"


def test_the_example_can_be_used_as_it_is_and_with_everything_in_it():
    text = pathlib.Path(ROOT, ".env.example").read_text()
    without_url = re.sub(r"^#DATABASE_URL=.*$", "", text, flags=re.MULTILINE)
    for content in (text, re.sub(r"^#([A-Z_]+=)", r"\1", without_url, flags=re.MULTILINE)):
        with temporary_folder() as folder:
            pathlib.Path(folder, ".env").write_text(content)
            for command in ("sync", "async"):
                done = run(command, "--check", "--listen", f"unix:{folder}/s.sock", cwd=folder)
                assert (done.returncode, done.stdout, done.stderr) == (0, "the configuration is good\n", ""), done


def drain():
    return int(settings()["FORKLOOP_DRAIN_TIMEOUT"].default)


def test_compose_hands_all_settings_on_and_has_the_same_defaults():
    text = pathlib.Path(ROOT, "docker-compose.yml").read_text()
    for name, default in re.findall(r"\$\{(\w+):-(\w+)\}", text):
        assert default == (example().get(name) or default), f"{name}: {default} in docker-compose.yml, {example()[name]} in .env.example"
        if name in settings():
            assert default == settings()[name].default, f"{name}: {default} in docker-compose.yml"
    program = text[text.index("x-forkloop:"):text.index("x-responder:")]
    assert re.search(r"^  env_file: \.env$", program, re.MULTILINE), "settings of .env that docker-compose.yml does not name are lost"
    for service in re.findall(r"^  \w+:\n(?:    .*\n|\n)+", text[text.index("\nservices:"):], re.MULTILINE):
        if re.search(r'command: \["(sync|async|migrate)', service):
            assert re.search(r"<<: \*(responder|forkloop)", service) and "env_file" not in service, f"not with the program's settings: {service}"
    graces = [int(seconds) for seconds in re.findall(r"stop_grace_period: (\d+)s", text)]
    assert graces and min(graces) > drain(), f"{graces} s to stop, where a drain may take {drain()}"


def in_compose(service, **dot_env):
    """The environment of a container, as docker compose makes it of `.env` and docker-compose.yml."""
    def filled_in(value):
        return re.sub(r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda m: dot_env.get(m[1]) or m[2] or "", str(value))

    yaml = pytest.importorskip("yaml")
    about = yaml.safe_load(pathlib.Path(ROOT, "docker-compose.yml").read_text())["services"][service]
    assert about["env_file"] == ".env"
    return {**dot_env, **{name: filled_in(value) for name, value in about["environment"].items()}}


def test_a_container_gets_what_the_file_says_of_libpq_and_no_administrator_s_password():
    said = {"PGHOST": "h", "PGDATABASE": "d", "PGUSER": "u", "PGSSLMODE": "require", "DB_PASSWORD": "p"}
    secrets = {name: "s3cret" for name in ("DB_ADMIN_PASSWORD", "FORKLOOP_OWNER_PASSWORD", "FORKLOOP_ROLE_PASSWORD")}
    for service in ("sync", "async"):
        assert in_compose(service, **said, **secrets).items() >= said.items() and SECRET not in in_compose(service, **said, **secrets).values()
        assert in_compose(service)["PGHOST"] == "db"
    assert in_compose("migrate", **said).items() >= {**said, "DB_ADMIN": "postgres"}.items()
    assert in_compose("migrate")["PGHOST"] == "/var/run/postgresql"


def test_containers_can_be_given_a_url(stack):
    said = {"DATABASE_URL": f"postgresql://compose_role@/compose?host={stack.path('db')}", "DB_PASSWORD": SECRET}
    try:
        done = run("setup", **in_compose("migrate", **said))
        assert done.returncode == 0, done
        assert stack.psql("select rolpassword is not null from pg_authid where rolname = 'compose_role'", database="compose") == [("t",)]
        done = run("setup", **in_compose("migrate", DB_HOST=stack.path("db"), DB_NAME="compose", DB_USER="compose_role", DB_PASSWORD=SECRET))
        assert done.returncode == 0, done
        for mode in MODES:
            assert "both set" not in run(mode, "--check", "--listen", "unix:/tmp/x.sock", **in_compose(mode, **said)).stderr
    finally:
        stack.psql("drop database if exists compose with (force)", database="postgres")
        stack.psql("drop role if exists compose_role", database="postgres")


def test_the_units_have_the_same_defaults():
    code = defaults_of_the_code()
    backlog = re.search(r"backlog: Int32 = (\d+)", "".join(sources("Sources/Platform").values()))
    for mode in ("sync", "async"):
        service, sockets = (pathlib.Path(ROOT, f"systemd/forkloop-{mode}.{kind}").read_text() for kind in ("service", "socket"))
        assert re.findall(r"^ListenStream=(.*)$", sockets, re.MULTILINE)[0] == code[f"FORKLOOP_{mode.upper()}_LISTEN"].removeprefix("unix:")
        assert int(re.search(r"^TimeoutStopSec=(\d+)$", service, re.MULTILINE)[1]) > drain()
        assert backlog is None or re.search(r"^Backlog=(\d+)$", sockets, re.MULTILINE)[1] == backlog[1]
        for name, value in re.findall(r"^Environment=(FORKLOOP_\w+)=(.*)$", service, re.MULTILINE):
            assert value == as_set(settings()[name].default), f"{name}={value} in the unit of {mode}"


# --- the rule

def test_outside_text_is_divided_at_bytes_everywhere():
    wrong = re.compile(r'split\(separator: "|separatedBy:|isNewline|split\(whereSeparator: \\\.is|== "\\n"\s*\}|(?<!utf8\.)(?:first|last)Index\(of: "|[rR]ange\(of: "')
    found = [f"{path}: {line.strip()}" for path, text in sources("Sources").items() for line in text.splitlines() if wrong.search(line)]
    assert found == [], "a Character is no byte: use lines, parts and halves of Platform\n" + "\n".join(found)
