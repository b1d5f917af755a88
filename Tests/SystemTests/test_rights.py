"""Who may do what: the roles on a database, who gets into the private cluster, and as whom processes run."""

import contextlib
import json
import os
import pathlib
import pwd
import re
import signal
import stat
import subprocess

import pytest

from local_stack import MODES, PROGRAM, PSQL, ROOT, LocalStack, clean_environment, command_line, eventually, free_port, request, temporary_folder
from responder import responder

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
OWNER, ROLE = "forkloop_owner", "forkloop"

# What a role without rights is refused, with the state that says so. {table}: there is one.
FORBIDDEN = [
    "create table mine (id int)", "create temporary table mine (id int)", "create schema mine", "create view mine as select 1",
    "create function mine() returns int language sql as 'select 1'", "create sequence mine", "create type mine as (a int)",
    "create table mine as select * from tag", "select * into mine from tag", "create extension pgcrypto", "create database mine",
    "create role mine", "create index on tag (name)", "create policy mine on tag", "create publication mine for table tag",
    "create trigger mine before insert on tag execute function order_insert()", "create tablespace mine location '/tmp'",
    "alter table tag add column more text", "alter table tag disable trigger all", "alter table tag rename to gone", "alter table tag owner to {role}",
    "alter function order_version rename to gone", "alter sequence tag_id_seq restart", "alter schema public rename to gone",
    "alter database {database} set work_mem = '1MB'", "alter system set fsync = off", "alter role {role} superuser", "alter role {role} createrole",
    "alter role {owner} password 'mine'", "alter role postgres nologin", "alter default privileges for role {owner} grant all on tables to public",
    "drop table tag", "drop table order_line cascade", "drop function order_version", "drop schema public cascade", "drop database postgres",
    "drop role {owner}", "drop owned by {owner}", "reassign owned by {owner} to {role}", "truncate tag cascade", "comment on table tag is 'mine'",
    "insert into schema_migration values (999, 'mine')", "delete from schema_migration", "update schema_migration set name = 'mine'",
    "copy tag from program 'id'", "copy tag to program 'cat'", "copy tag to '/tmp/mine'", "copy tag from '/etc/passwd'",
    "select pg_read_file('/etc/passwd')", "select pg_ls_dir('/')", "select lo_import('/etc/passwd')", "select pg_reload_conf()",
    "select * from pg_authid", "select setval('tag_id_seq', 1)", "set role {owner}", "set role postgres",
    "set session_replication_role = replica", "grant {owner} to {role}", "lock table schema_migration",
]
INSUFFICIENT_PRIVILEGE = "42501"
NO_TRANSACTION = re.compile("(create|drop) (database|tablespace)|alter system")


def states(statements, **environment):
    """What becomes of each statement, in a transaction that is undone: the SQLSTATE, or '' where it succeeds."""
    script = ["\\set VERBOSITY sqlstate"]
    for number, statement in enumerate(statements):
        script += [f"\\echo == {number}", *([] if NO_TRANSACTION.match(statement) else ["begin;"]), f"{statement};", "rollback;"]
    done = subprocess.run([PSQL, "-XAtq"], input="\n".join(script), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=clean_environment(**environment))
    parts = re.split(r"^== \d+\n", done.stdout, flags=re.M)
    assert len(parts) == len(statements) + 1, done.stdout
    found = [re.search(r"ERROR:\s+(\w{5})", part) for part in parts[1:]]
    return dict(zip(statements, (match[1] if match else "" for match in found)))


def forbidden(owner, role, database):
    return [statement.format(owner=owner, role=role, database=database) for statement in FORBIDDEN]


def as_role(stack, role=ROLE, database="forkloop"):
    return {"PGHOST": stack.path("run"), "PGUSER": role, "PGDATABASE": database}


def life_of_everything(ask):
    """All 16 routes of one server: `ask(method, path, body, **header)` gives (status, what was answered)."""
    def made(path, body, **header):
        status, thing = ask("POST", path, body, **header)
        assert status == 201, f"POST {path}: {status} {thing}"
        return thing["id"]

    contact = made("/contact", {"name": "Ann", "email": "ann@example.org"}, Idempotency_Key=f'"{os.urandom(8).hex()}"')
    product, tag = made("/product", {"name": "Pen"}), made("/tag", {"name": os.urandom(8).hex()})
    order = made("/order", {"name": "SO1", "contact_id": contact, "order_lines": [{"product_id": product, "quantity": 1, "price": 0.25}], "tag_ids": [tag]})
    for path, change in [(f"/order/{order}", {"name": "SO2", "order_lines": [{"product_id": product, "quantity": 2, "price": 1}], "tag_ids": []}),
                         (f"/tag/{tag}", {"name": os.urandom(8).hex()}), (f"/product/{product}", {"name": "Ink"}), (f"/contact/{contact}", {"name": "Bob"})]:
        for method, body, status in [("GET", None, 200), ("PATCH", change, 200), ("DELETE", None, 204), ("GET", None, 404)]:
            assert ask(method, path, body)[0] == status, f"{method} {path}"
        assert ask("GET", path.rsplit("/", 1)[0], None)[0] == 200


