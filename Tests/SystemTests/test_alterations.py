"""The database's owner may give a column another type, add columns, triggers and policies: each write answers what a GET right after
it gives, byte for byte, and its entity tag; and a write that the database has suppressed is told as one."""

import contextlib
import itertools
import json
import re
import subprocess

import pytest

from local_stack import MODES, PROGRAM, clean_environment
from responder import ONE_CONNECTION, responder

# All of its own: altered. Types outlive the tables, which are made anew for each test.
DATABASE = "alterations"
TABLES = {"contact": "contact", "product": "product", "tag": "tag", "order": '"order"'}


@pytest.fixture(scope="module")
def servers(_shared):
    _shared.psql(f"create database {DATABASE} owner forkloop", user="postgres")
    _shared.psql(f"create schema more; create extension citext schema more; create domain more.words as varchar(200); grant usage on schema more to public; alter database {DATABASE} set search_path = public, more",
                 user="postgres", database=DATABASE)
    settings = {"DB_HOST": _shared.path("run"), "DB_PORT": 5432, "DB_NAME": DATABASE, "DB_USER": "forkloop"}
    migrate(settings)
    with contextlib.ExitStack() as exits:
        yield {mode: exits.enter_context(responder(mode, **settings, **ONE_CONNECTION)) for mode in MODES}, settings
    _shared.psql(f"drop database {DATABASE} with (force)", user="postgres")


def migrate(settings):
    subprocess.run([PROGRAM, "migrate"], env=clean_environment(**settings), check=True, capture_output=True)


@pytest.fixture
def altered(servers, _shared):
    """What runs SQL in a schema of its own with some rows in it, and the responders."""
    _shared.psql("drop schema public cascade; create schema public authorization forkloop", user="postgres", database=DATABASE)
    migrate(servers[1])

    def sql(text):
        return _shared.psql(text, database=DATABASE)

    sql("""insert into contact (name, email) values ('Ann', 'ann@example.org'), ('Bob', 'bob@example.org');
           insert into product (name) values ('Pen'), ('Ink'); insert into tag (name) values ('shopping'), ('food'), ('IT');
           insert into "order" (name, contact_id) values ('SO1', 1);
           insert into order_line (order_id, product_id, quantity, price) values (1, 1, 1, 1.5); insert into order_tag_rel values (1, 1)""")
    return sql, servers[0]


def ask(server, method, path, body=None, **fields):
    """(status, header, body)"""
    path, _, query = path.partition("?")
    status, whole = server.ask(path, method, b"" if body is None else json.dumps(body).encode(), query, **fields)
    head, _, body = whole.partition(b"\r\n\r\n")
    return status, head.decode(), body


def tag(answer):
    found = re.search(r"^ETag: (.*?)\r?$", answer[1], re.M)
    return found and found[1]


def as_read(server, path, answer, status):
    """`answer` is what a GET of `path` gives."""
    assert answer[0] == status, (path, answer, server.log.read_text()[-2000:])
    read = ask(server, "GET", path)
    assert (answer[2], tag(answer)) == (read[2], tag(read)) and read[0] == 200, f"{answer} is answered, {read} is there"
    return json.loads(read[2])


LINES = [{"product_id": 2, "quantity": 3, "price": 2.2567}, {"product_id": 1, "quantity": 2, "price": 0.125}]
# What a resource is made of, and what it is changed to.
BODIES = {
    "contact": [{"name": "Zoe N", "email": "Zoe@Example.org"}, {"name": "Eve"}, {"email": "Eve@X.org"}, {}],
    "product": [{"name": "Cup N"}, {"name": "Mug"}, {}], "tag": [{"name": "New N"}, {"name": "Old N"}, {}],
    "order": [{"name": "So N", "contact_id": 2, "order_lines": LINES, "tag_ids": [3, 1]}, {"name": "Changed"}, {"contact_id": 1}, {"order_lines": LINES[:1]},
              {"tag_ids": [2]}, {"tag_ids": []}, {}],
}
FORMS = {"plain": {}, "keyed": {"HTTP_IDEMPOTENCY_KEY": "k"}, "guarded": {"HTTP_IF_NONE_MATCH": '"other"'},
         "keyed and guarded": {"HTTP_IDEMPOTENCY_KEY": "g", "HTTP_IF_NONE_MATCH": '"other"'}}


