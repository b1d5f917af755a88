import os

import pytest

from local_stack import LocalStack, emptied, temporary_folder
from signal_server import SEED


def pytest_report_header():
    return f"signals: FORKLOOP_SIGNALS_SEED={SEED}"


def pytest_collection_modifyitems(items):
    """What takes long begins first, so that no process is left with it in the end: groups, which stay in one process."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


@pytest.fixture(scope="session", autouse=True)
def _template(tmp_path_factory):
    own = tmp_path_factory.getbasetemp()
    LocalStack.template = f"{own.parent if 'PYTEST_XDIST_WORKER' in os.environ else own}/stack"


@pytest.fixture(scope="session")
def _shared(_template):
    with temporary_folder() as folder:
        stack = LocalStack(folder)
        yield stack
        assert stack.stop() == 0, stack.output()


@pytest.fixture
def stack(_shared):
    """A stack that stands for all tests, its tables empty and its ids starting over. Leave it as it is."""
    yield emptied(_shared)


@pytest.fixture
def stocked(stack):
    """The same with the contract's example around it: two contacts, two products, three tags."""
    stack.psql("""
        insert into contact (name, email) values ('Ann', 'ann@example.org'), ('Bob', 'bob@example.org');
        insert into product (name) values ('Pen'), ('Ink'); insert into tag (name) values ('shopping'), ('food'), ('IT')""")
    return stack


@pytest.fixture
def own_stack():
    """A stack of the test's own, to be ill-treated."""
    with temporary_folder() as folder:
        stack = LocalStack(folder)
        stack.psql("insert into contact (name, email) select 'c' || i, 'c@example.org' from generate_series(1, 20) i;"
                   "insert into product (name) values ('p')")
        yield stack
        stack.stop()