def through_nginx(port, mode):
    def ask(method, path, body, **header):
        answer = request(port, method, f"/{mode}{path}", body, {name.replace("_", "-"): value for name, value in header.items()})
        return answer.status, answer.body and answer.json
    return ask


def directly(one):
    def ask(method, path, body, **header):
        whole = one.ask(path, method, b"" if body is None else json.dumps(body).encode(), **{f"HTTP_{name.upper()}": value for name, value in header.items()})
        return whole[0], whole[1].split(b"\r\n\r\n", 1)[1] and json.loads(whole[1].split(b"\r\n\r\n", 1)[1])
    return ask


# MARK: The private cluster

def test_the_application_reads_and_writes_rows_and_can_do_nothing_else(stack):
    found = states(forbidden(OWNER, ROLE, "forkloop"), **as_role(stack))
    allowed = {statement: state for statement, state in found.items() if state != INSUFFICIENT_PRIVILEGE}
    assert allowed == {}, "the application's role was not refused for want of a right"
    rows = ["insert into tag (name) values ('a')", "update tag set name = 'b'", "select * from schema_migration", 'delete from "order"', "select order_version(1, '1')"]
    assert set(states(rows, **as_role(stack)).values()) == {""}


@pytest.mark.parametrize("mode", MODES)
def test_all_routes_work_with_the_rights_of_the_application(stack, mode):
    life_of_everything(through_nginx(stack.port, mode))
    users = stack.psql(f"select distinct usename from pg_stat_activity where application_name = 'forkloop {mode}'")
    assert users == [(ROLE,)]


def test_what_comes_later_can_be_read_and_written_too(stack):
    try:
        stack.psql(f"set role {OWNER}; create table later (id bigserial, name text); "
                   "create function latest() returns bigint language sql as 'select max(id) from later'")
        assert set(states(["insert into later (name) values ('x')", "update later set name = 'y'", "select latest()", "delete from later"],
                          **as_role(stack)).values()) == {""}
    finally:
        stack.psql("drop table later; drop function latest")


def test_nobody_but_postgres_is_a_superuser(stack):
    assert stack.psql("select rolname from pg_roles where rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls") == [("postgres",)]
    assert stack.psql(f"select rolname from pg_roles r join pg_auth_members m on m.member = r.oid where rolname in ('{ROLE}', '{OWNER}')") == []


@ROOT_ONLY
@pytest.mark.parametrize("folder", ["db", "run"])
@pytest.mark.parametrize("user, role, gets_in", [
    ("www-data", ROLE, True), ("www-data", "postgres", False), ("www-data", OWNER, False), ("nobody", ROLE, False),
    ("root", "postgres", True), ("root", OWNER, True), ("postgres", "postgres", True), ("postgres", OWNER, True)])
def test_who_gets_into_the_private_cluster_and_as_whom(stack, folder, user, role, gets_in):
    if (folder, user) == ("run", "postgres"):
        return  # It is not in the group of those who use that one, and need not be.
    groups = os.getgrouplist(user, pwd.getpwnam(user).pw_gid)
    done = subprocess.run([PSQL, "-XAtqc", "select current_user"], capture_output=True, text=True, user=user, group=groups[0], extra_groups=groups,
                          cwd="/", env=clean_environment(PGHOST=stack.path(folder), PGUSER=role, PGDATABASE="forkloop"))
    assert (done.stdout == f"{role}\n") == gets_in, done


def test_the_folder_of_the_databases_socket_is_postgresqls_own(stack):
    """Whoever connects is not led to somebody else: only PostgreSQL can make a socket there, and nobody can replace the link to it."""
    owner = os.stat(stack.path("postgres")).st_uid
    db, run = os.stat(stack.path("db")), os.stat(stack.path("run"))
    assert db.st_uid == owner and not db.st_mode & 0o027, oct(db.st_mode)
    assert not run.st_mode & 0o007 and (run.st_mode & stat.S_ISVTX or not run.st_mode & 0o020), oct(run.st_mode)
    assert os.path.realpath(stack.path("run/.s.PGSQL.5432")) == os.path.realpath(stack.path("db/.s.PGSQL.5432"))


