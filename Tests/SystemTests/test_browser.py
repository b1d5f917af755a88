"""The pages in a real browser: nothing is missing, nothing is fetched from elsewhere, and trying it out works."""

import base64
import contextlib
import json
import os
import struct
import zlib

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from local_stack import MODES
from test_api import EXAMPLE
from test_openapi import OPERATIONS as DESCRIBED, operation

OPERATIONS = [operation(*described)["operationId"] for described in DESCRIBED]

# One browser for all.
pytestmark = pytest.mark.xdist_group("browser")


@contextlib.contextmanager
def browser(folder):
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1000,800", f"--user-data-dir={folder}",
                     # Nobody but the stack answers.
                     "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"):
        options.add_argument(argument)
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(service=webdriver.chrome.service.Service("/usr/bin/chromedriver"), options=options)
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


def wait(page, condition, message, seconds=30):
    # React may put another element in the place of one that was just found.
    return WebDriverWait(page, seconds, poll_frequency=0.1, ignored_exceptions=[StaleElementReferenceException]).until(condition, message)


def find(page, selector, message=None):
    return wait(page, lambda d: d.find_elements(By.CSS_SELECTOR, selector), message or f"there is no {selector}")


def complaints(page):
    # Redoc's own picture of its maker, which is not ours to load from there.
    return [entry for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING") and "cdn.redoc.ly" not in entry["message"]]


def keep_picture(page, name):
    """Where somebody wants to look at it."""
    if folder := os.environ.get("FORKLOOP_PICTURES"):
        page.save_screenshot(os.path.join(folder, f"{name}.png"))


def open_docs(page, stack):
    page.get(f"http://127.0.0.1:{stack.port}/docs")
    find(page, ".opblock")


def test_swagger_ui_shows_both_groups(stack, page):
    open_docs(page, stack)
    groups = find(page, ".opblock-tag[data-tag]")
    assert [g.get_attribute("data-tag") for g in groups] == ["Sync routes", "Async routes"]
    assert len(find(page, ".opblock")) == len(OPERATIONS) == 44
    assert [a.get_attribute("href") for a in find(page, ".info hgroup a")] == [f"http://127.0.0.1:{stack.port}/openapi.json"]
    keep_picture(page, "docs")
    assert complaints(page) == []


def click(page, element):
    """As somebody does who has brought it into the middle of the window."""
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def try_out(page, operation, body=None, **parameters):
    """Opens an operation in Swagger UI, fills in its form, executes it and closes it again. Status, ETag and body as shown."""
    block = f'[id$="-{operation}"]'
    click(page, find(page, f"{block} .opblock-summary-control")[0])
    for name, value in parameters.items():
        name = name.replace("_", "-") if name[0].isupper() else name
        box = find(page, f'{block} tr[data-param-name="{name}"] input', message=f"{operation} has no box for {name}")[0]
        click(page, box)
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(value)
    if body is not None:
        text = find(page, f"{block} textarea.body-param__text")[0]
        click(page, text)
        text.send_keys(Keys.CONTROL, "a")
        text.send_keys(json.dumps(body))
    click(page, find(page, f"{block} button.execute")[0])
    shown = find(page, f"{block} .live-responses-table .response", message=f"{operation} was not answered")[0]
    status = int(shown.find_element(By.CSS_SELECTOR, ".response-col_status").text.split()[0])
    fields = dict(line.text.strip().split(": ", 1) for line in shown.find_elements(By.CSS_SELECTOR, ".headerline"))
    bodies = [json.loads(code.text) for code in shown.find_elements(By.CSS_SELECTOR, ".highlight-code pre")]
    keep_picture(page, f"docs-{operation}-{status}")
    # The next time nothing is to be there of this answer.
    click(page, find(page, f"{block} button.btn-clear")[0])
    wait(page, lambda d: not d.find_elements(By.CSS_SELECTOR, f"{block} .live-responses-table"), f"the answer to {operation} did not go")
    click(page, find(page, f"{block} .opblock-summary-control")[0])
    wait(page, lambda d: not d.find_elements(By.CSS_SELECTOR, f"{block} button.execute"), f"{operation} did not close")
    return status, fields.get("etag"), bodies[0] if bodies else None


@pytest.mark.parametrize("mode", MODES)
def test_an_order_lives_its_whole_life_in_swagger_ui(stocked, page, mode):
    open_docs(page, stocked)
    # First of all, since Swagger UI finds what a path item refers to as soon as another operation of it was opened.
    assert try_out(page, f"{mode}ReadOrder", id="1")[0] == 404
    assert [c["message"].split(" ")[0] for c in complaints(page)] == [f"http://127.0.0.1:{stocked.port}/{mode}/order/1"], "more than the 404"
    status, first, made = try_out(page, f"{mode}CreateOrder")
    assert (status, made) == (201, json.loads(EXAMPLE % 1))
    assert try_out(page, f"{mode}ReadOrder", id="1") == (200, first, made)
    status, second, changed = try_out(page, f"{mode}ChangeOrder", id="1", If_Match=first, body={"name": "SO001 b"})
    assert (status, changed) == (200, {**made, "name": "SO001 b"}) and second != first
    assert try_out(page, f"{mode}DeleteOrder", id="1", If_Match=second) == (204, None, None)
    assert stocked.psql('select count(*) from "order"') == [("0",)]
    assert complaints(page) == []


# To open, fill in and close a form costs the browser more than a second.
@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
def test_every_operation_can_be_tried(stocked, page, mode):
    open_docs(page, stocked)
    answers = {name: try_out(page, name)[0] for name in (f"{mode}Health", f"{mode}Live")}
    for resource in ("Contact", "Product", "Tag", "Order"):
        answers[f"{mode}Create{resource}"], _, made = try_out(page, f"{mode}Create{resource}")
        number = str(made["id"])
        answers[f"{mode}List{resource}s"], _, listed = try_out(page, f"{mode}List{resource}s", limit="1", after=str(made["id"] - 1))
        answers[f"{mode}Read{resource}"], _, read = try_out(page, f"{mode}Read{resource}", id=number)
        assert listed == [read] == [made]
        answers[f"{mode}Change{resource}"], _, changed = try_out(page, f"{mode}Change{resource}", id=number)
        assert changed["id"] == made["id"] and changed != made
        answers[f"{mode}Delete{resource}"], _, _ = try_out(page, f"{mode}Delete{resource}", id=number)
    special = {"Create": 201, "Delete": 204}
    assert answers == {name: special.get(name.removeprefix(mode)[:6], 200) for name in OPERATIONS if name.startswith(mode)}
    assert complaints(page) == []


def test_limits_are_shown_as_they_are(stack, page):
    open_docs(page, stack)
    click(page, find(page, '[id$="-syncCreateOrder"] .opblock-summary-control')[0])
    answer = '.opblock.is-open .response[data-code="201"]'
    click(page, find(page, f'{answer} button[data-name="model"]')[0])

    def unfolded(page):
        # It folds once by itself, when it has found what it refers to.
        text = find(page, f"{answer} .json-schema-2020-12")[0].text
        return text if "half-even" in text else click(page, find(page, f"{answer} .json-schema-2020-12-expand-deep-button")[0])

    text = wait(page, unfolded, "the schema did not unfold")
    keep_picture(page, "docs-limits")
    assert "9223372036854775807" in text and "white space" in text, text
    assert "9223372036854776000" not in text and "\\u" not in text and "matches" not in text, text


def test_an_answer_s_numbers_are_shown_as_they_came(stack, page):
    greatest = 2**63 - 1
    stack.psql(f"insert into contact (id, name, email) overriding system value values ({greatest}, 'Ann', 'a@b')")
    open_docs(page, stack)
    status, _, body = try_out(page, "syncReadContact", id=str(greatest))
    assert (status, body) == (200, {"id": greatest, "name": "Ann", "email": "a@b"})


def ground(page):
    """The colour in the corner: a screenshot of one pixel, which is compressed, but whose filter has nothing to refer to."""
    picture = page.execute_cdp_cmd("Page.captureScreenshot", {"clip": {"x": 2, "y": 2, "width": 1, "height": 1, "scale": 1}})
    chunks, data = base64.b64decode(picture["data"])[8:], b""
    while chunks:
        (length,) = struct.unpack(">I", chunks[:4])
        data += chunks[8:8 + length] if chunks[4:8] == b"IDAT" else b""
        chunks = chunks[12 + length:]
    return tuple(zlib.decompress(data)[1:4])


@pytest.mark.parametrize("path, ready", [("/", "main"), ("/docs", ".opblock"), ("/redoc", "h1")])
def test_a_page_is_dark_where_the_browser_is(stack, page, path, ready):
    for scheme, range_ in (("dark", range(0, 60)), ("light", range(200, 256))):
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        if scheme == "dark":
            page.get(f"http://127.0.0.1:{stack.port}{path}")
        find(page, ready)
        wait(page, lambda d: all(c in range_ for c in ground(d)), f"{path} is {ground(page)} where the browser is {scheme}", 5)


def test_redoc_shows_the_same(stack, page):
    page.get(f"http://127.0.0.1:{stack.port}/redoc")
    find(page, "h1", message="Redoc has not drawn anything")
    for group in ("Sync-routes", "Async-routes"):
        find(page, f'[data-item-id="tag/{group}"]')
    keep_picture(page, "redoc")
    assert complaints(page) == []


def test_the_front_page_s_links_lead_somewhere(stack, page):
    page.get(f"http://127.0.0.1:{stack.port}/")
    links = [a.get_attribute("href") for a in find(page, "a")]
    assert len(links) == 15
    for link in links:
        assert stack.request("GET", link.split(str(stack.port))[1]).status == 200, link
    keep_picture(page, "front")
    assert complaints(page) == []
