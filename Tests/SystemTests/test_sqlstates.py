"""Every SQLSTATE that a client can meet, provoked on a real server, and the status that it becomes."""

import concurrent.futures

import pytest

from local_stack import MODES, eventually
from test_api import ORDER

WAITING = "select pid from pg_stat_activity where wait_event_type = 'Lock' and application_name like 'forkloop%'"


@pytest.fixture
def server(own_stack):
    own_stack.psql("insert into product (name) values ('q'); insert into tag (name) values ('IT'), ('other'), ('third')")
    return own_stack


def while_waiting(stack, request, lock, act):
    """The answer to a request that waits for what the session `lock` holds, while `act` is done."""
    session = stack.psql_open(lock)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        asked = threads.submit(stack.request, *request)
        eventually(lambda: stack.psql(WAITING), message="it did not have to wait")
        act(session)
        answer = asked.result()
    session.kill()
    return answer


def say(session, sql):
    session.stdin.write(sql + "\n")
    session.stdin.flush()


def foreign_key(stack, mode):
    stack.request("POST", f"/{mode}/order", ORDER)
    return stack.request("DELETE", f"/{mode}/contact/2")


def unique(stack, mode):
    return stack.request("POST", f"/{mode}/tag", {"name": "IT"})


def check(stack, mode):
    stack.psql("alter table tag add constraint strict check (name <> 'forbidden')")
    return stack.request("POST", f"/{mode}/tag", {"name": "forbidden"})


def numeric_overflow(stack, mode):
    stack.psql("alter table order_line alter price type numeric(6,4)")
    return stack.request("POST", f"/{mode}/order", {**ORDER, "order_lines": [{"product_id": 1, "quantity": 1, "price": 100}]})


def check_of_a_line(stack, mode):
    stack.psql("alter table order_line add constraint strict check (quantity < 5)")
    return stack.request("POST", f"/{mode}/order", {**ORDER, "order_lines": [{"product_id": 1, "quantity": 5, "price": 1}]})


def check_of_a_change(stack, mode):
    check(stack, mode)
    return stack.request("PATCH", f"/{mode}/tag/1", {"name": "forbidden"})


def narrower_column(stack, mode):
    stack.psql("alter table product alter name type varchar(10)")
    return stack.request("POST", f"/{mode}/product", {"name": "x" * 11})


def narrower_column_of_a_change(stack, mode):
    stack.psql("alter table contact alter email type varchar(20)")
    return stack.request("PATCH", f"/{mode}/contact/1", {"email": "x@" + "y" * 30})


FOREIGN = "create table allowed (name text primary key); insert into allowed select name from tag; alter table tag add constraint strict foreign key (name) references allowed"


def foreign_key_of_the_databases_own(stack, mode):
    stack.psql(FOREIGN)
    return stack.request("POST", f"/{mode}/tag", {"name": "forbidden"})


def foreign_key_of_the_databases_own_in_a_change(stack, mode):
    stack.psql(FOREIGN)
    return stack.request("PATCH", f"/{mode}/tag/1", {"name": "forbidden"})


def foreign_key_of_a_line(stack, mode):
    stack.psql("create table allowed (quantity integer primary key); alter table order_line add constraint strict foreign key (quantity) references allowed")
    return stack.request("POST", f"/{mode}/order", ORDER)


def referred_to_by_the_databases_own(stack, mode):
    stack.psql("create table other (name text references tag (name)); insert into other values ('IT')")
    return stack.request("PATCH", f"/{mode}/tag/1", {"name": "new"})


def deleted_while_referred_to_by_the_databases_own(stack, mode):
    stack.psql("create table other (tag bigint references tag); insert into other values (1)")
    return stack.request("DELETE", f"/{mode}/tag/1")


def exclusion(stack, mode):
    stack.psql("alter table product add constraint strict exclude (name with =)")
    return stack.request("POST", f"/{mode}/product", {"name": "q"})


def serialization_failure(stack, mode):
    # Sessions are read committed, where the server has no reason for it; a trigger may have.
    stack.psql("""create function fail() returns trigger language plpgsql as $$ begin raise serialization_failure; end $$;
                  create trigger fail before update on contact for each row execute function fail()""")
    return stack.request("PATCH", f"/{mode}/contact/1", {"name": "x"})


def deadlock(stack, mode):
    def embrace(session):
        say(session, "select from contact where id = 2 for update;")

    # The order has its contact's row and waits for its product's; who looks for a deadlock first, after this time, is its victim.
    stack.psql("alter database forkloop set deadlock_timeout = '3s'", user="postgres")
    reconnect(stack)
    eventually(lambda: stack.request("GET", f"/{mode}/health").status == 200)
    return while_waiting(stack, ("POST", f"/{mode}/order", ORDER), "begin; select from product where id = 1 for update", embrace)


