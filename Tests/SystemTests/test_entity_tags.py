"""An entity tag differs wherever what is shown does: whoever writes beside the API and in whatever order, and whatever becomes of
the database."""

import concurrent.futures
import contextlib
import os
import pathlib
import shutil
import subprocess

import pytest

from local_stack import MODES, PROGRAM, PSQL, clean_environment, eventually, free_port, temporary_folder
from responder import responder
from test_api import ORDER


def say(session, sql):
    """Runs SQL in an open session."""
    session.stdin.write(f"{sql};\nselect 'done';\n")
    session.stdin.flush()
    while (line := session.stdout.readline()) != "done\n":
        assert line, f"the session ended at {sql}"


def is_told_apart(stack, path, old):
    """What `old` was an answer to has changed, and whoever has `old` hears of it."""
    new = stack.both("GET", path, headers={"If-None-Match": old.header("ETag")})
    assert (new.status, new.body == old.body) == (200, False), new
    assert new.header("ETag") != old.header("ETag")
    for mode in MODES:
        for method, body in (("PATCH", {"name": "lost"}), ("DELETE", None)):
            answer = stack.request(method, f"/{mode}{path}", body, {"If-Match": old.header("ETag")})
            assert answer.status == 412, f"a stale If-Match passes: {answer}"
    return new


def the_same_sum(stack, sql, act):
    """`act(number)` until what `sql` adds up, the transactions of an order's tags, is the same before and after: it gives the answer
    before. Somebody else may take a number in between, so not each time."""
    for number in range(10):
        old, sums = act(number, lambda: stack.psql(sql))
        if sums[0] == sums[1]:
            return old
    raise AssertionError("the transactions' numbers do not come as they should")


def test_tags_that_are_renamed_by_transactions_that_have_begun_earlier(stocked):
    """A transaction has its number before it waits for its turn: 2 and 3 add up to as much as 1 and 4."""
    stocked.request("POST", "/sync/order", ORDER)

    def act(number, adds_up):
        sessions = [stocked.psql_open("begin; select pg_current_xact_id()") for _ in range(4)]
        try:
            def rename(session, tag):
                say(sessions[session], f"update tag set name = 'tag {tag} {number} {session}' where id = {tag}; commit")

            rename(1, 1), rename(2, 2)
            old, before = stocked.both("GET", "/order/1"), adds_up()
            rename(0, 1), rename(3, 2)
            return old, (before, adds_up())
        finally:
            for session in sessions:
                session.kill()

    is_told_apart(stocked, "/order/1", the_same_sum(stocked, "select sum(xmin::text::bigint) from tag where id < 3", act))


def test_a_link_that_is_turned_to_another_tag(stocked):
    """A tag of transaction 2 linked by 3, and one of 1 by 4."""
    def act(number, adds_up):
        for name in ("one", "two"):
            stocked.psql(f"insert into tag (name) values ('{name} {number}')")
        (one,), (two,) = stocked.psql(f"select id from tag where name like '% {number}' order by id")
        order = stocked.request("POST", "/sync/order", {**ORDER, "tag_ids": [int(two)]}).json["id"]
        old, before = stocked.both("GET", f"/order/{order}"), adds_up()
        stocked.psql(f"update order_tag_rel set tag_id = {one} where order_id = {order}")
        return old, (before, adds_up())

    sums = """select r.xmin::text::bigint + t.xmin::text::bigint from order_tag_rel r join tag t on t.id = r.tag_id
              order by r.order_id desc limit 1"""
    old = the_same_sum(stocked, sums, act)
    is_told_apart(stocked, f"/order/{old.json['id']}", old)


