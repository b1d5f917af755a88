"""More requests on one connection to the loop than it answers at a time: they are held back, and nothing else waits for them."""

import contextlib
import socket

import pytest

from fastcgi_client import Clients, begin, connect, fastcgi, one_answer, pairs, record, records, variables, with_id
from local_stack import eventually, locked
from test_async import LOCKED

MOST = 16
OVERLOADED = bytes([0, 0, 0, 0, 2, 0, 0, 0])
ENDED = bytes(8)


def contact(number):
    return with_id(fastcgi("/async/contact/2"), number)


@contextlib.contextmanager
def busy(stack):
    """A connection with as many requests as it may have, all of which wait for a lock; what comes from it; and the lock."""
    with locked(stack, "tag") as lock, connect(stack, "async") as client, Clients(stack, "/async/tag", 1):
        eventually(lambda: stack.psql(LOCKED) == [("1",)])
        client.sendall(b"".join(with_id(fastcgi("/async/tag"), number) for number in range(1, MOST + 1)))
        with contextlib.closing(records(client)) as stream:
            yield client, stream, lock


def numbers(stream, count):
    """Whose answers come, all of them good."""
    got = [one_answer(stream) for _ in range(count)]
    assert [whole for _, whole in got if b"Status: 200 " not in whole] == []
    return [number for number, _ in got]


def asked(client, stream):
    """Everything sent before has been read, and nothing has been answered."""
    client.sendall(record(9, pairs({"FCGI_MPXS_CONNS": ""}), 0))
    assert next(stream) == (10, 0, pairs({"FCGI_MPXS_CONNS": "1"}))


def test_what_is_beyond_is_answered_when_others_have_been(stocked):
    with busy(stocked) as (client, stream, lock):
        client.sendall(b"".join(contact(number) for number in range(MOST + 1, 4 * MOST)))
        asked(client, stream)
        lock.kill()
        assert sorted(numbers(stream, 4 * MOST - 1)) == list(range(1, 4 * MOST))
        client.sendall(contact(1))
        assert numbers(stream, 1) == [1], "the connection does not go on"


@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_what_is_beyond_is_answered_however_it_comes(stocked, pieces):
    with busy(stocked) as (client, stream, lock):
        whole = b"".join(contact(number) for number in range(MOST + 1, MOST + 5))
        for at in range(0, len(whole), pieces):
            client.sendall(whole[at:at + pieces])
        asked(client, stream)
        lock.kill()
        assert sorted(numbers(stream, MOST + 4)) == list(range(1, MOST + 5))


def test_an_abort_of_one_of_the_first_gets_through_and_makes_place(stocked):
    with busy(stocked) as (client, stream, lock):
        client.sendall(contact(30) + contact(31))
        asked(client, stream)
        client.sendall(record(2, request_id=5))
        assert next(stream) == (3, 5, ENDED)
        assert sorted(numbers(stream, 2)) == [30, 31], "the place of the aborted one is not used"
        lock.kill()
        assert sorted(numbers(stream, MOST - 1)) == [number for number in range(1, MOST + 1) if number != 5]


def test_an_abort_of_one_that_is_held_back_ends_it_at_once(stocked):
    with busy(stocked) as (client, stream, lock):
        client.sendall(contact(30) + contact(31) + begin(32) + record(2, request_id=30))
        assert next(stream) == (3, 30, ENDED)
        client.sendall(record(2, request_id=32))
        assert next(stream) == (3, 32, ENDED)
        client.sendall(contact(30))
        asked(client, stream)
        lock.kill()
        assert sorted(numbers(stream, MOST + 2)) == [*range(1, MOST + 1), 30, 31]


def test_the_rest_of_a_request_gets_through(stocked):
    """Of the sixteen one is half there, and others are beyond it."""
    params = pairs(variables("/async/tag", "POST", body=b'{"name":"new"}', content_type="application/json"))
    with locked(stocked, "tag") as lock, connect(stocked, "async") as client:
        client.sendall(begin(99) + record(4, params, 99) + record(4, b"", 99) + record(5, b'{"name"', 99))
        client.sendall(b"".join(with_id(fastcgi("/async/tag"), number) for number in range(1, MOST + 1)) + contact(30))
        stream = records(client)
        asked(client, stream)
        client.sendall(record(5, b':"new"}', 99) + record(5, b"", 99))
        asked(client, stream)
        lock.kill()
        got = dict(one_answer(stream) for _ in range(MOST + 2))
        assert sorted(got) == [*range(1, MOST + 1), 30, 99] and b"Status: 201 " in got[99]


def test_a_peer_that_closes_its_side_gets_the_answers_that_are_held_back(stocked):
    with busy(stocked) as (client, stream, lock):
        client.sendall(contact(30) + contact(31))
        client.shutdown(socket.SHUT_WR)
        lock.kill()
        assert sorted(numbers(stream, MOST + 2)) == [*range(1, MOST + 1), 30, 31]
        assert next(stream, None) is None, "the connection was not closed"


def test_a_connection_that_is_not_kept_is_closed_behind_the_last_answer(stocked):
    with busy(stocked) as (client, stream, lock):
        client.sendall(with_id(fastcgi("/async/contact/2", keep=0), 30) + contact(31))
        asked(client, stream)
        lock.kill()
        assert sorted(numbers(stream, MOST + 2)) == [*range(1, MOST + 1), 30, 31]
        assert {(kind, content) for kind, _, content in stream} <= {(6, b"")}, "more came than the end"


def test_a_peer_that_goes_away_leaves_nothing_behind(stocked):
    with busy(stocked) as (client, stream, lock):
        client.sendall(b"".join(contact(number) for number in range(MOST + 1, 200)))
        asked(client, stream)
        client.close()
    with connect(stocked, "async") as client:
        client.sendall(contact(1))
        assert numbers(records(client), 1) == [1]


def test_what_is_held_back_has_a_size_and_whoever_is_beyond_is_overloaded(stocked):
    """The one that came last; those before and who is under way lose nothing."""
    body = b'{"name":"long"' + b" " * ((1 << 20) - 15) + b"}"
    params = pairs(variables("/async/contact", "POST", body=body, content_type="application/json"))

    def header(number):
        return begin(number) + record(4, params, number) + record(4, b"", number)

    def pieces(number):
        return [record(5, body[at:at + 60_000], number) for at in range(0, len(body), 60_000)]

    with busy(stocked) as (client, stream, lock):
        for number in range(100, 100 + MOST):
            client.sendall(header(number) + b"".join(pieces(number)) + record(5, b"", number))
        asked(client, stream)
        first, *others, last = pieces(30)
        client.sendall(header(30) + first + contact(31) + b"".join(others))
        asked(client, stream)
        client.sendall(last)
        assert next(stream) == (3, 30, OVERLOADED)
        client.sendall(record(5, b"", 30))
        asked(client, stream)
        lock.kill()
        got = dict(one_answer(stream) for _ in range(2 * MOST + 1))
        assert sorted(got) == [*range(1, MOST + 1), 31, *range(100, 100 + MOST)]
        assert all(b"Status: 422 " in got[number] for number in range(100, 100 + MOST))
