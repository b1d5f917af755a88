"""What the database can have in it, and who has to hear of it: values that JSON can't say, ids that are there already, columns of
other types, many rows that a filter does not find, keys that are gone."""

import concurrent.futures
import contextlib
import json
import pathlib
import re
import subprocess

import pytest

from local_stack import MODES, PROGRAM, clean_environment, eventually
from responder import responder
from test_api import ORDER

# All of its own: altered, filled up, counted.
DATABASE = "content"


@pytest.fixture(scope="module")
def database(_shared):
    _shared.psql(f"create database {DATABASE} owner forkloop", user="postgres")
    settings = {"DB_HOST": _shared.path("run"), "DB_PORT": 5432, "DB_NAME": DATABASE, "DB_USER": "forkloop"}
    subprocess.run([PROGRAM, "migrate"], env=clean_environment(**settings), check=True, capture_output=True)
    # What a statement costs, without a clock: the pages that it looks at.
    _shared.psql(f"alter database {DATABASE} set session_preload_libraries = 'auto_explain';" + ";".join(
        f"alter database {DATABASE} set auto_explain.{name} = {value}"
        for name, value in (("log_min_duration", 0), ("log_analyze", "on"), ("log_buffers", "on"), ("log_timing", "off"))), user="postgres")
    with contextlib.ExitStack() as exits:
        servers = {mode: exits.enter_context(responder(mode, **settings)) for mode in MODES}
        yield lambda sql: _shared.psql(sql, database=DATABASE), servers, pathlib.Path(_shared.path("log/postgres.log"))
    _shared.psql(f"drop database {DATABASE} with (force)", user="postgres")


@pytest.fixture
def content(database):
    sql, servers, log = database
    sql("""truncate contact, product, tag, "order", order_line, order_tag_rel, idempotency_key restart identity;
           insert into contact (name, email) values ('Ann', 'ann@example.org'), ('Bob', 'bob@example.org');
           insert into product (name) values ('Pen'), ('Ink'); insert into tag (name) values ('shopping'), ('food'), ('IT');
           insert into "order" (name, contact_id) values ('SO1', 1);
           insert into order_line (order_id, product_id, quantity, price) values (1, 1, 1, 1); insert into order_tag_rel values (1, 1)""")
    return sql, servers, log


def ask(server, method, path, body=None, **fields):
    """(status, JSON)"""
    path, _, query = path.partition("?")
    status, whole = server.ask(path, method, json.dumps(body).encode() if body else b"", query, **fields)
    return status, json.loads(whole.split(b"\r\n\r\n", 1)[1] or b"null")


def is_ours(server, answer, told):
    """A 500 that tells the client nothing, and the log what there is to do."""
    assert answer == (500, {"type": "about:blank", "title": "Internal Server Error", "status": 500, "detail": "Something went wrong here."}), answer
    eventually(lambda: told in server.log.read_text(), 5, f"{told!r} is not in the log")