CHANGES = [
    # what is looked at, what is done to it
    ("/contact/1", "update contact set name = 'x' where id = 1"), ("/contact/1", "update contact set email = 'x@y' where id = 1"),
    ("/contact/1", "update contact set name = 'A', email = 'nnann@example.org' where id = 1"),
    ("/product/1", "update product set name = 'pen' where id = 1"), ("/tag/1", "update tag set name = 'x' where id = 1"),
    ("/order/1", "update \"order\" set name = 'x' where id = 1"), ("/order/1", 'update "order" set contact_id = 1 where id = 1'),
    ("/order/1", """insert into contact (id, name, email) values (4294967298, 'x', 'x@y'); update "order" set contact_id = 4294967298"""),
    ("/order/1", "insert into product (id, name) values (4294967297, 'x'); update order_line set product_id = 4294967297 where id = 1"),
    ("/order/1", "update order_line set price = price + 0.0001 where id = 1"), ("/order/1", "update order_line set quantity = 7 where id = 1"),
    ("/order/1", "update order_line l set product_id = m.product_id, quantity = m.quantity, price = m.price from order_line m where l.id + m.id = 3"),
    ("/order/1", "update order_line set id = 100 where id = 1"), ("/order/1", "delete from order_line where id = 2"),
    ("/order/1", "insert into order_line (order_id, product_id, quantity, price) select order_id, product_id, quantity, price from order_line where id = 1"),
    ("/order/1", "insert into order_tag_rel values (1, 3)"), ("/order/1", "delete from order_tag_rel where tag_id = 1"),
    ("/order/1", "begin; update tag set name = 'x' where id = 1; update tag set name = 'shopping' where id = 2; update tag set name = 'food' where id = 1; commit"),
    ("/order?limit=1", "insert into \"order\" (name, contact_id) values ('x', 1)"), ("/contact?limit=2", "insert into contact (name, email) values ('x', 'x@y')"),
    ("/order", "update order_line set quantity = 7 where id = 1"), ("/order?tag=food", "update tag set name = 'x' where id = 1"),
]


def shown(answer):
    return answer.body, answer.header("Link")


@pytest.mark.parametrize("path, sql", CHANGES, ids=range(len(CHANGES)))
def test_whatever_is_changed_by_sql_changes_the_tag_of_what_shows_it(stocked, path, sql):
    stocked.request("POST", "/sync/order", ORDER)
    old = stocked.both("GET", path)
    stocked.psql(sql)
    new = stocked.both("GET", path, headers={"If-None-Match": old.header("ETag")})
    assert shown(new) != shown(old), "this has shown nothing"
    assert (new.status, new.header("ETag") != old.header("ETag")) == (200, True), new


def test_a_tag_stays_where_nothing_has_changed(stocked):
    """Made by a POST, with a key or without, read, and read after the rows were frozen."""
    made = stocked.request("POST", "/sync/order", ORDER)
    keyed = stocked.request("POST", "/async/order", ORDER, {"Idempotency-Key": "k"})
    assert keyed.header("ETag") == stocked.both("GET", "/order/2").header("ETag")
    assert keyed.header("ETag") == stocked.request("POST", "/sync/order", ORDER, {"Idempotency-Key": "k"}).header("ETag")
    patched = stocked.request("PATCH", "/async/order/2", {"tag_ids": [3]})
    assert patched.header("ETag") == stocked.both("GET", "/order/2").header("ETag") != keyed.header("ETag")
    tags = {path: stocked.both("GET", path).header("ETag") for path in ("/order/1", "/contact/1", "/product/1", "/tag/1", "/order", "/contact")}
    assert tags["/order/1"] == made.header("ETag")
    stocked.psql('vacuum freeze "order", order_line, order_tag_rel, contact, product, tag')
    for path, tag in tags.items():
        assert stocked.both("GET", path, headers={"If-None-Match": tag}).status == 304, path
    for resource in ("order", "contact", "product", "tag"):
        assert stocked.request("PATCH", f"/sync/{resource}/1", {"name": "x"}, {"If-Match": tags[f"/{resource}/1"]}).status == 200


BESIDE = [
    "update order_line set quantity = 9 where id = {line}", "delete from order_line where id = {line}",
    "insert into order_line (order_id, product_id, quantity, price) values ({order}, 1, 9, 9)",
    "update order_tag_rel set tag_id = 3 where order_id = {order} and tag_id = 1", "insert into order_tag_rel values ({order}, 3)",
    'update "order" set contact_id = 1 where id = {order}',
]