def keyed(form, *of):
    """A form's fields, with a key of its own if it has one."""
    return {name: "-".join((value, *of)) if "KEY" in name else value for name, value in FORMS[form].items()}


def numbered(body, number):
    return json.loads(json.dumps(body).replace(" N", f" {number}"))


def walk(servers, resources):
    """Every route, in every form."""
    for mode, server in servers.items():
        for resource in resources:
            new, *changes = BODIES[resource]
            for form in FORMS:
                for replayed in (False, True) if "keyed" in form else (False,):
                    made = ask(server, "POST", f"/{resource}", numbered(new, f"{mode} {form}"), **keyed(form, mode, resource))
                    assert made[0] == 201 and ("Idempotency-Replayed" in made[1]) == replayed, (mode, resource, form, made, server.log.read_text()[-2000:])
                    path = "/" + re.search(r"Location: /\w+/(\S+)", made[1])[1]
                    as_read(server, path, made, 201)
                for change in changes:
                    for condition in (lambda: {}, lambda: {"HTTP_IF_MATCH": tag(ask(server, "GET", path))}, lambda: {"HTTP_IF_NONE_MATCH": '"other"'}):
                        if form == "plain":
                            as_read(server, path, ask(server, "PATCH", path, numbered(change, f"{mode} {form}"), **condition()), 200)
                            other = {"HTTP_IF_MATCH": '"0"'}
                            assert ask(server, "PATCH", path, change, **other)[0] == ask(server, "DELETE", path, **other)[0] == 412
                assert ask(server, "DELETE", path)[0] == 204 and ask(server, "GET", path)[0] == 404
                assert ask(server, "PATCH", path, changes[0])[0] == ask(server, "DELETE", path)[0] == 404
            listed = ask(server, "GET", f"/{resource}")
            assert listed[0] == 200, listed
            for one in json.loads(listed[2]):
                assert one == json.loads(ask(server, "GET", f"/{resource}/{one['id']}")[2])
        for query in ("contact_id=1", "product_id=1", "tag=shopping", "contact_id=1&product_id=1", "contact_id=1&product_id=1&tag=shopping"):
            status, _, body = ask(server, "GET", f"/order?{query}")
            assert (status, [one["id"] for one in json.loads(body)]) == (200, [1]), (query, body)
        assert ask(server, "POST", "/order", {**BODIES["order"][0], "contact_id": 77, "tag_ids": [78]})[0] == 422
        assert ask(server, "PATCH", "/order/1", {"order_lines": [{**LINES[0], "product_id": 77}], "tag_ids": [78]})[0] == 422


TEXTS = [("contact", "name"), ("contact", "email"), ("product", "name"), ("tag", "name"), ("order", "name")]


def texts(kind):
    return ";".join(f"alter table {TABLES[table]} alter {column} type {kind}" for table, column in TEXTS)


