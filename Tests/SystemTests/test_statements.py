"""The server's own log tells how many statements a request costs: one, whatever the route, however many the rows. Only of an order
that was refused for something that is missing a second one has to find out what."""

import pathlib
import re

import pytest

from local_stack import MODES, eventually
from test_api import ORDER

KEY = {"Idempotency-Key": "k"}
ROUTES = [
    ("GET", "/{r}", None, {}), ("GET", "/{r}?limit=1000", None, {}), ("HEAD", "/{r}", None, {}), ("GET", "/{r}/1", None, {}), ("GET", "/{r}/1", None, {"If-None-Match": "*"}),
    ("POST", "/{r}", "new", {}), ("POST", "/{r}", "new", KEY), ("POST", "/{r}", "new", KEY), ("PATCH", "/{r}/1", {"name": "x"}, {}), ("PATCH", "/{r}/1", {"name": "y"}, {"If-Match": '"1"'}),
    ("DELETE", "/{r}/99999", None, {}), ("DELETE", "/{r}/1", None, {}),
]
ORDERS = [("GET", f"/order?{query}", None, {}) for query in ("contact_id=1", "product_id=1", "tag=t1", "contact_id=1&product_id=1&tag=t1", "limit=1000&tag=t1")]
NOTHING = [("POST", "/tag", "{", {}), ("POST", "/tag", {}, {}), ("GET", "/tag?x=1", None, {}), ("GET", "/none", None, {}), ("OPTIONS", "/tag", None, {}), ("PUT", "/tag", None, {})]
MISSING = [("POST", "/order", {**ORDER, "contact_id": 77777}, {}), ("POST", "/order", {**ORDER, "tag_ids": [77777]}, {})]
NEW = {"contact": {"name": "a", "email": "a@b"}, "product": {"name": "a"}, "order": {**ORDER, "order_lines": [ORDER["order_lines"][0]] * 50}}


@pytest.mark.parametrize("mode", MODES)
def test_every_request_is_one_statement_and_stays_one_with_many_rows(own_stack, mode):
    own_stack.psql("insert into product (name) values ('q'); insert into tag (name) select 't' || i from generate_series(1, 10) i")
    own_stack.psql("alter system set log_min_duration_statement = 0", user="postgres")
    own_stack.psql("select pg_reload_conf()", user="postgres")
    log = pathlib.Path(own_stack.path("log/postgres.log"))
    statuses = set()
    for orders in (3, 3000):
        own_stack.psql(f"""
            insert into "order" (name, contact_id) select 'o', 1 from generate_series(1, {orders});
            insert into order_line (order_id, product_id, quantity, price) select id, 1, 1, 1 from "order", generate_series(1, 3) where name = 'o';
            insert into order_tag_rel select id, 1 from "order" where name = 'o' on conflict do nothing; truncate idempotency_key""")
        routes = [(m, p.format(r=r), b, h) for r in ("contact", "product", "tag", "order") for m, p, b, h in ROUTES] + ORDERS
        for wanted, (method, path, body, headers) in [(1, route) for route in routes] + [(0, route) for route in NOTHING] + [(2, route) for route in MISSING]:
            resource = re.match(r"/(\w+)", path)[1]
            if body == "new":
                body = NEW.get(resource, {"name": f"tag {orders} {len(headers)}"})
            own_stack.psql("select 'before'")
            answer = own_stack.request(method, f"/{mode}{path}", body, headers)
            own_stack.psql("select 'after'")
            # What stands between the two marks.
            text = eventually(lambda: (t := log.read_text().rpartition("select 'before'")[2]).count("select 'after'") and t, message="the server has logged nothing")
            # One that failed is logged as what has failed, without its duration.
            statements = re.findall(r"duration: \S+ ms  (?:execute \S+:|statement: (?!select 'after'))|STATEMENT:  ", text)
            assert len(statements) == wanted, (method, path, headers, answer, statements)
            statuses.add(answer.status)
    assert statuses >= {200, 201, 204, 304, 404, 409, 412, 422}


def test_no_table_is_read_whole_however_small_it_was_when_the_plans_were_made(stack):
    """A plan for an empty table, kept while the table grows, would make every write slower than the one before."""
    tables = "('contact', 'product', 'tag', 'order', 'order_line', 'order_tag_rel')"

    def scans(kind):
        return dict((name, int(count)) for name, count in stack.psql(f"select relname, coalesce({kind}, 0) from pg_stat_user_tables where relname in {tables}"))

    stack.psql("insert into contact (name, email) values ('c', 'c@example.org'); insert into product (name) values ('p'); insert into tag (name) values ('t')")
    before = scans("seq_scan")
    known = scans("idx_scan")
    order = {"name": "SO", "contact_id": 1, "order_lines": [{"product_id": 1, "quantity": 1, "price": 1}] * 3, "tag_ids": [1]}
    for mode in MODES:
        for _ in range(30):
            assert stack.request("POST", f"/{mode}/order", order).status == 201
        assert stack.request("GET", f"/{mode}/order/1").status == 200
    # What a server has counted is told a moment later.
    eventually(lambda: scans("idx_scan")["product"] > known["product"], 60, "the foreign keys' checks do not show")
    assert scans("seq_scan") == before