@ROOT_ONLY
def test_an_ordinary_users_stack_is_that_users_alone():
    user = pwd.getpwnam("games")
    with temporary_folder() as folder:
        os.chown(folder, user.pw_uid, user.pw_gid)
        port = free_port()
        with open(f"{folder}/up.log", "w") as log:
            process = subprocess.Popen([PROGRAM, "up", "--port", str(port), "--state", f"{folder}/var"], stdout=log, stderr=log, cwd=ROOT,
                                       env=clean_environment(), user=user.pw_uid, group=user.pw_gid, extra_groups=[])
        try:
            output = lambda: pathlib.Path(folder, "up.log").read_text()
            eventually(lambda: "forkloop is up" in output() or process.poll() is not None, 30)
            assert process.poll() is None, output()
            for mode in MODES:
                life_of_everything(through_nginx(port, mode))
            for name in ("db", "run", "postgres"):
                assert os.stat(f"{folder}/var/{name}").st_mode & 0o077 == 0, f"{name} is open to others"
            where = {"PGHOST": f"{folder}/var/db", "PGDATABASE": "forkloop"}
            for who, gets_in in [("games", ("postgres", OWNER, ROLE)), ("root", (ROLE,))]:
                for role in ("postgres", OWNER, ROLE):
                    done = subprocess.run([PSQL, "-XAtqc", "select current_user"], capture_output=True, text=True, user=who, cwd="/",
                                          env=clean_environment(PGUSER=role, **where))
                    assert (done.stdout == f"{role}\n") == (role in gets_in), f"{who} as {role}: {done}"
        finally:
            process.terminate()
            assert process.wait(30) == 0


OLD_RULES = "local all all trust\nhost all all 127.0.0.1/32 trust\n"


def test_the_state_of_an_older_program_is_brought_over_and_up_says_so():
    """There everybody could be everybody, the responders' role owned everything, and the database's socket was in run/."""
    with temporary_folder() as folder:
        stack = LocalStack(folder)
        stack.psql(f"insert into tag (name) values ('kept'); reassign owned by {OWNER} to {ROLE}; drop owned by {OWNER}; drop role {OWNER};"
                   f"alter role {ROLE} superuser createdb; grant create on schema public to {ROLE}")
        assert stack.stop() == 0
        pathlib.Path(stack.path("postgres/pg_hba.conf")).write_text(OLD_RULES)
        os.unlink(stack.path("run/.s.PGSQL.5432"))
        pathlib.Path(stack.path("run/.s.PGSQL.5432")).touch()
        stack = LocalStack(folder)
        try:
            assert f'PostgreSQL takes whoever gets to its socket for "{ROLE}", and for nobody else any more' in stack.output()
            assert f'took from the role "{ROLE}": superuser, createdb' in stack.output()
            assert f'what the role "{ROLE}" owned is "{OWNER}"\'s now' in stack.output()
            assert pathlib.Path(stack.path("postgres/pg_hba.conf.before")).read_text() == OLD_RULES
            assert stack.psql("select name from tag", ROLE) == [("kept",)]
            found = states(forbidden(OWNER, ROLE, "forkloop"), **as_role(stack))
            assert set(found.values()) == {INSUFFICIENT_PRIVILEGE}, found
            for mode in MODES:
                life_of_everything(through_nginx(stack.port, mode))
        finally:
            stack.stop()
        stack = LocalStack(folder)
        stack.stop()
        assert pathlib.Path(folder, "up.log").read_text().startswith("forkloop is up"), "it says so once"


def test_rules_that_somebody_has_added_are_kept_and_the_responders_role_can_have_another_name():
    with temporary_folder() as folder:
        assert LocalStack(folder).stop() == 0
        path = pathlib.Path(folder, "var/postgres/pg_hba.conf")
        path.write_text(f"{path.read_text()}# mine\n")
        assert LocalStack(folder).stop() == 0
        assert path.read_text().endswith("# mine\n")
        stack = LocalStack(folder, DB_USER='an "other"')
        try:
            assert stack.request("GET", "/sync/tag").status == 200
            assert stack.psql("select current_user", 'an "other"') == [('an "other"',)]
        finally:
            stack.stop()


@pytest.mark.parametrize("user", ["postgres", OWNER])
def test_the_responders_of_a_private_cluster_are_neither_its_superuser_nor_its_owner(user):
    with temporary_folder() as folder:
        done = subprocess.run([PROGRAM, "up", "--state", f"{folder}/var"], capture_output=True, text=True, env=clean_environment(DB_USER=user), timeout=30, cwd=folder)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and f"DB_USER must not be '{user}'" in done.stderr, done


# MARK: forkloop setup

