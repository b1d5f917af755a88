"""The examples do what they say, against both servers; and the first minutes with `forkloop up` go as README tells."""

import pathlib
import re
import subprocess

import pytest

from local_stack import MODES, PROGRAM, ROOT, LocalStack, clean_environment, temporary_folder
from test_openapi import DOCUMENT, sent


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("example", ["orders.sh", "orders.py"])
def test_an_example_runs_to_its_end(stack, mode, example):
    done = subprocess.run([f"{ROOT}/examples/{example}", f"http://127.0.0.1:{stack.port}/{mode}"], capture_output=True, text=True, timeout=60, env=clean_environment())
    assert done.returncode == 0, done.stdout + done.stderr
    if example == "orders.sh":
        assert done.stdout.endswith("\ndone\n") and '"name":"SO001 b"' in done.stdout
        assert stack.psql("select count(*) from contact") == [("0",)], "something was left behind"
    else:
        assert done.stdout.splitlines() == ["1 SO000 0.75", "2 SO001 1.5", "3 SO002 2.25", "4 SO003 3", "5 SO004 3.75"]
    assert stack.psql('select count(*) from "order"') == [("0",)]


def first_order(stack):
    """What README's first order prints, and what README says that it prints, without the numbers that are everybody's own."""
    text = pathlib.Path(ROOT, "README.md").read_text()
    script, shown = re.search(r"## A first order\n\n```sh\n(.*?)```.*?```json\n(.*?)```", text, re.DOTALL).groups()
    assert "localhost:8080" in script
    done = subprocess.run(["sh", "-eu", "-c", script.replace("localhost:8080", f"127.0.0.1:{stack.port}")], capture_output=True, text=True, timeout=60, env=clean_environment())
    assert done.returncode == 0, done.stdout + done.stderr
    return [re.sub(r'(id":|shopping )[0-9]+', r"\1N", order.strip()) for order in (done.stdout, shown)]


@pytest.fixture(scope="module")
def first_stack():
    """As somebody has it who starts it for the first time."""
    with temporary_folder() as folder:
        stack = LocalStack(folder, arguments=())
        yield stack
        stack.stop()


def rows(stack):
    return stack.psql('select (select count(*) from contact), (select count(*) from product), (select count(*) from tag), (select count(*) from "order")')


def test_a_new_stack_has_something_to_look_at_and_says_where(first_stack):
    assert rows(first_stack) == [("5", "8", "4", "12")]
    assert re.search(rf"http://127\.0\.0\.1:{first_stack.port}/docs$", first_stack.output(), re.MULTILINE), first_stack.output()
    assert first_stack.request("GET", "/docs").status == 200


@pytest.mark.parametrize("mode", MODES)
def test_what_swagger_ui_proposes_to_send_succeeds_on_the_demo_data(first_stack, mode):
    for path, operations in DOCUMENT["paths"].items():
        if not path.startswith(f"/{mode}/"):
            continue
        if "post" in operations:
            made = first_stack.request("POST", path, sent(path, "post"))
            assert made.status == 201, f"POST {path}: {made}"
            one = made.header("Location")
        if "patch" in operations:
            for change in operations["patch"]["requestBody"]["content"].values():
                changed = first_stack.request("PATCH", one, change["example"])
                assert changed.status == 200, f"PATCH {path}: {changed}"
            assert first_stack.request("DELETE", one).status == 204


def test_readme_s_first_order_works_on_any_database_and_twice(first_stack, stack):
    # Ids that nobody would guess.
    stack.psql("select setval('contact_id_seq', 20), setval('product_id_seq', 30), setval('tag_id_seq', 40), setval('order_id_seq', 50)")
    for place in (first_stack, first_stack, stack, stack):
        printed, shown = first_order(place)
        assert printed == shown


def test_what_was_deleted_comes_back_only_where_it_is_asked_for():
    with temporary_folder() as folder:
        for arguments, there in [(("--empty",), ("0",) * 4), ((), ("5", "8", "4", "12")), ((), ("0",) * 4), (("--demo-data",), ("5", "8", "4", "12"))]:
            stack = LocalStack(folder, arguments)
            assert rows(stack) == [there], f"up {arguments}: {stack.output()}"
            stack.psql('delete from "order"; delete from contact; delete from product; delete from tag')
            assert stack.stop() == 0


def test_up_can_t_be_told_both(tmp_path):
    done = subprocess.run([PROGRAM, "up", "--empty", "--demo-data", "--state", tmp_path], capture_output=True, text=True, env=clean_environment())
    assert (done.returncode, done.stdout) == (2, "") and "--empty" in done.stderr, done
