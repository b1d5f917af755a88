"""A prepared statement that the server does not take any more, or does not know any more: nothing was executed, so it is prepared
anew and sent once more, whatever it does."""

import concurrent.futures
import contextlib
import json
import threading
import time

import pytest

from fastcgi_client import answer
from local_stack import MODES
from proxy import in_front_of
from responder import ONE_CONNECTION, responder
from test_api import ORDER

ALTERED = """alter table contact alter column name type {0}, alter column email type {0}; alter table product alter column name type {0};
             alter table tag alter column name type {0}; alter table "order" alter column name type {0}"""
WAYS = ("another type", "DISCARD ALL", "DEALLOCATE ALL")
NEW = {"contact": {"name": "a", "email": "a@b"}, "product": {"name": "a"}, "tag": {"name": "a"}, "order": ORDER}


def routes():
    """(method, path, query, body, fields, status), each a statement of its own, and each of them on rows that are there."""
    yield "GET", "/health", "", None, {}, 200
    for resource, new in NEW.items():
        yield "GET", f"/{resource}", "", None, {}, 200
        yield "GET", f"/{resource}/2", "", None, {}, 200
        yield "POST", f"/{resource}", "", new, {}, 201
        yield "POST", f"/{resource}", "", new, {"HTTP_IDEMPOTENCY_KEY": "{unique}"}, 201
        yield "PATCH", f"/{resource}/2", "", {"name": "b"}, {}, 200
        yield "DELETE", f"/{resource}/{{unique}}", "", None, {}, 204
    for query in ("contact_id=2", "product_id=1", "tag=food", "contact_id=2&product_id=1&tag=food"):
        yield "GET", "/order", query, None, {}, 200
    # An order of what is not there takes a second statement, which says so.
    yield "POST", "/order", "", {**ORDER, "contact_id": 77777}, {}, 422


@contextlib.contextmanager
def conversation(stack, mode):
    with in_front_of(stack) as proxy, responder(mode, DB_HOST="127.0.0.1", DB_PORT=proxy.port, **ONE_CONNECTION) as one:
        yield proxy, one


def spoil(stack, proxy, way, turn):
    if way == "another type":
        stack.psql(ALTERED.format(("varchar(255)", "text")[turn % 2]))
    else:
        proxy.interject(way)


@pytest.fixture
def changing(stocked):
    """Rows for every route to work on, and text columns again afterwards."""
    stocked.psql("""
        insert into "order" (name, contact_id) values ('o', 2), ('o', 2);
        insert into order_line (order_id, product_id, quantity, price) select id, 1, 1, 1 from "order";
        insert into order_tag_rel select o.id, t.id from "order" o, tag t""")
    yield stocked
    stocked.psql(ALTERED.format("text"))


class Asking:
    """Asks a route as often as wanted, for something else each time where it can only be done once."""

    def __init__(self, stack, one):
        self.stack, self.one, self.count = stack, one, 1000

    def ask(self, method, path, query, body, fields, _):
        self.count += 1
        resource = path.split("/")[1]
        if body and resource == "tag":
            body = {"name": f"tag {self.count}"}
        if method == "DELETE":
            more = {"contact": ", email) values ({0}, 'x', 'x@y')", "order": ", contact_id) values ({0}, 'x', 2)"}.get(resource, ") values ({0}, 'x{0}')")
            self.stack.psql(f'insert into "{resource}" (id, name' + more.format(self.count))
        fields = {name: value.format(unique=self.count) for name, value in fields.items()}
        return self.one.ask(path.format(unique=self.count), method, json.dumps(body).encode() if body else b"", query, **fields)


