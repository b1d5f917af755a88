"""Large answers: where a page of orders ends, how much memory they take while they are made and afterwards, and who is answered meanwhile."""

import concurrent.futures
import contextlib
import itertools
import json
import pathlib
import re
import socket

import pytest

import daemon
from fastcgi_client import answer, fastcgi
from local_stack import MODES, children, eventually
from responder import ONE_CONNECTION, responder
from test_limits import row

MOST = int(row("the API", "lines of a page of orders").value)
MIB = 1 << 20
# The most that README says of a page of 20,000 lines, and of any other answer.
USUAL, MOST_MEMORY = 8 * MIB, 40 * MIB
# socket(7); Python has no name for it.
SO_RCVBUFFORCE = 33
FILTERS = ["&contact_id=1", "&product_id=1", "&tag=all", "&contact_id=1&product_id=1", "&contact_id=1&tag=all", "&product_id=1&tag=all",
           "&contact_id=1&product_id=1&tag=all"]


def with_orders(stack, *lines, tags=1):
    """Orders with so many lines each, all of the first contact; the first line has the first product, so that each has it, and the first tag."""
    stack.psql("insert into contact (name, email) values ('Ann', 'ann@example.org'), ('Bob', 'bob@example.org');"
               "insert into product (name) values ('Pen'), ('Ink');"
               f"insert into tag (name) select case i when 1 then 'all' else 'tag ' || i end from generate_series(1, {tags}) i")
    counts = "array[" + ",".join(map(str, lines)) + "]"
    # Between each two there is one that no filter finds; it has no lines.
    stack.psql(f"""insert into "order" (id, name, contact_id) select 2 * n, 'o', 1 from generate_series(1, {len(lines)}) n;
        insert into order_line (order_id, product_id, quantity, price)
            select 2 * n, case l when 1 then 1 else 2 end, l, 1.5 from generate_series(1, {len(lines)}) n, generate_series(1, ({counts})[n]) l;
        insert into order_tag_rel select 2 * n, t from generate_series(1, {len(lines)}) n, generate_series(1, {tags}) t""")
    return [2 * n for n in range(1, len(lines) + 1)]


def walk(stack, path, most=100):
    """The pages of a list, as lists of orders, from the first to the last by their links; the same on both servers."""
    pages = []
    while path:
        found = stack.both("GET", path)
        assert found.status == 200, found
        pages.append(found.json)
        link = found.header("Link")
        path = link and re.fullmatch(r"</sync(/order\?[^>]+)>; rel=\"next\"", link)[1]
        assert len(pages) <= most, "the list does not end"
    return pages


def ids(pages):
    return [[order["id"] for order in page] for page in pages]


# Lines of the orders, and how many orders each page has.
PAGES = {
    "at the bound to the last": ([1000] * 20, [20]),
    "at the bound, and one more without lines": ([1000] * 20 + [0], [21]),
    "at the bound, and one more of one line": ([1000] * 20 + [1], [20, 1]),
    "one line beyond it": ([1000] * 19 + [999, 2], [20, 1]),
    "one line below it": ([1000] * 19 + [998, 1, 1, 1], [22, 1]),
    "three pages": ([7000] * 5 + [1], [2, 2, 2]),
    "one order at the bound": ([MOST, 1], [1, 1]),
    "one order beyond it": ([MOST + 1, 1], [1, 1]),
    "one order beyond it, behind another": ([1, MOST + 1, 1], [1, 1, 1]),
    "one order that is all there is": ([MOST + 1], [1]),
    "two orders beyond it": ([MOST + 1, MOST + 500], [1, 1]),
}


@pytest.mark.parametrize("what", PAGES)
def test_a_page_ends_where_its_lines_reach_the_bound_and_its_link_goes_on_from_there(stack, what):
    lines, sizes = PAGES[what]
    made = with_orders(stack, *lines)
    expected = [list(itertools.islice(iterator, size)) for iterator in [iter(made)] for size in sizes]
    pages = walk(stack, "/order?limit=1000")
    assert ids(pages) == expected, what
    counts = {order["id"]: [line["quantity"] for line in order["order_lines"]] for page in pages for order in page}
    assert counts == {order: list(range(1, count + 1)) for order, count in zip(made, lines)}, "an order is not whole"


