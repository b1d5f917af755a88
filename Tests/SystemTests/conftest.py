import os

import pytest

from house import House, temporary_folder
from signal_server import SEED


def pytest_report_header():
    return f"signals: FORKLOOP_SIGNALS_SEED={SEED}"


def pytest_collection_modifyitems(items):
    """What takes long begins first, so that no process is left with it in the end: groups, which stay in one process."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


@pytest.fixture(scope="session", autouse=True)
def _template(tmp_path_factory):
    own = tmp_path_factory.getbasetemp()
    House.template = f"{own.parent if 'PYTEST_XDIST_WORKER' in os.environ else own}/house"


@pytest.fixture(scope="session")
def _shared(_template):
    with temporary_folder() as folder:
        house = House(folder)
        yield house
        assert house.stop() == 0, house.output()


@pytest.fixture
def house(_shared):
    """A house that stands for all tests, its tables empty and its ids starting over. Leave it as it is."""
    _shared.psql('truncate contact, product, tag, "order", order_line, order_tag_rel, idempotency_key restart identity cascade')
    yield _shared


@pytest.fixture
def stocked(house):
    """The same with the contract's example around it: two contacts, two products, three tags."""
    house.psql("""
        insert into contact (name, email) values ('Ann', 'ann@example.org'), ('Bob', 'bob@example.org');
        insert into product (name) values ('Pen'), ('Ink'); insert into tag (name) values ('shopping'), ('food'), ('IT')""")
    return house


@pytest.fixture
def own_house():
    """A house of the test's own, to be ill-treated."""
    with temporary_folder() as folder:
        house = House(folder)
        house.psql("insert into contact (name, email) select 'c' || i, 'c@example.org' from generate_series(1, 20) i;"
                   "insert into product (name) values ('p')")
        yield house
        house.stop()
