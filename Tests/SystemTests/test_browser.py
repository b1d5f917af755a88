"""The pages in a real browser: nothing is missing, nothing is fetched from elsewhere, and trying it out works."""

import contextlib
import json
import os

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from house import MODES
from test_api import EXAMPLE, ORDER

# One browser for all.
pytestmark = pytest.mark.xdist_group("browser")


@contextlib.contextmanager
def browser(folder):
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,1600", f"--user-data-dir={folder}",
                     # Nobody but the house answers.
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


def find(page, selector, seconds=30, message=None):
    return WebDriverWait(page, seconds).until(lambda d: d.find_elements(By.CSS_SELECTOR, selector), message or f"there is no {selector}")


def complaints(page):
    # Redoc's own picture of its maker, which is not ours to load from there.
    return [entry for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING") and "cdn.redoc.ly" not in entry["message"]]


def keep_picture(page, name):
    """Where somebody wants to look at it."""
    if folder := os.environ.get("FORKLOOP_PICTURES"):
        page.save_screenshot(os.path.join(folder, f"{name}.png"))


def test_swagger_ui_shows_both_groups(house, page):
    page.get(f"http://127.0.0.1:{house.port}/docs")
    groups = find(page, ".opblock-tag[data-tag]")
    assert [g.get_attribute("data-tag") for g in groups] == ["Sync routes", "Async routes"]
    assert len(find(page, ".opblock")) == 42
    keep_picture(page, "docs")
    assert complaints(page) == []


def trying(page, house, operation):
    """Opens an operation in Swagger UI and executes it as it is proposed; status and body as shown."""
    page.get(f"http://127.0.0.1:{house.port}/docs#/{'Sync' if operation.startswith('sync') else 'Async'}%20routes/{operation}")
    page.refresh()
    block = f'[id$="-{operation}"]'
    execute = find(page, f"{block} button.execute", message=f"{operation} did not open")[0]
    page.execute_script("arguments[0].scrollIntoView({block: 'center'}); arguments[0].click()", execute)
    status = find(page, f"{block} .live-responses-table .response-col_status", message="no answer was shown")[-1].text.split()[0]
    body = find(page, f"{block} .live-responses-table .highlight-code code, {block} .live-responses-table .highlight-code pre")[0].text
    return status, body


@pytest.mark.parametrize("mode", MODES)
def test_trying_it_out_posts_and_gets_an_order(stocked, page, mode):
    status, body = trying(page, stocked, f"{mode}CreateOrder")
    assert (status, json.loads(body)) == ("201", json.loads(EXAMPLE % 1))
    keep_picture(page, f"docs-{mode}-post")
    assert stocked.psql('select count(*) from "order"') == [("1",)]
    status, body = trying(page, stocked, f"{mode}ListOrders")
    assert (status, [o["name"] for o in json.loads(body)]) == ("200", [ORDER["name"]])
    keep_picture(page, f"docs-{mode}-get")
    assert complaints(page) == []


def test_redoc_shows_the_same(house, page):
    page.get(f"http://127.0.0.1:{house.port}/redoc")
    find(page, "h1", message="Redoc has not drawn anything")
    WebDriverWait(page, 30).until(lambda d: "Sync routes" in d.page_source and "Async routes" in d.page_source)
    keep_picture(page, "redoc")
    assert complaints(page) == []


def test_the_front_page_s_links_lead_somewhere(house, page):
    page.get(f"http://127.0.0.1:{house.port}/")
    links = [a.get_attribute("href") for a in find(page, "a")]
    assert len(links) == 15
    for link in links:
        assert house.request("GET", link.split(str(house.port))[1]).status == 200, link
    keep_picture(page, "front")
    assert complaints(page) == []