class Given:
    """A database that somebody administers who is no superuser, and the role names that a setup is to use there."""

    def __init__(self, stack):
        self.stack, self.database, self.owner, self.role = stack, "given", "given owner", "given-app"
        self.where = {"DB_HOST": stack.path("db"), "DB_NAME": self.database}

    def setup(self, user="dba", *flags, **more):
        return subprocess.run([PROGRAM, "setup", "--owner", self.owner, "--role", self.role, *flags], capture_output=True, text=True, timeout=60,
                              env=clean_environment(**{**self.where, "DB_USER": user, "FORKLOOP_NO_ENV_FILE": 1, **more}))

    def psql(self, sql, user="postgres", database=None):
        done = subprocess.run([PSQL, "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql], capture_output=True, text=True,
                              env=clean_environment(PGHOST=self.stack.path("db"), PGUSER=user, PGDATABASE=database or self.database))
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def given(stack):
    rules = pathlib.Path(stack.path("postgres/pg_hba.conf"))
    before = rules.read_text()
    one = Given(stack)
    try:
        rules.write_text(f'local all dba,other,"given-app" trust\nlocal given all trust\n{before}')
        stack.psql("select pg_reload_conf(); create role dba login createdb createrole; create role other login createdb")
        eventually(lambda: subprocess.run([PSQL, "-Xqc", "", "-h", stack.path("db"), "-U", "dba", "postgres"], capture_output=True).returncode == 0, 5)
        yield one
    finally:
        rules.write_text(before)
        with contextlib.suppress(AssertionError):
            one.psql("reset role; drop owned by dba, other cascade")
        stack.psql("drop database if exists given with (force)")
        for role in ("dba", "other", one.owner, one.role):
            stack.psql(f'drop role if exists "{role}"')
        stack.psql("select pg_reload_conf()")


# What there is before, as SQL by whom and where, and who runs the setup.
STATES = {
    "nothing": ([], "dba"),
    "nothing, and a superuser runs it": ([], "postgres"),
    "an empty database of the administrator's": ([("dba", "postgres", "create database given")], "dba"),
    "somebody else's": ([("other", "postgres", "create database given")], "postgres"),
    "everybody may make tables": ([("dba", "postgres", "create database given"), ("postgres", "given", "grant create on schema public to public")], "postgres"),
    "a migrated one of a superuser's": ([("postgres", "postgres", "create database given"), ("postgres", "given", "migrate")], "postgres"),
    "a migrated one of the administrator's": ([("dba", "postgres", "create database given"), ("dba", "given", "migrate")], "dba"),
    "one that the application owns": ([("postgres", "postgres", 'create role "given-app" login superuser'), ("given-app", "postgres", "create database given"),
                                       ("given-app", "given", "migrate")], "postgres"),
    "one that an interrupted setup has left to two owners": ([
        ("postgres", "postgres", "create database given"), ("postgres", "given", "migrate"),
        ("postgres", "given", 'create role "given owner"; alter table schema_migration owner to "given owner"; alter table tag owner to "given owner"')], "postgres"),
    "one whose tables everybody may truncate, and more": ([
        ("postgres", "postgres", "create database given"), ("postgres", "given", "migrate"),
        ("postgres", "given", 'create role "given owner"; create role "given-app"'),
        ("postgres", "given", "grant truncate, trigger, references on all tables in schema public to public; grant all on schema_migration to public;"
         "grant references (id), update (id) on tag to public; grant update (number) on schema_migration to public;"
         "alter default privileges grant all on tables to public; alter default privileges for role \"given owner\" grant all on tables to \"given-app\";"
         "revoke execute on all routines in schema public from public")], "postgres"),
    "an administrator and a database whose transactions are not the usual ones": ([
        ("dba", "postgres", "create database given"), ("dba", "given", "migrate"),
        ("postgres", "postgres", "alter role dba set default_transaction_read_only = on; alter database given set default_transaction_isolation = 'serializable'")], "dba"),
    "the roles, turned upside down": ([("postgres", "postgres", 'create role "given owner"; create role "given-app" in role "given owner" createrole bypassrls')], "postgres"),
}


@pytest.mark.parametrize("state", STATES)
def test_setup_makes_an_owner_and_a_role_that_reads_and_writes_rows_whatever_is_there(given, state):
    steps, user = STATES[state]
    for who, database, sql in steps:
        if sql == "migrate":
            subprocess.run([PROGRAM, "migrate"], check=True, stdout=subprocess.DEVNULL, env=clean_environment(**given.where, DB_USER=who))
            given.psql("insert into tag (name) values ('kept')", who)
        else:
            given.psql(sql, who, database)
    first = given.setup(user)
    assert first.returncode == 0, first
    second = given.setup(user)
    assert (second.returncode, second.stdout) == (0, "the database is set up\n"), second
    owners = "select distinct relowner::regrole from pg_class where relnamespace = 'public'::regnamespace union select proowner::regrole from pg_proc where pronamespace = 'public'::regnamespace"
    assert given.psql(owners) == f'"{given.owner}"\n'
    found = states(forbidden(f'"{given.owner}"', f'"{given.role}"', "given"), PGHOST=given.stack.path("db"), PGUSER=given.role, PGDATABASE="given")
    assert set(found.values()) == {INSUFFICIENT_PRIVILEGE}, {s: c for s, c in found.items() if c != INSUFFICIENT_PRIVILEGE}
    if any(step[2] == "migrate" for step in steps):
        assert given.psql("select name from tag", given.role) == "kept\n"
    for mode in MODES if state == "nothing" else ():
        with responder(mode, DB_HOST=given.stack.path("db"), DB_NAME="given", DB_USER=given.role) as one:
            eventually(one.is_well)
            life_of_everything(directly(one))
    # The owner goes on alone.
    done = subprocess.run([PROGRAM, "migrate"], capture_output=True, text=True, env=clean_environment(**given.where, DB_USER=given.owner))
    assert (done.returncode, done.stdout) == (0, "the schema is up to date\n"), done
    assert given.setup(given.owner).returncode == 0


def test_setup_sets_passwords_that_the_server_never_sees(given):
    given.stack.psql("alter system set log_statement = 'all'")
    given.stack.psql("select pg_reload_conf()")
    try:
        eventually(lambda: given.stack.psql("show log_statement") == [("all",)], 5)
        assert given.setup(FORKLOOP_OWNER_PASSWORD="own'er \\ word", FORKLOOP_ROLE_PASSWORD="application's word").returncode == 0
    finally:
        given.stack.psql("alter system reset log_statement")
        given.stack.psql("select pg_reload_conf()")
    assert given.stack.psql("select count(*) from pg_authid where rolname like 'given%' and rolpassword like 'SCRAM-SHA-256$%'") == [("2",)]
    log = pathlib.Path(given.stack.path("log/postgres.log")).read_text()
    assert "password 'SCRAM-SHA-256$" in log.lower().replace("scram-sha-256", "SCRAM-SHA-256") and "application" not in log.split("create role \"given-app\"")[-1].replace("application_name", "")


@pytest.mark.parametrize("flags, settings, code, words", [
    (["--role", "given owner"], {}, 1, "can't both be"),
    (["--role", "dba"], {}, 1, "is the application's role: connect as an administrator"),
    (["--role", "postgres"], {"DB_USER": "other"}, 1, ""),
    ([], {"DB_USER": "other"}, 1, "permission denied"),
    ([], {"DB_HOST": "/nowhere"}, 1, "no database connection"),
    (["more"], {}, 2, "")])
def test_a_setup_that_can_not_be_done_says_why(given, flags, settings, code, words):
    done = given.setup("dba", *flags, **settings)
    assert done.returncode == code and words in done.stderr and (code == 2 or done.stderr.count("\n") == 1), done


def test_setup_does_not_call_a_database_ready_whose_application_can_become_somebody_else(given):
    given.psql('create role "given-app" login in role pg_write_server_files', database="postgres")
    done = given.setup("postgres")
    assert done.returncode == 1 and "is a member of pg_write_server_files" in done.stderr, done


def test_a_migration_that_the_application_may_not_make_says_who_may(given):
    assert given.setup().returncode == 0
    given.psql("delete from schema_migration where number > 1")
    done = subprocess.run([PROGRAM, "migrate"], capture_output=True, text=True, env=clean_environment(**given.where, DB_USER=given.role))
    assert done.returncode == 1 and "42501" in done.stderr and "migrate as the owner" in done.stderr, done


def migrated(given, owner="postgres"):
    given.psql("create database given", "postgres", "postgres")
    subprocess.run([PROGRAM, "migrate"], check=True, stdout=subprocess.DEVNULL, env=clean_environment(**given.where, DB_USER=owner))


OWNERS = "select string_agg(distinct relowner::regrole::text, ', ') from pg_class where relnamespace = 'public'::regnamespace"


def test_a_setup_that_is_interrupted_has_done_nothing_and_the_next_one_does_it_all(given):
    migrated(given)
    holder = subprocess.Popen([PSQL, "-XAtqc", "begin; select 1 from order_line; select pg_sleep(30)"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              env=clean_environment(PGHOST=given.where["DB_HOST"], PGUSER="postgres", PGDATABASE="given"))
    waiting = "select count(*) from pg_locks where not granted and relation = 'order_line'::regclass"
    try:
        eventually(lambda: given.psql("select count(*) from pg_stat_activity where wait_event = 'PgSleep'") == "1\n", 5)
        first = subprocess.Popen([PROGRAM, "setup", "--owner", given.owner, "--role", given.role], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 env=clean_environment(**given.where, DB_USER="postgres", FORKLOOP_NO_ENV_FILE=1))
        eventually(lambda: given.psql(waiting) == "1\n", 5)
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=10)
        given.psql("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")
        eventually(lambda: given.psql("select count(*) from pg_stat_activity where application_name = 'forkloop setup'") == "0\n", 5)
    finally:
        holder.kill()
        holder.wait()
    assert given.psql(OWNERS) == "postgres\n", "an interrupted setup has moved a part"
    done = given.setup("postgres")
    assert done.returncode == 0 and given.psql(OWNERS) == f'"{given.owner}"\n', done


def test_setup_leaves_alone_what_is_not_the_applications(given):
    """Another database of the role's, and the tables and functions of others in this one."""
    migrated(given)
    try:
        given.psql('create role "given-app" login', "postgres", "postgres")
        given.psql('create database billing owner "given-app"', "postgres", "postgres")
        given.psql('create table payroll (id int); create function raise_pay() returns int language sql as \'select 1\'; create view paid as select 1 as a;'
                   'create table mine (id serial); alter table mine owner to "given-app"; alter database given owner to "given-app"')
        done = given.setup("postgres")
        assert done.returncode == 0, done
        assert given.psql("select datname, datdba::regrole from pg_database where datname in ('billing', 'given') order by 1") == f'billing|"{given.role}"\ngiven|"{given.owner}"\n'
        owners = "select relname, relowner::regrole from pg_class where relname in ('mine', 'paid', 'payroll') union select proname, proowner::regrole from pg_proc where proname = 'raise_pay' order by 1"
        assert given.psql(owners) == f'mine|"{given.owner}"\npaid|postgres\npayroll|postgres\nraise_pay|postgres\n'
        found = states(["select * from payroll", "delete from payroll", "insert into mine default values", "select * from mine"],
                       PGHOST=given.where["DB_HOST"], PGUSER=given.role, PGDATABASE="given")
        assert list(found.values()) == [INSUFFICIENT_PRIVILEGE, INSUFFICIENT_PRIVILEGE, "", ""], found
        assert given.setup("postgres").stdout == "the database is set up\n"
    finally:
        given.psql("drop database if exists billing with (force)", "postgres", "postgres")


@pytest.mark.parametrize("settings", [
    {"PGSERVICE": "orders"}, {"DATABASE_URL": "postgresql:///?service=orders"}, {"PGSERVICE": "other", "PGDATABASE": "wrong", "DB_NAME": "given"}, {"PGDATABASE": "given"}])
def test_setup_is_about_the_database_that_a_service_or_libpqs_environment_names(given, tmp_path, settings):
    (tmp_path / "services").write_text(f"[orders]\nhost={given.where['DB_HOST']}\nuser=dba\ndbname=given\n[other]\nhost={given.where['DB_HOST']}\nuser=dba\n")
    before = given.psql("select count(*) from pg_roles", "postgres", "forkloop")
    given.where = {"PGSERVICEFILE": tmp_path / "services", "PGHOST": given.where["DB_HOST"], "PGUSER": "dba"}
    done = given.setup("", **settings)
    assert done.returncode == 0 and 'made the database "given"' in done.stdout, done
    assert given.psql("select has_database_privilege('given-app', 'forkloop', 'temporary'), has_database_privilege('given-app', 'given', 'temporary')") == "f|f\n", before


def test_a_databases_name_is_a_name_whatever_is_in_it(given):
    given.where["DB_NAME"] = given.database = "dbname=given user=nobody"
    try:
        done = given.setup()
        assert done.returncode == 0, done
        check = subprocess.run([PROGRAM, "sync", "--check", "--listen", f"127.0.0.1:{free_port()}"], capture_output=True, text=True, env=clean_environment(**given.where, DB_USER="postgres"))
        assert check.returncode == 0 and "schema" not in check.stderr, check
        assert given.psql("select count(*) from pg_database where datname = 'dbname=given user=nobody'", "postgres", "postgres") == "1\n"
    finally:
        given.stack.psql('drop database if exists "dbname=given user=nobody" with (force)')


# What is in the way before a setup, as SQL in the database, and what a setup says then: of the schema, and of what the role can do.
IN_THE_WAY = [
    ("alter role \"given-app\" set search_path = 'zzz'", "has no schema"),
    ("alter role \"given-app\" in database given set search_path = ''", "has no schema"),
    ("create schema \"given owner\"", 'alter role "given owner" in database "given" set search_path = "public"'),
    ("create schema \"given-app\"", 'is in the schema "given-app"'),
    ('create schema b; alter role "given owner" set search_path = a, b, public', 'is in the schema "b"'),
    ("drop schema public", "has no schema"),
    ('alter role "given-app" connection limit 0', "connection limit -1"),
    ("alter role \"given-app\" valid until '2001-01-01'", "valid until 'infinity'"),
    ("alter database given connection limit 0", "takes no connections"),
    ('alter role "given-app" set default_transaction_read_only = on', "read-only"),
    ('grant pg_read_all_data to "given-app"', "is a member of pg_read_all_data"),
]


@pytest.mark.parametrize("sql, words", IN_THE_WAY)
def test_setup_says_what_is_in_the_way_and_then_has_done_nothing(given, sql, words):
    given.psql('create role "given owner" login; create role "given-app" login', "postgres", "postgres")
    given.psql("create database given", "postgres", "postgres")
    given.psql(sql)
    done = given.setup("postgres")
    assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1, done
    assert done.stdout == "" and given.psql("select count(*) from pg_class where relname = 'schema_migration'") == "0\n", done


def test_a_right_that_somebody_else_has_granted_is_told_of(given):
    """Only who has granted it can take it back."""
    migrated(given)
    given.psql('create role "given-app" login; grant truncate on tag to other with grant option; set role other; grant truncate on tag to "given-app"')
    done = given.setup("postgres")
    assert done.returncode == 1 and "may use truncate on the table tag" in done.stderr, done


@pytest.mark.parametrize("sql, options, schema", [
    ("create schema adm authorization dba; alter role dba set search_path = 'adm'", "", "public"),
    ("create schema adm authorization dba", "-c search_path=adm", "public"),
    ("create schema dba authorization dba", "", "public"),
    ("create schema adm authorization dba; alter database given set search_path = 'adm'", "", "adm"),
    ("create schema \"A, \"\"b\" authorization dba; alter database given set search_path = nowhere, \"A, \"\"b\", public", "", 'A, "b'),
])
def test_the_tables_are_where_the_responders_look_for_them_whatever_the_administrators_search_path_is(given, sql, options, schema):
    given.psql("create database given owner dba", "postgres", "postgres")
    given.psql(sql)
    for expected in (0, 0):
        done = given.setup(**({"PGOPTIONS": options} if options else {}))
        assert done.returncode == expected, done
    assert given.psql("select string_agg(nspname, ' ') from pg_class c join pg_namespace n on n.oid = relnamespace where relname = 'tag'") == f"{schema}\n"
    assert given.psql("select count(*) from tag", given.role) == "0\n"
    assert given.psql("select current_schema()", given.owner) == f"{schema}\n"


def test_a_database_that_a_failed_setup_has_made_is_the_owners(given):
    assert given.setup("dba", "--role", "public").returncode == 1
    done = given.setup()
    assert done.returncode == 0, done
    assert given.psql("select datdba::regrole from pg_database where datname = 'given'") == f'"{given.owner}"\n'


def test_setups_that_begin_at_once_wait_for_each_other(given):
    begun = [subprocess.Popen([PROGRAM, "setup", "--owner", given.owner, "--role", given.role], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env=clean_environment(**given.where, DB_USER="dba", FORKLOOP_NO_ENV_FILE=1)) for _ in range(5)]
    said = sorted(one.communicate(timeout=30)[0] for one in begun)
    assert [one.returncode for one in begun] == [0] * 5, said
    assert sum("made the database" in text for text in said) == 1 and said.count("the database is set up\n") == 4, said


def test_the_setup_that_the_docs_show_works_beside_an_env_file_that_was_copied_from_the_example(given, tmp_path):
    command = re.search(r"^sudo -u postgres env (.*) forkloop setup", (ROOT / "docs/security.md").read_text(), re.M)[1]
    settings = dict(pair.split("=") for pair in command.split())
    (tmp_path / ".env").write_text((ROOT / ".env.example").read_text())
    done = subprocess.run([PROGRAM, "setup", "--owner", given.owner, "--role", "forkloop"], capture_output=True, text=True, cwd=tmp_path,
                          env=clean_environment(**{**settings, "DB_HOST": given.where["DB_HOST"], "DB_NAME": "given"}))
    assert done.returncode == 0, done


def test_a_migration_waits_for_another_one_whatever_the_owners_lock_timeout_is(given):
    assert given.setup().returncode == 0
    given.psql(f"alter role \"{given.owner}\" set lock_timeout = '10ms'")
    other = subprocess.Popen([PSQL, "-XAtqc", f"select pg_advisory_lock({0x666F726B6C6F6F70}); select pg_sleep(30)"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             env=clean_environment(PGHOST=given.where["DB_HOST"], PGUSER="postgres", PGDATABASE="given"))
    waits = "select count(*) from pg_locks l join pg_stat_activity a using (pid) where not granted and locktype = 'advisory' and query_start < now() - interval '0.1 s'"
    try:
        eventually(lambda: given.psql("select count(*) from pg_stat_activity where wait_event = 'PgSleep'") == "1\n", 5)
        one = subprocess.Popen([PROGRAM, "migrate"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=clean_environment(**given.where, DB_USER=given.owner))
        eventually(lambda: given.psql(waits) == "1\n" or one.poll() is not None, 5)
        given.psql("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")
        assert (one.communicate(timeout=10)[0], one.returncode) == ("the schema is up to date\n", 0)
    finally:
        other.kill()
        other.wait()


# MARK: Processes

@ROOT_ONLY
@pytest.mark.parametrize("mode", MODES)
def test_workers_of_root_are_told_of_in_one_line(stack, mode):
    with responder(mode, DB_HOST=stack.path("run")) as one:
        eventually(one.is_well)
        lines = [line for line in one.log.read_text().splitlines() if "root" in line]
        assert len(lines) == 1 and "--user" in lines[0], one.log.read_text()
        one.process.send_signal(signal.SIGHUP)
        eventually(lambda: len([line for line in one.log.read_text().splitlines() if "reload" in line]) > 0, 10)
        eventually(one.is_well)
        assert one.log.read_text().count("root") == 1


@ROOT_ONLY
@pytest.mark.parametrize("mode", MODES)
def test_workers_of_somebody_else_are_not(stack, mode):
    with responder(mode, "--user", "www-data", DB_HOST=stack.path("run")) as one:
        eventually(one.is_well)
        assert "root" not in one.log.read_text()


# MARK: Containers

def compose(service):
    """The text of one service."""
    text = (ROOT / "docker-compose.yml").read_text()
    return re.search(rf"^  {service}:\n((?:    .*\n|\n)+)", text, re.M)[1]


def test_containers_are_reached_from_this_machine_alone_unless_somebody_says_otherwise():
    ports = re.findall(r'^ +- "(.*:8080)"$', compose("nginx"), re.M)
    assert ports == ["${PUBLISH_ADDRESS:-127.0.0.1}:${FORKLOOP_PORT:-8080}:8080"]
    assert "ports:" not in "".join(compose(service) for service in ("db", "migrate", "sync", "async"))


def test_whoever_comes_through_a_published_port_does_not_see_the_state_of_the_containers():
    """Docker's gateway has a private address."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    command = re.search(r"^RUN (sed .*forkloop-private\.conf)$", dockerfile, re.M)[1]
    snippet = (ROOT / "nginx/snippets/forkloop-private.conf").read_text()
    done = subprocess.run(command.replace("sed -i", "sed").replace("/etc/nginx/snippets/forkloop-private.conf", "-"), shell=True, input=snippet, capture_output=True, text=True)
    assert re.findall(r"^(?:allow|deny) .*;", done.stdout, re.M) == ["allow 127.0.0.0/8;", "allow ::1;", "allow unix:;", "deny all;"], done


# MARK: Units

UNITS = sorted(path.name for path in (ROOT / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_leaves_little_to_be_had(unit):
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", str(ROOT / "systemd" / unit)], capture_output=True, text=True,
                          env={**os.environ, "SYSTEMD_COLORS": "0"})
    level = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    assert level and float(level[1]) <= 1.5, done.stdout[-300:] + done.stderr


def test_the_units_are_understood():
    with temporary_folder() as folder:
        for path in (ROOT / "systemd").iterdir():
            pathlib.Path(folder, path.name).write_text(path.read_text().replace("/usr/local/bin/forkloop", PROGRAM))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", *sorted(str(path) for path in pathlib.Path(folder).iterdir())], capture_output=True, text=True)
        ours = [line for line in done.stderr.splitlines() if "forkloop" in line]
        assert done.returncode == 0 and ours == [], done.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_one_worker_that_is_killed_for_memory_does_not_end_its_unit(unit):
    assert "\nOOMPolicy=continue\n" in (ROOT / "systemd" / unit).read_text()


@ROOT_ONLY
def test_the_exported_variables_are_those_of_the_owner_who_may_do_what_he_likes_with_the_tables(stack):
    done = subprocess.run([PROGRAM, "env", "--state", stack.path("")], capture_output=True, text=True, cwd="/", env=clean_environment())
    assert done.returncode == 0 and f"export PGUSER='{OWNER}'" in done.stdout.splitlines(), done
    sql = "truncate tag restart identity cascade; alter table tag add column more text; alter table tag drop column more"
    asked = subprocess.run(["sh", "-c", f'eval "$1"; {PSQL} -Xqc "$2"', "sh", done.stdout, sql], capture_output=True, text=True, env=clean_environment())
    assert asked.returncode == 0, asked.stderr