# Which sequence is behind, and who is in its way.
BEHIND = [
    ("contact", "POST", "/contact", {"name": "a", "email": "a@b"}), ("product", "POST", "/product", {"name": "a"}), ("tag", "POST", "/tag", {"name": "a"}),
    ("order", "POST", "/order", {"name": "a", "contact_id": 1, "order_lines": []}),
    ("order_line", "POST", "/order", {"name": "a", "contact_id": 1, "order_lines": [{"product_id": 1, "quantity": 1, "price": 1}]}),
    ("order_line", "PATCH", "/order/9", {"order_lines": [{"product_id": 1, "quantity": 1, "price": 1}]}),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("table, method, path, body", BEHIND, ids=[" ".join(row[:2]) for row in BEHIND])
def test_a_sequence_that_is_behind_is_no_name_that_is_taken(content, mode, table, method, path, body):
    sql, servers, _ = content
    sql("""insert into "order" (id, name, contact_id) values (9, 'imported', 1)""")
    name = '"order"' if table == "order" else table
    for fields in ({}, {"HTTP_IDEMPOTENCY_KEY": f"{table} {method}".replace(" ", "-")}) if method == "POST" else ({},):
        sql(f"select setval(pg_get_serial_sequence('{name}', 'id'), 1, false)")
        is_ours(servers[mode], ask(servers[mode], method, path, body, **fields), f"select setval(pg_get_serial_sequence('{name}', 'id'), (select max(id) from {name}))")
    sql(f"select setval(pg_get_serial_sequence('{name}', 'id'), (select max(id) from {name}))")
    assert ask(servers[mode], method, path, body)[0] in (200, 201), "what the log says does not help"


@pytest.mark.parametrize("mode", MODES)
def test_only_a_name_that_is_taken_is_told_so(content, mode):
    sql, servers, _ = content
    assert ask(servers[mode], "POST", "/tag", {"name": "IT"})[1]["detail"] == "The name is taken."
    assert ask(servers[mode], "PATCH", "/tag/1", {"name": "IT"})[1]["detail"] == "The name is taken."
    sql("create unique index their_own on contact (email)")
    try:
        for method, path in (("POST", "/contact"), ("PATCH", "/contact/1")):
            status, told = ask(servers[mode], method, path, {"name": "x", "email": "bob@example.org"})
            assert status == 409 and "name" not in told["detail"], told
    finally:
        sql("drop index their_own")


@pytest.mark.parametrize("mode", MODES)
def test_a_row_that_is_older_than_a_constraint_is_not_what_was_sent(content, mode):
    sql, servers, _ = content
    sql(r"""alter table contact drop constraint if exists contact_name_not_blank; update contact set name = ' ' where id = 1;
            alter table contact add constraint contact_name_not_blank check (btrim(name, E' \t\n\x0b\f\r') <> '') not valid""")
    is_ours(servers[mode], ask(servers[mode], "PATCH", "/contact/1", {"email": "x@y"}), "contact_name_not_blank")
    assert ask(servers[mode], "PATCH", "/contact/1", {"name": "x"})[0] == 200
    sql("alter table contact validate constraint contact_name_not_blank")


REFUSED = [
    *(f"insert into {table} (id, {columns}) values (-9223372036854775808, {values})" for table, columns, values in (
        ("contact", "name, email", "'a', 'a@b'"), ("product", "name", "'a'"), ("tag", "name", "'a'"), ('"order"', "name, contact_id", "'a', 1"),
        ("order_line", "order_id, product_id, quantity, price", "1, 1, 1, 1"))),
    "update contact set id = 0 where id = 2",
    *(f"update {table} set name = {name}" for table in ("contact", "product", "tag", '"order"') for name in ("''", r"E' \t\n\r'", "repeat('x', 256)")),
    *(f"update contact set email = '{email}'" for email in ("", "@", "a@", "@b", "a@b@c")),
    *(f"update order_line set price = {price}" for price in ("'NaN'", "'Infinity'", "'-Infinity'", "-0.0001", "10000000000")),
    *(f"update order_line set quantity = {quantity}" for quantity in (0, -1, 1000001)),
    "insert into idempotency_key values ('k', 'f', 'neither', '[]')",
]


@pytest.mark.parametrize("statement", REFUSED)
def test_the_schema_lets_nothing_in_that_the_api_does_not_know(content, statement):
    sql, _, _ = content
    with pytest.raises(AssertionError, match="violates check constraint|numeric field overflow|cannot hold an infinite value|field with precision"):
        sql(statement)


LOOSE = """alter table order_line drop constraint if exists order_line_price_finite, drop constraint order_line_price_check, alter price type numeric,
           alter price drop not null, alter product_id drop not null, alter quantity drop not null"""
STRICT = """delete from order_line; alter table order_line add constraint order_line_price_finite check (price < 'Infinity'),
            add constraint order_line_price_check check (price >= 0), alter price type numeric(14,4), alter price set not null,
            alter product_id set not null, alter quantity set not null"""
UNSPEAKABLE = [*(f"price = {price}" for price in ("'NaN'", "'Infinity'", "'-Infinity'", "-1", "1e30", "10000000000", "99999999999999999999.9", "0.00001", "null")),
               "quantity = null", "product_id = null"]


def test_what_json_can_not_say_is_a_fault_of_ours_and_no_number_is_made_up(content):
    """From before the schema kept it out, or where somebody has dropped a constraint."""
    sql, servers, _ = content
    sql(LOOSE)
    try:
        sql("""insert into "order" (name, contact_id) select 'fine', 1 from generate_series(2, 4);
               insert into order_line (order_id, product_id, quantity, price) select id, 1, 1, 1 from "order" where id <> 1""")
        for mode, server in servers.items():
            for value in UNSPEAKABLE:
                sql(f"update order_line set price = 1, quantity = 1, product_id = 1; update order_line set {value} where order_id = 3")
                for path in ("/order/3", "/order", "/order?contact_id=1", "/order?limit=1&after=2"):
                    is_ours(server, ask(server, "GET", path), "order 3 can't be written as JSON")
                is_ours(server, ask(server, "PATCH", "/order/3", {"name": "x"}), "order 3 can't be written as JSON")
                for path, ids in (("/order?limit=2", [1, 2]), ("/order?after=3", [4])):
                    status, orders = ask(server, "GET", path)
                    assert (status, [order["id"] for order in orders]) == (200, ids), (mode, value, orders)
            # More decimals than ours, but none that is lost; and the largest.
            sql("update order_line set price = 1.250000, quantity = 1, product_id = 1; update order_line set price = 9999999999.9999 where order_id = 4")
            assert [order["amount_total"] for order in ask(server, "GET", "/order?after=2")[1]] == [1.25, 10000000000], mode
    finally:
        sql(STRICT)


TYPES = [("contact", "name"), ("contact", "email"), ("product", "name"), ("tag", "name"), ('"order"', "name")]


@pytest.mark.parametrize("table, column", TYPES)
def test_a_text_column_may_be_a_varchar(content, table, column):
    sql, servers, _ = content
    resource = table.strip('"')
    sql(f"alter table {table} alter column {column} type varchar(255)")
    try:
        for number, (mode, server) in enumerate(servers.items()):
            new = {"contact": {"name": "a", "email": "a@b"}, "order": ORDER}.get(resource, {"name": f"new {mode}"})
            for key in ({}, {"HTTP_IDEMPOTENCY_KEY": f"{resource}-{column}-{mode}"}):
                if key and resource == "tag":
                    new = {"name": f"keyed {mode}"}
                status, made = ask(server, "POST", f"/{resource}", new, **key)
                assert status == 201, (mode, made)
            path = f"/{resource}/{made['id']}"
            assert ask(server, "GET", path) == (200, made)
            assert ask(server, "PATCH", path, {"name": f"b {mode}"}) == (200, {**made, "name": f"b {mode}"})
            assert ask(server, "POST", "/order", {**ORDER, "contact_id": 9999})[0] == 422
            assert ask(server, "PATCH", "/order/1", {"tag_ids": [1, 2, 3]})[0] == 200
            for query in ("", "?contact_id=1", "?contact_id=1&product_id=1&tag=shopping"):
                assert ask(server, "GET", f"/order{query}")[0] == 200
            assert ask(server, "DELETE", path)[0] == 204
    finally:
        sql(f"alter table {table} alter column {column} type text")


def pages(log, act):
    """How many pages of tables and indexes the statement of `act()` has looked at."""
    begin = log.stat().st_size
    act()

    def logged():
        with open(log) as text:
            text.seek(begin)
            return [sum(map(int, re.findall(r"=(\d+)", line))) for line in re.findall(r"Buffers: shared (.*)", text.read())]
    return max(eventually(logged, 5, "the server has logged no plan"))


def test_filters_that_find_nothing_do_not_walk_through_all_that_one_of_them_finds(content):
    sql, servers, log = content
    sql("""insert into product (name) values ('nobody''s'), ('seldom'); insert into tag (name) values ('nobody''s'), ('late');
           insert into "order" (name, contact_id) select 'o', 1 from generate_series(2, 8000);
           insert into order_line (order_id, product_id, quantity, price) select id, 1, 1, 1 from "order";
           insert into order_line (order_id, product_id, quantity, price) select id, 4, 1, 1 from "order" where id % 800 = 0;
           insert into order_tag_rel select id, 2 from "order"; insert into order_tag_rel select id, 5 from "order" where id > 7990""")
    sql("vacuum analyze")
    cases = [
        ("contact_id=1&tag=none", 0), ("contact_id=1&tag=nobody's", 0), ("contact_id=1&product_id=3", 0), ("contact_id=1&product_id=77", 0),
        ("contact_id=2&tag=food", 0), ("product_id=3&tag=food", 0), ("product_id=1&tag=none", 0), ("product_id=1&tag=nobody's", 0),
        ("contact_id=1&product_id=1&tag=nobody's", 0), ("contact_id=1&product_id=3&tag=food", 0), ("contact_id=2&product_id=1&tag=food", 0),
        ("contact_id=1&product_id=4&tag=food", 10), ("contact_id=1&product_id=1&tag=late", 10), ("product_id=4&tag=late", 1), ("contact_id=1&tag=food", 100),
        ("contact_id=1&tag=shopping", 1), ("contact_id=1&product_id=1&tag=food&after=6000", 100), ("tag=none", 0), ("product_id=3", 0), ("contact_id=2", 0),
    ]
    server = servers["async"]
    costs = {}
    for query, count in cases:
        for _ in range(2):  # The first of a connection reads the catalogue as well.
            answers = []
            costs[query] = pages(log, lambda: answers.append(ask(server, "GET", f"/order?{query}")))
        (status, orders), = answers
        assert (status, len(orders)) == (200, count), query
        assert ask(servers["sync"], "GET", f"/order?{query}") == (200, orders)
    assert max(costs.values()) < 4000, costs


def test_a_key_costs_the_same_however_many_are_gone_that_a_snapshot_keeps(content, _shared):
    sql, servers, log = content
    server = servers["async"]

    def cost(name):
        for number in range(2):
            pages_seen = pages(log, lambda: ask(server, "POST", "/product", {"name": name}, HTTP_IDEMPOTENCY_KEY=f"{name}-{number}"))
        return pages_seen

    few = cost("few")
    sql("insert into idempotency_key select 'old' || i, '', 'sync', '[]', now() - interval '2 days' from generate_series(1, 5000) i")
    snapshot = _shared.psql_open("\\c content\nbegin isolation level repeatable read; select count(*) from idempotency_key")
    sql("delete from idempotency_key where key like 'old%'")
    try:
        many = cost("many")
    finally:
        snapshot.kill()
    assert many < few + 300, (few, many)


def test_keys_that_have_expired_go_as_new_ones_come(content):
    sql, servers, _ = content
    sql("insert into idempotency_key select 'old' || i, '', 'sync', '[]', now() - interval '2 days' from generate_series(1, 2000) i")
    for number in range(300):
        assert ask(servers[MODES[number % 2]], "POST", "/product", {"name": "p"}, HTTP_IDEMPOTENCY_KEY=f"new-{number}")[0] == 201
    ((left,),) = sql("select count(*) from idempotency_key where key like 'old%'")
    assert int(left) < 400, f"{left} of 2,000 are left"
    assert sql("select count(*) from idempotency_key where key like 'new%'") == [("300",)]


@pytest.mark.parametrize("mode", MODES)
def test_a_patch_of_an_order_and_a_delete_of_its_product_do_not_wait_for_each_other(stocked, mode):
    """The order's line has product 1; it is to have 2, which somebody holds, and 1. Meanwhile 1 is to be deleted."""
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
    stocked.request("POST", f"/{mode}/order", ORDER)
    lines = [{"product_id": product, "quantity": 1, "price": 1} for product in (2, 1)]
    holder = stocked.psql_open("begin; select from product where id = 2 for update")
    with concurrent.futures.ThreadPoolExecutor(2) as two:
        patch = two.submit(stocked.request, "PATCH", f"/{mode}/order/1", {"order_lines": lines})
        eventually(lambda: stocked.psql(waiting) == [("1",)], 5, "the PATCH is not held up")
        delete = two.submit(stocked.request, "DELETE", f"/{mode}/product/1")
        eventually(lambda: delete.done() or stocked.psql(waiting) == [("2",)], 5, "the DELETE neither waits nor ends")
        holder.kill()
        assert (patch.result().status, delete.result().status) == (200, 409), (patch.result(), delete.result())
    assert stocked.both("GET", "/order/1").json["order_lines"] == lines


LOOSE_LINES = [  # how the line of order 1 is made what JSON can't say, and what it is mended by
    ("price = 'NaN'", "alter price type numeric"), ("price = 0.00001", "alter price type numeric"), ("quantity = 1.5", "alter quantity type numeric"),
    ("quantity = 3000000000", "alter quantity type bigint"), ("price = null", "alter price drop not null"), ("product_id = null", "alter product_id drop not null"),
]
AS_BEFORE = STRICT.replace(";", "; alter table order_line drop constraint if exists order_line_quantity_check; alter table order_line alter quantity type integer, add constraint order_line_quantity_check check (quantity between 1 and 1000000);", 1)
LOOSEN = "alter table order_line drop constraint if exists order_line_price_finite, drop constraint if exists order_line_price_check, drop constraint if exists order_line_quantity_check"
GUARDS = ({}, {"HTTP_IF_NONE_MATCH": '"x"'}, {"HTTP_IF_MATCH": "*"})
MEND = {"order_lines": [{"product_id": 1, "quantity": 2, "price": 2}]}


@pytest.mark.parametrize("flaw, alter", LOOSE_LINES, ids=[row[0] for row in LOOSE_LINES])
def test_an_order_that_json_can_not_say_is_written_only_where_that_mends_it(content, flaw, alter):
    sql, servers, _ = content
    sql(f"{LOOSEN}, {alter}")
    order = {"name": "SO1", "contact_id": 1, "order_lines": [{"product_id": 1, "quantity": 2, "price": 2}], "tags": [{"name": "shopping"}], "amount_total": 4}
    try:
        for mode, server in servers.items():
            for guard in GUARDS:
                sql(f"update order_line set {flaw} where order_id = 1")
                for path in ("/order/1", "/order", "/order?contact_id=1", "/order?product_id=1&tag=shopping"):
                    if "product_id = null" not in flaw or "product" not in path:
                        is_ours(server, ask(server, "GET", path), "order 1 can't be written as JSON")
                is_ours(server, ask(server, "PATCH", "/order/1", {"name": "after"}, **guard), "order 1 can't be written as JSON")
                assert sql('select name from "order" where id = 1') == [("SO1",)], (mode, guard, "what was told as failed is done")
                assert ask(server, "PATCH", "/order/1", {"name": "after"}, HTTP_IF_MATCH='"0"')[0] == 412
                assert ask(server, "PATCH", "/order/1", MEND, **guard) == (200, {"id": 1, **order}), (mode, guard)
                sql(f"""insert into "order" (id, name, contact_id) values (77, 'x', 1); insert into order_line (order_id, product_id, quantity, price) values (77, 1, 1, 1);
                        update order_line set {flaw} where order_id = 77""")
                # Nobody has seen a list with it.
                assert ask(server, "POST", "/product", {"name": "x"}, **guard)[0] == 201
                assert ask(server, "POST", "/order", ORDER, HTTP_IF_NONE_MATCH='"x"')[0] == 201 and ask(server, "POST", "/order", ORDER, HTTP_IF_MATCH='"0"')[0] == 412
                assert ask(server, "DELETE", "/order/77", **guard) == (204, None), (mode, guard)
        sql("create function spoil() returns trigger language plpgsql as $$ begin new." + flaw.replace(" = ", " := ") + "; return new; end $$; create trigger spoil before insert on order_line for each row execute function spoil()")
        count = sql('select count(*) from "order"')
        for server in servers.values():
            for fields in ({}, {"HTTP_IDEMPOTENCY_KEY": "spoilt"}):
                status, told = ask(server, "POST", "/order", ORDER, **fields)
                assert status == 500 and "written" not in told["detail"], told
            assert ask(server, "PATCH", "/order/1", MEND)[0] == 500
        assert sql('select count(*) from "order"') == count, "an order that can't be told is left"
    finally:
        sql("drop function if exists spoil cascade;" + AS_BEFORE)


def test_what_has_no_name_is_shown_without_one(content):
    sql, servers, _ = content
    columns = [("contact", "name"), ("contact", "email"), ("product", "name"), ("tag", "name"), ('"order"', "name")]

    def changed(server, path):
        status, whole = server.ask(path, "PATCH", b"{}")
        return status, json.loads(whole.partition(b"\r\n\r\n")[2])

    sql(";".join(f"alter table {table} alter {column} drop not null; update {table} set {column} = null where id = 1" for table, column in columns))
    try:
        for mode, server in servers.items():
            for path, shown in (("/contact/1", {"id": 1, "name": None, "email": None}), ("/product/1", {"id": 1, "name": None}), ("/tag/1", {"id": 1, "name": None})):
                assert ask(server, "GET", path) == changed(server, path) == (200, shown)
                assert ask(server, "GET", path.rpartition("/")[0])[1][0] == shown
            status, order = ask(server, "GET", "/order/1")
            assert (order["name"], order["tags"]) == (None, [{"name": None}]) and ask(server, "GET", "/order") == (200, [order]) and changed(server, "/order/1") == (200, order)
            tags = []
            for name in ("null", "''", "'.'"):
                sql(f"alter table tag drop constraint if exists tag_name_check, drop constraint if exists tag_name_not_blank; update tag set name = {name} where id = 1")
                tags.append(re.search(rb"ETag: (\S+)", server.ask("/order/1")[1])[1])
            assert len(set(tags)) == 3, "no name, an empty one and another have one tag"
            sql("update tag set name = null where id = 1")
    finally:
        sql(";".join(f"update {table} set {column} = 'a@b' where {column} is null; alter table {table} alter {column} set not null" for table, column in columns)
            + r"; alter table tag drop constraint if exists tag_name_check, drop constraint if exists tag_name_not_blank, add constraint tag_name_check check (char_length(name) between 1 and 255), add constraint tag_name_not_blank check (btrim(name, E' \t\n\x0b\f\r') <> '')")


def test_a_reply_that_an_older_program_has_kept_has_no_tag_that_it_did_not_have(content):
    sql, servers, _ = content
    requests = {"product": {"name": "x"}, "order": ORDER}
    for mode, server in servers.items():
        for resource, body in requests.items():
            fields = {"HTTP_IDEMPOTENCY_KEY": f"old-{resource}-{mode}"}
            made = server.ask(f"/{resource}", "POST", json.dumps(body).encode(), **fields)[1]
            again = server.ask(f"/{resource}", "POST", json.dumps(body).encode(), **fields)[1]
            assert b"ETag" in made and re.search(rb"ETag: .*", made)[0] == re.search(rb"ETag: .*", again)[0]
            sql(f"""update idempotency_key set reply = (select jsonb_agg(row - 'version' || '{{"tag": 730}}') from jsonb_array_elements(reply) row) where key = 'old-{resource}-{mode}'""")
            old = server.ask(f"/{resource}", "POST", json.dumps(body).encode(), **fields)[1]
            assert old.startswith(b"Status: 201") or b"Status: 201" in old and b"Idempotency-Replayed: true" in old, old
            assert b"ETag" not in old and old.partition(b"\r\n\r\n")[2] == made.partition(b"\r\n\r\n")[2], old