def read_only(stack, mode):
    stack.psql("alter system set default_transaction_read_only = on", user="postgres")
    stack.psql("select pg_reload_conf()", user="postgres")
    eventually(lambda: stack.psql("show default_transaction_read_only") == [("on",)])
    return eventually(lambda: (a := stack.request("POST", f"/{mode}/tag", {"name": "x"})).status != 201 and a)


def out_of_connections(stack, mode):
    stack.psql("alter role forkloop connection limit 0", user="postgres")
    reconnect(stack)
    # The first may be on its way on a connection that is just being ended.
    return eventually(lambda: (a := stack.request("POST", f"/{mode}/product", {"name": "x"})).header("Retry-After") and a)


def query_cancelled(stack, mode):
    return while_waiting(stack, ("PATCH", f"/{mode}/contact/1", {"name": "x"}), "begin; select from contact where id = 1 for update",
                         lambda _: stack.psql(f"select pg_cancel_backend(pid) from ({WAITING}) w"))


def admin_shutdown(stack, mode):
    return while_waiting(stack, ("PATCH", f"/{mode}/contact/1", {"name": "x"}), "begin; select from contact where id = 1 for update",
                         lambda _: stack.psql(f"select pg_terminate_backend(pid) from ({WAITING}) w"))


def lock_timeout(stack, mode):
    stack.psql("alter database forkloop set lock_timeout = '2s'", user="postgres")
    reconnect(stack)
    eventually(lambda: stack.request("GET", f"/{mode}/health").status == 200)
    return while_waiting(stack, ("PATCH", f"/{mode}/contact/1", {"name": "x"}), "begin; select from contact where id = 1 for update", lambda _: None)


def no_schema(stack, mode):
    stack.psql("drop function order_update")
    return stack.request("PATCH", f"/{mode}/order/1", {"name": "x"})


def reconnect(stack):
    stack.psql("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'forkloop%'", user="postgres")


TABLE = [
    # how, SQLSTATE, status, Retry-After
    (foreign_key, "23503", 409, None), (unique, "23505", 409, None), (check, "23514", 422, None), (numeric_overflow, "22003", 422, None),
    (serialization_failure, "40001", 503, "1"), (deadlock, "40P01", 503, "1"), (read_only, "25006", 503, "1"), (out_of_connections, "too many connections", 503, "1"),
    (query_cancelled, "57014", 503, "1"), (admin_shutdown, "connection was lost", 503, None), (lock_timeout, "55P03", 503, "1"), (no_schema, "forkloop migrate", 503, "1"),
    (check_of_a_line, "23514", 422, None), (check_of_a_change, "23514", 422, None), (narrower_column, "22001", 422, None), (narrower_column_of_a_change, "22001", 422, None),
    (foreign_key_of_the_databases_own, "23503", 422, None), (foreign_key_of_the_databases_own_in_a_change, "23503", 422, None), (foreign_key_of_a_line, "23503", 422, None),
    (referred_to_by_the_databases_own, "23503", 409, None), (deleted_while_referred_to_by_the_databases_own, "23503", 409, None), (exclusion, "23P01", 409, None),
]
# Where a 422 says that the fault is, and of which kind.
FAULTS = {
    check: ("", "out_of_range"), check_of_a_change: ("", "out_of_range"), check_of_a_line: ("/order_lines", "out_of_range"), numeric_overflow: ("", "out_of_range"),
    narrower_column: ("", "too_long"), narrower_column_of_a_change: ("", "too_long"), foreign_key_of_the_databases_own: ("", "not_found"),
    foreign_key_of_the_databases_own_in_a_change: ("", "not_found"), foreign_key_of_a_line: ("", "not_found")}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how, state, status, retry_after", TABLE, ids=[t[0].__name__ for t in TABLE])
def test_a_sqlstate_becomes_its_status_and_tells_nothing_of_the_database(server, mode, how, state, status, retry_after):
    answer = how(server, mode)
    assert (answer.status, answer.header("Retry-After"), answer.header("Content-Type")) == (status, retry_after, "application/problem+json"), answer
    for secret in (state, "select", "relation", "constraint", "strict", "order_line ", "allowed", "FATAL", "/run"):
        assert secret not in answer.body.decode(), answer
    if status == 422:
        assert [(fault["pointer"], fault["code"]) for fault in answer.json["errors"]] == [FAULTS[how]], answer
    assert status != 409 or "Try again" not in answer.json["detail"], answer
    if status >= 500:
        log = f"{server.path('log')}/{mode}.log"
        eventually(lambda: state in open(log).read(), message=f"{state} is not in the log")