@pytest.mark.parametrize("mode", MODES)
def test_every_route_outlives_the_loss_of_its_preparation(changing, mode):
    with conversation(changing, mode) as (proxy, one):
        asking = Asking(changing, one)
        wrong = []
        for route in routes():
            for turn, way in enumerate((None, *WAYS, WAYS[0])):
                # A changed order comes from a function, whose own rows are declared: it would not be right any more.
                if way and (way, *route[:2]) != ("another type", "PATCH", "/order/2"):
                    spoil(changing, proxy, way, turn // 4)
                if (answered := asking.ask(*route))[0] != route[-1]:
                    wrong.append((way, *route[:3], answered))
        assert wrong == [], wrong


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_what_stands_in_the_pipeline_behind_a_lost_preparation_is_answered_too(changing, mode, way):
    with conversation(changing, mode) as (proxy, one), concurrent.futures.ThreadPoolExecutor(24) as threads:
        paths = ["/contact", "/contact/1", "/contact/2", "/tag/1", "/tag/2", "/order/1", "/order", "/health"]
        for turn in range(4):
            made = [one.send("/tag", "POST", b'{"name":"%d %d"}' % (turn, number)) for number in range(8)]
            assert [answer(client)[:11] for client in made] == [b"Status: 201"] * 8
            assert [status for status, _ in threads.map(one.ask, paths * 4)] == [200] * 32
            spoil(changing, proxy, way, turn)
            reads = [one.send(path) for path in paths * 4]
            made = [one.send("/tag", "POST", b'{"name":"new %d %d"}' % (turn, number)) for number in range(8)]
            assert {answer(client)[:11] for client in reads} == {b"Status: 200"}, one.log.read_text()
            assert [answer(client)[:11] for client in made] == [b"Status: 201"] * 8
        assert changing.psql("select count(*) from tag") == [(str(3 + 4 * 16),)], "a write was carried out twice, or not at all"


@pytest.mark.parametrize("mode", MODES)
def test_a_statement_that_is_refused_each_time_is_sent_twice_and_no_more(stocked, mode):
    """0A000 can mean another feature that is not there."""
    stocked.psql("""
        create sequence attempts;
        create function refuse() returns trigger language plpgsql as $$ begin
          perform nextval('attempts'); raise exception 'not supported' using errcode = '0A000'; end $$;
        create trigger refuse before insert on tag for each row execute function refuse()""")
    try:
        with responder(mode, DB_HOST=stocked.path("run"), **ONE_CONNECTION) as one:
            assert one.ask("/tag", "POST", b'{"name":"x"}')[0] == 500
            assert stocked.psql("select last_value from attempts") == [("2",)]
            assert one.ask("/contact/1")[0] == 200
    finally:
        stocked.psql("drop trigger refuse on tag; drop function refuse; drop sequence attempts")


@pytest.mark.parametrize("mode", MODES)
def test_where_the_preparations_of_all_connections_are_of_no_use_any_more_nobody_notices(changing, mode):
    with responder(mode, DB_HOST=changing.path("run")) as one:
        over = threading.Event()

        def ask(number):
            statuses = []
            while not over.is_set():
                for method, path, body in (("GET", "/contact", b""), ("POST", "/tag", f'{{"name":"{number}.{len(statuses)}"}}'.encode()),
                                           ("PATCH", "/contact/2", b'{"name":"b"}'), ("GET", "/tag/1", b""), ("POST", "/contact", b'{"name":"a","email":"a@b"}')):
                    statuses.append((method, path, one.ask(path, method, body)[0]))
            return statuses

        with concurrent.futures.ThreadPoolExecutor(12) as threads:
            asked = [threads.submit(ask, number) for number in range(12)]
            for turn in range(10):
                time.sleep(0.15)  # for every connection to know every statement
                for more in range(turn % 3 + 1):
                    changing.psql(f"alter table {('contact', 'tag')[turn % 2]} alter column name type varchar({300 + 10 * turn + more})")
            over.set()
        statuses = [status for one_s in asked for status in one_s.result()]
    assert {status for _, _, status in statuses} == {200, 201}, [s for s in statuses if s[2] not in (200, 201)][:5]
