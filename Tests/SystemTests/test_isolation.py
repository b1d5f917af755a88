"""Whatever isolation level somebody has set for sessions: a write sees what was committed while it waited, or says that it can't."""

import concurrent.futures
import json
import subprocess

import pytest

from local_stack import MODES, PROGRAM, clean_environment, eventually
from pooler import pooler
from responder import ONE_CONNECTION, responder
from test_api import ORDER

# What is altered, and what `options` say.
PLACES = {"the database": "database forkloop", "the role": "role forkloop", "the role in the database": "role forkloop in database forkloop", "options": None}
SETTINGS = [*((place, "repeatable read") for place in PLACES), ("the database", "serializable"), ("options", "serializable")]
LINES = {"order_lines": [{"product_id": 2, "quantity": 1, "price": 1}]}


@pytest.fixture
def isolated(stocked):
    """Sets a level somewhere."""
    places = []

    def set_level(place, level):
        stocked.psql(f"alter {place} set default_transaction_isolation = '{level}'", "postgres")
        places.append(place)
    kept = stocked.psql("select unnest(setconfig) from pg_db_role_setting where setdatabase = (select oid from pg_database where datname = 'forkloop') and setrole = 'forkloop'::regrole")
    yield set_level
    for place in places:
        stocked.psql(f"alter {place} reset default_transaction_isolation", "postgres")
    if ("default_transaction_isolation=read committed",) in kept:
        stocked.psql("alter role forkloop in database forkloop set default_transaction_isolation = 'read committed'", "postgres")


def write_behind(stack, one, method, body, conditional=True):
    """The answer to a write that has waited for somebody who has added a line, and what is there then."""
    made = one.ask("/order", "POST", json.dumps(ORDER).encode())[1].decode()
    path = "/order/" + made.partition(f"/{one.mode}/order/")[2].split()[0]
    fields = {"HTTP_IF_MATCH": made.partition("ETag: ")[2].split()[0]} if conditional else {}
    session = stack.psql_open(f"begin; insert into order_line (order_id, product_id, quantity, price) values ({path.rpartition('/')[2]}, 1, 1, 77)")
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        asked = thread.submit(one.ask, path, method, body, **fields)
        try:
            eventually(lambda: asked.done() or stack.psql("select 1 from pg_stat_activity where wait_event_type = 'Lock'"), 5, "it neither waits nor ends")
            session.stdin.write("commit;\nselect 'over';\n")
            session.stdin.flush()
            session.stdout.readline()
        finally:
            session.stdin.close()
            session.wait(10)
        return path, asked.result(), one.ask(path)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place, level", SETTINGS)
def test_a_write_sees_what_was_committed_while_it_waited(stocked, isolated, mode, level, place):
    settings = {"DB_HOST": stocked.path("run"), **ONE_CONNECTION}
    if PLACES[place]:
        isolated(PLACES[place], level)
    else:
        settings["PGOPTIONS"] = "-c default_transaction_isolation=" + level.replace(" ", r"\ ")
    with responder(mode, **settings) as one:
        for method, body in (("PATCH", json.dumps(LINES).encode()), ("DELETE", b"")):
            _, answer, read = write_behind(stocked, one, method, body)
            assert (answer[0], read[0]) == (412, 200), f"a stale If-Match passes: {answer}"
        _, answer, read = write_behind(stocked, one, "PATCH", json.dumps(LINES).encode(), conditional=False)
        told, there = (json.loads(got[1].partition(b"\r\n\r\n")[2]) for got in (answer, read))
        assert told == there and there["amount_total"] == 1, (told, there)


@pytest.mark.parametrize("mode", MODES)
def test_behind_a_pooler_an_order_is_not_changed_at_another_level_until_migrate_has_set_ours(stocked, isolated, mode):
    isolated("role forkloop in database forkloop", "repeatable read")
    with pooler(stocked, "transaction") as where:
        with responder(mode, **where, **ONE_CONNECTION) as one:
            path, answer, read = write_behind(stocked, one, "PATCH", json.dumps(LINES).encode())
            assert answer[0] == 500 and b'"price":77' in read[1], answer
            assert one.ask(path, "DELETE")[0] == 500 and one.ask(path)[0] == 200
            assert "isolation level read committed" in one.log.read_text() and "has not set default_transaction_isolation" in one.log.read_text(), one.log.read_text()
    done = subprocess.run([PROGRAM, "migrate"], capture_output=True, text=True, env=clean_environment(DB_HOST=stocked.path("run"), DB_NAME="forkloop", DB_USER="forkloop"))
    assert "default_transaction_isolation = read committed" in done.stdout, done
    with pooler(stocked, "transaction") as where, responder(mode, **where, **ONE_CONNECTION) as one:
        assert write_behind(stocked, one, "PATCH", json.dumps(LINES).encode())[1][0] == 412
        assert "default_transaction_isolation" not in one.log.read_text()