def test_whatever_a_list_is_narrowed_to_its_links_lead_to_each_order_once(stack):
    lines = [3000, 9000, 8000, 1, 12_000, 7_999, 1, 1, MOST + 1, 1, 1]
    made = with_orders(stack, *lines)
    # Some in between, of another contact, with lines of another product and no tag.
    stack.psql("""insert into "order" (id, name, contact_id) select 2 * n + 1, 'other', 2 from generate_series(1, 3) n;
        insert into order_line (order_id, product_id, quantity, price) select 2 * n + 1, 2, 1, 1 from generate_series(1, 3) n, generate_series(1, 10) l""")
    for filters in FILTERS:
        assert ids(walk(stack, f"/order?limit=1000{filters}")) == [made[:3], made[3:6], made[6:8], made[8:9], made[9:]], filters
        assert ids(walk(stack, f"/order?limit=2{filters}")) == [made[:2], made[2:4], made[4:6], made[6:8], made[8:9], made[9:]], filters
    for limit in (2, 1000):
        assert sum(ids(walk(stack, f"/order?limit={limit}")), []) == sorted(made + [3, 5, 7])


@pytest.mark.parametrize("filters", ["", "&contact_id=1"])
def test_a_page_ends_where_its_tags_reach_the_bound(stack, filters):
    most = int(row("the API", "tags of a page of orders").value)
    made = with_orders(stack, *[1] * (most // 100 + 1), tags=100)
    pages = walk(stack, f"/order?limit=1000{filters}")
    assert ids(pages) == [made[:-1], made[-1:]]
    assert {len(order["tags"]) for page in pages for order in page} == {100}


def test_a_page_ends_with_the_order_that_makes_it_too_long(stack):
    """Names of which each character takes six bytes in JSON."""
    most = int(row("the API", "JSON of a page of orders").value)
    made = with_orders(stack, *[1] * 30, tags=100)
    stack.psql("update tag set name = rpad(id::text, 255, u&'\\0001')")
    (first, *rest) = pages = walk(stack, "/order?limit=1000")
    assert len(rest) == 2 and sum(ids(pages), []) == made
    length = len(stack.request("GET", "/sync/order?limit=1000").body)
    assert most < length <= most + len(stack.request("GET", f"/sync/order/{made[0]}").body) + 2


def test_the_entity_tag_tells_whether_there_is_more(stack):
    """Of a page that ends for its lines as of one that ends at its limit."""
    made = with_orders(stack, 15_000, 15_000)
    tags = {limit: stack.both("GET", f"/order?limit={limit}").header("ETag") for limit in (1, 3)}
    assert stack.request("GET", "/async/order?limit=3", headers={"If-None-Match": tags[3]}).status == 304
    stack.psql(f'delete from "order" where id = {made[1]}')
    for limit, tag in tags.items():
        assert stack.both("GET", f"/order?limit={limit}").header("ETag") != tag, f"limit={limit}"


# --- memory

def resident(process):
    """Bytes that are resident, and the most that have been since `forget_most`."""
    text = pathlib.Path(f"/proc/{process}/status").read_text()
    return tuple(int(re.search(rf"{name}:\s+(\d+)", text)[1]) * 1024 for name in ("VmRSS", "VmHWM"))


def forget_most(process):
    pathlib.Path(f"/proc/{process}/clear_refs").write_text("5")


def comes_back(more):
    """Waits until what is resident is about what it was."""
    least = []
    with contextlib.suppress(AssertionError):
        eventually(lambda: least.append(more()) or least[-1] < 2 * MIB, 5)
    assert least[-1] < 2 * MIB, f"after 5 s {least[-1] >> 10} KiB more than before are resident"


def many_lines(stack):
    with_orders(stack, *[1000] * 100)
    return USUAL


def long_tags(stack):
    """As many different ones as a page can have, as long as they can be."""
    stack.psql("insert into contact (name, email) values ('Ann', 'ann@example.org');"
               "insert into tag (name) select rpad(i::text, 255, u&'\\+01F388') from generate_series(1, 10000) i;"
               "insert into \"order\" (name, contact_id) select rpad('', 255, u&'\\+01F388'), 1 from generate_series(1, 110) i;"
               "insert into order_tag_rel select o, 1 + (o * 100 + t) % 10000 from generate_series(1, 110) o, generate_series(1, 100) t")
    return MOST_MEMORY


@pytest.mark.parametrize("data", [many_lines, long_tags])
@pytest.mark.parametrize("mode", MODES)
def test_eight_of_the_largest_pages_take_a_bounded_memory_and_give_it_back(stack, mode, data):
    most = data(stack)
    with responder(mode, DB_HOST=stack.path("run")) as one, concurrent.futures.ThreadPoolExecutor(8) as threads:
        # What they need for good: connections, plans, buffers.
        assert {one.ask("/order/1")[0] for _ in range(100)} <= {200, 404}
        processes = children(one.process.pid)
        before = {process: resident(process)[0] for process in processes}
        for process in processes:
            forget_most(process)
        answers = list(threads.map(lambda number: one.ask("/order", query=f"limit=1000&after={number}"), range(8)))
        assert {status for status, _ in answers} == {200} and min(len(whole) for _, whole in answers) > MIB // 2
        # A worker has one at a time, a loop as many as it has connections to the database.
        allowed = most * (8 if mode == "async" else 1)
        for process in processes:
            assert resident(process)[1] - before[process] <= allowed, f"it took {(resident(process)[1] - before[process]) >> 20} MiB"

        def more():
            return max(resident(process)[0] - before[process] for process in processes)

        comes_back(more)


@pytest.mark.parametrize("mode", MODES)
def test_a_large_body_leaves_nothing_behind(stocked, mode):
    with responder(mode, DB_HOST=stocked.path("run"), **ONE_CONNECTION) as one:
        assert one.ask("/contact/1")[0] == 200
        process, = children(one.process.pid)
        before = resident(process)[0]
        for body in (b"[" + b"1," * 500_000 + b"1]", b'{"name":"' + b"x" * 1_000_000 + b'"}', b"[" + b'{"":1},' * 140_000 + b"1]"):
            assert one.ask("/order", "POST", body)[0] == 422
        comes_back(lambda: resident(process)[0] - before)


@pytest.mark.parametrize("leaves", ["by closing", "without taking any of it"])
def test_clients_that_leave_in_the_middle_of_a_large_answer_leave_nothing_behind(stack, leaves):
    with_orders(stack, *[1000] * 20)
    with responder("async", DB_HOST=stack.path("run"), **ONE_CONNECTION) as one, contextlib.ExitStack() as exits:
        assert one.ask("/order", query="limit=1000")[0] == 200
        loop, = children(one.process.pid)
        before = resident(loop)[0]
        clients = [exits.enter_context(one.send("/order", query="limit=1000")) for _ in range(20)]
        for client in clients:
            client.recv(1, socket.MSG_PEEK)
            if leaves == "by closing":
                client.recv(100_000)
        eventually(lambda: resident(loop)[0] - before > 8 * MIB, 5, "the answers do not wait: this shows nothing")
        for client in clients:
            client.close()
        assert one.is_well()
        comes_back(lambda: resident(loop)[0] - before)


# --- the others

def test_a_large_answer_goes_out_in_slices(stack):
    """Also to a peer whose socket would take all of it at once: others have their turns in between."""
    with_orders(stack, *[1] * 30, tags=100)
    stack.psql("update tag set name = rpad(id::text, 255, u&'\\0001')")
    most = int(row("the API", "JSON of a page of orders").value)
    with daemon.responder(stack, "async", tcp=True) as one, socket.socket() as greedy:
        try:
            greedy.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 * MIB)
        except PermissionError:
            pytest.skip("only root can have a socket that takes so much")
        greedy.connect(one.address)
        greedy.sendall(fastcgi("/async/order", query="limit=1000"))
        assert len(answer(greedy)) > most

        def backlogged():
            return json.loads(one.status().partition(b"\r\n\r\n")[2])["memory"]["backlogged_answers"]

        assert backlogged() == 1, "it was written in one go"