@pytest.mark.parametrize("mode, method, body", [("sync", "PATCH", {"order_lines": [], "tag_ids": []}), ("async", "DELETE", None)], ids=["PATCH", "DELETE"])
@pytest.mark.parametrize("sql", BESIDE)
def test_who_writes_under_a_condition_waits_for_those_that_are_changing_what_it_is_about(stocked, mode, method, body, sql):
    made = stocked.request("POST", f"/{mode}/order", ORDER)
    path, order = made.header("Location"), made.json["id"]
    ((line,),) = stocked.psql(f"select min(id) from order_line where order_id = {order}")
    session = stocked.psql_open("begin; " + sql.format(order=order, line=line))
    with concurrent.futures.ThreadPoolExecutor(1) as one:
        asked = one.submit(stocked.request, method, path, body, {"If-Match": made.header("ETag")})
        try:
            eventually(lambda: asked.done() or stocked.psql("select 1 from pg_stat_activity where wait_event_type = 'Lock'"), 5, "it neither waits nor ends")
            say(session, "commit")
        finally:
            session.kill()
        answer = asked.result()
    assert answer.status == 412, f"what was changed meanwhile is lost: {answer}"
    assert stocked.request("GET", path).header("ETag") != made.header("ETag")


class Cluster:
    """A PostgreSQL server of the test's own, in `folder`, of which everybody is the superuser."""

    def __init__(self, folder, **settings):
        self.folder, self.port = folder, free_port()
        if not os.path.exists(f"{folder}/data"):
            shutil.chown(folder, "postgres")
            self.run("initdb", "-D", f"{folder}/data", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        flags = " ".join(f"-c {name}={value}" for name, value in {"listen_addresses": "", "fsync": "off", "unix_socket_directories": folder, "port": self.port, **settings}.items())
        self.run("pg_ctl", "-D", f"{folder}/data", "-w", "-l", f"{folder}/log", "-o", flags, "start")
        self.settings = {"DB_HOST": folder, "DB_PORT": self.port, "DB_NAME": "postgres", "DB_USER": "postgres"}

    def run(self, program, *arguments):
        command = [str(pathlib.Path(PSQL).with_name(program)), *arguments]
        if os.getuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        # pg_ctl's server would keep a pipe open.
        with open(f"{self.folder}/{program}.out", "w+") as out:
            done = subprocess.run(command, stdout=out, stderr=out, env=clean_environment(), cwd=self.folder)
            assert done.returncode == 0, f"{program}: {pathlib.Path(out.name).read_text()}"

    def psql(self, sql):
        done = subprocess.run([PSQL, "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-p", str(self.port), "-U", "postgres", "-c", sql], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def transaction(self):
        """The number that the next one gets."""
        return int(self.psql("select txid_current()")) + 1

    def reach(self, transaction):
        """Lets transactions pass until the next one has this number."""
        self.psql(f"do $$ begin while txid_current() < {transaction - 1} loop commit; end loop; end $$")
        assert self.transaction() == transaction + 1

    def migrate(self):
        subprocess.run([PROGRAM, "migrate"], env=clean_environment(**self.settings), check=True, capture_output=True)

    def stop(self):
        self.run("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "-w", "stop")


@contextlib.contextmanager
def cluster(folder=None, **settings):
    with contextlib.ExitStack() as exits:
        one = Cluster(folder or exits.enter_context(temporary_folder()), **settings)
        exits.callback(one.stop)
        yield one


def header(answer, name):
    return next((line.partition(b": ")[2] for line in answer.split(b"\r\n\r\n")[0].split(b"\r\n") if line.lower().startswith(name + b":")), b"").decode()


FILL = """
    insert into contact (name, email) values ('Ann', 'ann@example.org'), ('Bob', 'bob@example.org'); insert into product (name) values ('Pen');
    insert into tag (name) values ('food'); insert into "order" (name, contact_id) values ('o', 1);
    insert into order_line (order_id, product_id, quantity, price) values (1, 1, 1, 1); insert into order_tag_rel values (1, 1)"""
# In one transaction: all rows that are changed have its number.
CHANGE = """begin; update contact set name = '{0}'; update product set name = '{0}'; update tag set name = '{0}'; update "order" set name = '{0}'; commit"""


def are_told_apart(there, here, transaction):
    """`there` and `here`, which had the same contents, are changed to different ones by transactions of the same number, and
    nobody who has a tag of `there` is taken for somebody who has seen what is `here`."""
    paths = [f"/{resource}/1" for resource in ("contact", "product", "tag", "order")]
    for mode in MODES:
        transaction += 10
        for one in (there, here):
            one.reach(transaction - 1)
            one.psql(CHANGE.format(f"{one.port} {mode}"))
        with responder(mode, **there.settings) as old, responder(mode, **here.settings) as new:
            tags = {path: header(old.ask(path)[1], b"etag") for path in paths}
            for path, tag in tags.items():
                assert tag and new.ask(path, HTTP_IF_NONE_MATCH=tag)[0] == 200, f"{path}: what is not the same has one tag"
                assert new.ask(path, "PATCH", b'{"name": "lost"}', HTTP_IF_MATCH=tag)[0] == 412, f"{path}: a stale If-Match passes"


@pytest.mark.long
def test_after_dump_and_restore_no_tag_comes_again():
    with cluster() as there, cluster() as here:
        there.migrate()
        there.psql(FILL)
        there.run("pg_dump", "-h", there.folder, "-p", str(there.port), "-U", "postgres", "-f", f"{there.folder}/dump", "postgres")
        os.chmod(there.folder, 0o755)
        here.run("psql", "-Xq", "-h", here.folder, "-p", str(here.port), "-U", "postgres", "-f", f"{there.folder}/dump", "postgres")
        are_told_apart(there, here, max(there.transaction(), here.transaction()) + 10)


@pytest.mark.long
def test_after_the_promotion_of_a_standby_no_tag_comes_again():
    """The old primary goes on for a moment, and its last transactions are lost with it."""
    with cluster() as there, temporary_folder() as folder:
        there.migrate()
        there.psql(FILL)
        shutil.chown(folder, "postgres")
        there.run("pg_basebackup", "-h", there.folder, "-p", str(there.port), "-U", "postgres", "-D", f"{folder}/data", "-R", "-c", "fast", "--no-sync")
        with cluster(folder) as here:
            there.psql("update contact set name = 'on both' where id = 2")
            eventually(lambda: here.psql("select pg_is_in_recovery(), (select name from contact where id = 2)") == "t|on both", message="the standby does not follow")
            here.psql("select pg_promote()")
            are_told_apart(there, here, max(there.transaction(), here.transaction()) + 10)


# What an order of three lines and three tags may look like, and what is done to it: what is alike in several values must not make up for
# itself, whatever the values are.
LINES = [
    "(1, 1, 1), (2, 3, 2), (1, 7, 0.5), (2, 1, 12)", "(1, 1, 1), (2, 1, 10000), (1, 1, 1), (2, 1, 10000)", "(1, 2, 0), (2, 5, 0), (2, 2, 0), (1, 5, 0)",
    "(1, 1, 0.0001), (2, 2, 0.0002), (2, 1, 0.0003), (1, 4, 0.0001)", "(1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1)", "(2, 100, 100), (1, 10000, 1), (3, 1, 3), (1, 2, 3)",
    "(4294967298, 1, 1), (3, 1, 1), (4294967297, 5, 7), (1, 5, 7)",
]
STEPS = [
    *(f"update order_line set price = price * {factor}" for factor in ("10000", "0.0001", "2", "10", "0")), "update order_line set price = 0",
    *(f"update order_line set quantity = {to}" for to in ("quantity * 2", "1", "price::int % 1000 + 1")), "update order_line set price = quantity, quantity = price::int % 1000 + 1",
    "update order_line set product_id = 1", "update order_line set product_id = 3 - product_id where product_id < 3", "update order_line set product_id = 4294967301 - product_id",
    *(f"update order_line l set {', '.join(f'{column} = m.{column}' for column in columns.split())} from order_line m where l.id + m.id = 5"
      for columns in ("price", "quantity", "product_id", "price quantity", "product_id price", "product_id quantity price")),
    *(f"update order_line set {change} where id in (1, 2)" for change in ("price = price * 10000", "price = 0", "price = price + 1", "quantity = quantity + 1", "product_id = 3")),
    "update order_line set quantity = product_id % 4, product_id = quantity % 3 + 1 where product_id % 4 > 0", "update order_line set id = id + 4294967296", "update order_line set id = 5 - id + 10",
    "delete from order_line where id in (1, 2)", "delete from order_line", "insert into order_line (order_id, id, product_id, quantity, price) select order_id, id + 10, product_id, quantity, price from order_line",
    "update tag set name = case id when 1 then 'food' else 'shopping' end || 'x' where id < 3", "update order_tag_rel set tag_id = tag_id + 3", "delete from order_tag_rel where tag_id < 3",
    "delete from order_tag_rel", "insert into order_tag_rel values (1, 1)", "update tag set name = '1' where id = 2; update tag set name = '2' where id = 1", "insert into tag (id, name) values (4294967298, 'food '); update order_tag_rel set tag_id = 4294967298 where tag_id = 2",
]
SHOWN = """select order_entity_tag(1), (select jsonb_build_array(name, contact_id) from "order" where id = 1),
             (select jsonb_agg(jsonb_build_array(product_id, quantity, trim_scale(price)) order by id) from order_line where order_id = 1),
             (select jsonb_agg(name order by t.id) from order_tag_rel r join tag t on t.id = tag_id where order_id = 1)"""


def test_no_structure_of_the_values_makes_up_for_a_change(stocked):
    """Each step undone after it was looked at, so that only what is in the lines and tags makes the difference, and also two at once."""
    stocked.psql("""insert into product (id, name) values (3, 'c'), (4, 'd'), (4294967297, 'e'), (4294967298, 'f'), (4294967299, 'g'), (4294967300, 'h');
                    insert into tag (name) select 'tag ' || i from generate_series(4, 6) i; insert into "order" (name, contact_id) values ('o', 1);
                    insert into order_tag_rel values (1, 1), (1, 2), (1, 3)""")
    tags, twice = {}, []
    for lines in LINES:
        values = ", ".join(f"(1, {n}, {line})" for n, line in enumerate(lines.strip("()").split("), ("), 1))
        script = f"""begin; alter table order_line alter price type numeric(20, 8), drop constraint order_line_quantity_check; alter table order_tag_rel drop constraint order_tag_rel_pkey;
                     insert into order_line (order_id, id, product_id, quantity, price) values {values}; {SHOWN}; savepoint own;"""
        for step in STEPS:
            script += f"{step}; {SHOWN}; update order_line set price = price * 10000 where price < 1000; {SHOWN}; rollback to own;"
        for tag, *shown in stocked.psql(script + "rollback"):
            if tags.setdefault(tag, shown) != shown:
                twice.append((tag, tags[tag], shown))
    assert len(tags) > 200 and not twice, (len(tags), len(twice), twice[:3])


@pytest.mark.parametrize("lines, sql", [
    ("(1, 1, 1, 1), (1, 2, 3, 2)", "update order_line set price = price * 10000"), ("(1, 1, 1, 1), (1, 1, 1, 10000)", "update order_line l set price = m.price from order_line m where l.id + m.id = 3"),
    ("(1, 1, 2, 0), (1, 2, 2, 0)", "update order_line l set product_id = m.product_id from order_line m where l.id + m.id = 3"),
    ("(1, 4294967298, 1, 1)", "update order_line set product_id = 3"),
], ids=["prices times 10000", "prices swapped", "products of free lines swapped", "a product of more than 32 bits"])
def test_whoever_has_the_tag_of_other_lines_hears_of_it(stocked, lines, sql):
    stocked.psql(f"""insert into product (id, name) values (3, 'c'), (4294967298, 'd'); insert into "order" (name, contact_id) values ('o', 1);
                     insert into order_line (order_id, product_id, quantity, price) values {lines}""")
    old = stocked.both("GET", "/order/1")
    stocked.psql(sql)
    is_told_apart(stocked, "/order/1", old)