ALTERATIONS = {
    "prices of two decimals, varchar": "alter table order_line alter price type numeric(14,2);" + texts("varchar"),
    "prices of any size, char, wide quantities": "alter table order_line alter price type numeric, alter quantity type bigint;" + texts("char(60)"),
    "prices of more decimals, citext, numeric quantities": "alter table order_line alter price type numeric(20,8), alter quantity type numeric(12,2);" + texts("citext"),
    "floating prices, a domain": "alter table order_line alter price type double precision; " + texts("words"),
    "more columns, another collation": texts('text collate "C"') + ";" + ";".join(f"alter table {table} add more text not null default 'x', add at timestamptz default now()" for table in (*TABLES.values(), "order_line", "order_tag_rel"))
    + """; alter table contact add low text generated always as (lower(name)) stored; alter table idempotency_key add more int default 1;
         alter table order_line add worth numeric generated always as (quantity * price) stored""",
    "columns in another order, links by a key of their own": """
        alter table contact add n text; update contact set n = name; alter table contact drop name; alter table contact rename n to name;
        alter table order_line add q int; update order_line set q = quantity; alter table order_line drop quantity; alter table order_line rename q to quantity;
        alter table order_line drop constraint order_line_price_check, alter price drop not null;
        alter table order_tag_rel add id bigint generated always as identity, drop constraint order_tag_rel_pkey, add primary key (id), add unique (order_id, tag_id)""",
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_a_column_that_is_altered_is_answered_as_it_is(altered, alteration):
    sql, servers = altered
    sql(ALTERATIONS[alteration])
    walk(servers, BODIES)


names = itertools.count()


def trigger(table, when, body):
    name = f"own_{next(names)}"
    return f"""create function {name}() returns trigger language plpgsql as $$ begin {body} end $$;
               create trigger {name} {when} on {table} for each row execute function {name}()"""


ORDER_TABLE = TABLES["order"]
TRIGGERS = {
    "names in capitals, before": (BODIES, *(trigger(table, "before insert or update", "new.name := upper(new.name) || '!'; return new;") for table in TABLES.values())),
    "names, after": (BODIES, *(trigger(table, "after insert or update", f"""
        if pg_trigger_depth() = 1 then update {table} set name = 'after ' || new.id || length(new.name) where id = new.id; end if; return null;""") for table in TABLES.values())),
    "what is another row's, and an id": (
        ["contact", "product", "order"], trigger("contact", "before insert or update", "new.email := lower(new.email); return new;"),
        trigger("product", "before insert", "new.id := new.id + 1000000; return new;"), trigger(ORDER_TABLE, "before insert or update", "new.contact_id := 1; return new;"),
        trigger("order_line", "before insert", "new.price := round(new.price); new.quantity := 7; new.product_id := 1; return new;"),
        trigger(ORDER_TABLE, "after insert", "insert into order_tag_rel values (new.id, 2); return null;"),
        trigger("order_tag_rel", "after insert", "update tag set name = new.order_id || '-' || id where id = new.tag_id and id > 1; return null;")),
    "lines, after": (
        ["order"], trigger("order_line", "after insert", "update order_line set price = 9.99 where id = new.id; return null;"),
        trigger("order_line", "after insert", """
            update "order" set name = 'of ' || (select count(*) from order_line where order_id = new.order_id) where id = new.order_id; return null;""")),
    "lines and tags that are left out, and one more": (
        ["order"], trigger("order_line", "before insert", "if new.product_id = 2 then return null; end if; return new;"),
        trigger("order_line", "after insert", """
            if pg_trigger_depth() = 1 then insert into order_line (order_id, product_id, quantity, price) values (new.order_id, 1, 1, 0.5); end if; return null;"""),
        trigger("order_tag_rel", "before insert", "if new.tag_id = 3 then return null; end if; return new;")),
    "a row that is written in a subtransaction": (["contact"], trigger("contact", "after insert or update", """
        begin if pg_trigger_depth() = 1 then update contact set email = 'sub@x.org' where id = new.id; end if; exception when division_by_zero then null; end; return null;""")),
    "changes of nothing that are suppressed": (BODIES, *(
        f"create trigger own before update on {table} for each row execute function suppress_redundant_updates_trigger()" for table in TABLES.values())),
}


@pytest.mark.parametrize("which", TRIGGERS)
def test_what_a_trigger_has_changed_is_answered_as_it_is(altered, which):
    sql, servers = altered
    resources, *triggers = TRIGGERS[which]
    sql(";".join(triggers))
    walk(servers, resources)


def policies(table, **using):
    return f"alter table {table} enable row level security, force row level security; create policy own on {table} using (true);" + ";".join(
        f"create policy own_{command} on {table} as restrictive for {command} using ({condition})" for command, condition in using.items())


def suppresses(command):
    return lambda table: trigger(table, f"before {command}", "return null;")


SUPPRESSED = {
    "a trigger before an insert": ("POST", suppresses("insert")), "a trigger before an update": ("PATCH", suppresses("update")),
    "a trigger before a delete": ("DELETE", suppresses("delete")),
    "a policy for inserts": ("POST", lambda table: policies(table) + f"create policy own_insert on {table} as restrictive for insert with check (false)"),
    "a policy for updates": ("PATCH", lambda table: policies(table, update="false")), "a policy for deletes": ("DELETE", lambda table: policies(table, delete="false")),
    "a trigger after an insert that deletes": ("POST", lambda table: trigger(table, "after insert", f"delete from {table} where id = new.id; return null;")),
    "an exception": ("POST PATCH DELETE", lambda table: trigger(table, "before insert or update or delete", "raise exception 'no';")),
    "a statement's trigger": ("POST PATCH DELETE", lambda table: trigger(table, "before insert or update or delete", "raise exception 'no';").replace("for each row", "for each statement")),
}
KEPT = """select (select jsonb_agg(c order by id) from contact c), (select jsonb_agg(c order by id) from product c), (select jsonb_agg(c order by id) from tag c),
          (select jsonb_agg(c order by id) from "order" c), (select jsonb_agg(c order by id) from order_line c), (select jsonb_agg(c) from order_tag_rel c),
          (select jsonb_agg(key) from idempotency_key)"""


@pytest.mark.parametrize("which", SUPPRESSED)
def test_a_write_that_the_database_has_suppressed_is_refused_and_nothing_of_it_is_left(altered, which):
    sql, servers = altered
    methods, alter = SUPPRESSED[which]
    sql("insert into contact (name, email) values ('free', 'f@x'); insert into product (name) values ('free'); insert into tag (name) values ('free')")
    for resource, table in TABLES.items():
        sql(alter(table))
        before = sql(KEPT)
        for mode, server in servers.items():
            new, *changes = BODIES[resource]
            path = f"/{resource}/{({'order': 1, 'tag': 4}).get(resource, 3)}"
            read = ask(server, "GET", path)
            match = {"HTTP_IF_MATCH": tag(read)}
            requests = [("POST", f"/{resource}", numbered(new, mode), keyed(form, mode, resource)) for form in FORMS]
            requests += [("PATCH", path, change, fields) for change in changes if change.keys() & {"name", "email"} for fields in ({}, match, FORMS["guarded"])]
            requests += [("DELETE", path, None, fields) for fields in ({}, match, FORMS["guarded"])]
            for method, where, body, fields in requests:
                if method not in methods:
                    continue
                answer = ask(server, method, where, body, **fields)
                # The lines of an order that is gone refer to nothing.
                assert answer[0] == (422 if "that deletes" in which and resource == "order" else 500), (mode, method, where, body, fields, answer)
                assert "application/problem+json" in answer[1] and "trigger" not in answer[2].decode(), answer
            assert sql(KEPT) == before, (mode, resource, "something of it is left")
            if "trigger before" in which:
                assert f"the {resource} was not" in server.log.read_text(), server.log.read_text()[-2000:]
            for method, body in (("PATCH", changes[0]), ("DELETE", None)) if "statement" not in which else ():
                assert ask(server, method, f"/{resource}/999", body)[0] == 404, (mode, method)
                # What a condition keeps from being done is not suppressed.
                assert ask(server, method, path, body, HTTP_IF_MATCH='"0"')[0] == 412, (mode, method)
        sql(f"alter table {table} disable trigger user, no force row level security, disable row level security;"
            + "".join(f"drop policy if exists own{command} on {table};" for command in ("", "_insert", "_update", "_delete")))
        for mode, server in servers.items() if "POST" in methods else ():
            made = ask(server, "POST", f"/{resource}", numbered(BODIES[resource][0], mode), **keyed("keyed", mode, resource))
            assert made[0] == 201 and "Idempotency-Replayed" not in made[1], "a refusal was kept under its key"


@pytest.mark.parametrize("resource", TABLES)
def test_a_row_that_a_delete_only_hides_is_gone(altered, resource):
    sql, servers = altered
    table = TABLES[resource]
    sql(f"alter table {table} add hidden boolean not null default false;" + policies(table) + f"""
        drop policy own on {table}; create policy own on {table} using (not hidden) with check (true); create policy own_read on {table} for select using (not hidden or pg_trigger_depth() > 0);
        """ + trigger(table, "before delete", f"update {table} set hidden = true where id = old.id; return null;"))
    for mode, server in servers.items():
        made = ask(server, "POST", f"/{resource}", numbered(BODIES[resource][0], mode))
        path = "/" + re.search(r"Location: /\w+/(\S+)", made[1])[1]
        assert ask(server, "DELETE", path)[0] == 204, server.log.read_text()[-2000:]
        assert ask(server, "GET", path)[0] == ask(server, "DELETE", path)[0] == ask(server, "PATCH", path, {})[0] == 404
    assert sql(f"alter table {table} no force row level security; select count(*) from {table} where hidden") == [("2",)]


@pytest.mark.parametrize("resource", TABLES)
def test_a_row_that_nobody_may_see_is_not_there(altered, resource):
    sql, servers = altered
    sql(policies(TABLES[resource], all="id <> 1"))
    for server in servers.values():
        path = f"/{resource}/1"
        assert ask(server, "GET", path)[0] == ask(server, "PATCH", path, {})[0] == ask(server, "DELETE", path)[0] == 404


def test_a_text_that_a_column_has_no_space_for_is_out_of_range(altered):
    sql, servers = altered
    sql(";".join(f"alter table {TABLES[table]} alter {column} type varchar(60)" for table, column in TEXTS))
    for server in servers.values():
        for table, column in TEXTS:
            long = {**BODIES[table][0], column: "x" * 50 + "@" + "y" * 50}
            for method, path, body in (("POST", f"/{table}", long), ("PATCH", f"/{table}/1", {column: long[column]})):
                assert ask(server, method, path, body)[0] == 422, (method, path)


def test_a_name_that_is_null_changes_its_tag_with_what_else_is_shown(altered):
    sql, servers = altered
    sql("alter table contact alter name drop not null; update contact set name = null where id = 1")
    for mode, server in servers.items():
        old = ask(server, "GET", "/contact/1")
        new = ask(server, "PATCH", "/contact/1", {"email": f"{mode}@x"}, HTTP_IF_MATCH=tag(old))
        as_read(server, "/contact/1", new, 200)
        assert tag(new) != tag(old)
        assert ask(server, "DELETE", "/contact/1", HTTP_IF_MATCH=tag(old))[0] == 412


def test_what_a_policy_hides_is_hidden_in_lists_and_in_single_answers(altered):
    sql, servers = altered
    sql("insert into order_tag_rel values (1, 2);" + policies("tag", all="id <> 1") + ";" + policies("order_line", all="quantity > 100").replace("own", "own_line"))
    for server in servers.values():
        (listed,) = json.loads(ask(server, "GET", "/order")[2])
        assert listed == json.loads(ask(server, "GET", "/order/1")[2]) == {"id": 1, "name": "SO1", "contact_id": 1, "order_lines": [], "tags": [{"name": "food"}], "amount_total": 0}
    sql("drop policy own_all on tag; create policy own_none on tag as restrictive using (false)")
    for server in servers.values():
        (listed,) = json.loads(ask(server, "GET", "/order")[2])
        assert listed == json.loads(ask(server, "GET", "/order/1")[2]) and listed["tags"] == []
