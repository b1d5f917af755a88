"""The comparison: a quick one in whole, its page in a real browser, and ways to end it."""

import json
import os
import pathlib
import re
import signal
import subprocess

import pytest
from selenium.webdriver.common.by import By

from local_stack import PROGRAM, ROOT, clean_environment, eventually, temporary_folder
from test_browser import browser, find, keep_picture

# One run for all that look at it, and one browser.
pytestmark = pytest.mark.xdist_group("compare")

SCENARIOS = ["same", "read", "rate", "nested", "write", "mix", "slow-database", "head-of-line", "fan-out", "large", "burst", "slow-clients",
             "idle-clients", "idle-fastcgi", "few-connections", "kill", "restart", "reload", "fairness"]


def scratch(log):
    """The scratch folder of a run, by what it told."""
    named = re.search(r"making a scratch database in (/tmp/forkloop-compare\.\w+)", log)
    return named and named[1]


def compare(out, *flags, code=0, timeout=1800):
    done = subprocess.run([PROGRAM, "compare", "--out", str(out), *flags], capture_output=True, text=True, cwd=ROOT, env=clean_environment(), timeout=timeout)
    assert done.returncode == code, done.stderr
    folder = scratch(done.stderr)
    assert folder is None or not os.path.exists(folder), "it left its scratch folder behind"
    return done


@pytest.fixture(scope="module", params=[1, pytest.param(3, marks=pytest.mark.long)], ids=["once", "thrice"])
def quick(request, tmp_path_factory):
    """A quick run of everything: minutes, even with every cell run there and back only once."""
    out = tmp_path_factory.mktemp("report")
    done = compare(out, "--quick", "--repeats", str(request.param))
    return out, done, json.loads((out / "data.json").read_text())


def repeated(out, folder):
    """A page of the same samples as if they had been taken at least three times: no verdict is given of fewer."""
    data = json.loads((out / "data.json").read_text())
    times = -(-3 // data["repeats"])
    data["repeats"] *= times
    for scenario in data["scenarios"]:
        for cell in scenario["cells"]:
            cell["samples"] *= times
    (folder / "samples.json").write_text(json.dumps(data))
    compare(folder, "--open-report", f"{folder}/samples.json")
    return folder


@pytest.fixture(scope="module")
def shown(quick, tmp_path_factory):
    return repeated(quick[0], tmp_path_factory.mktemp("page"))


def test_a_quick_run_runs_everything(quick):
    out, done, data = quick
    assert data["isComplete"] and [s["name"] for s in data["scenarios"]] == SCENARIOS
    assert data["answersThatDiffer"] == [] and len(data["answersCompared"]) == 15
    for scenario in data["scenarios"]:
        for cell in scenario["cells"]:
            assert len(cell["samples"]) == 2 * data["repeats"], f"{scenario['name']}: as often there as back"
    assert done.stdout.splitlines()[-1] == f"{out}/index.html"
    assert len([line for line in done.stdout.splitlines() if line.startswith("- ")]) == 5


def test_every_sample_keeps_its_histogram_and_what_it_cost(quick):
    _, _, data = quick
    for scenario in data["scenarios"]:
        for cell in scenario["cells"]:
            for sample in cell["samples"]:
                load = sample["load"]
                answered = sum(kind["answered"] for kind in load["kinds"])
                assert sum(count for _, count in load["latencies"]["histogram"]) == answered
                # A PostgreSQL that was started anew meanwhile has used nothing before.
                if answered > 1000 and scenario["name"] != "restart":
                    assert min(sample[group]["cpu"] for group in ("nginx", "responder", "postgres")) > 0, scenario["name"]
                    assert sample["responderMemory"] > 1 << 20 and sample["postgresMemory"] > 1 << 20
    assert data["ceiling"] > 0 and data["machine"]["versions"].keys() >= {"forkloop", "nginx", "PostgreSQL"}


def test_the_data_show_what_each_scenario_is_about(quick):
    _, _, data = quick
    cells = {s["name"]: s["cells"] for s in data["scenarios"]}

    def of(name, model, **more):
        return [c for c in cells[name] if c["cell"]["setup"]["model"] == model and all(c["cell"][k] == v for k, v in more.items())][0]["samples"]

    # Eight workers, eight idle connections: nobody is left to answer. The loop does not notice.
    assert all(s["load"]["completed"] == 0 for s in of("idle-fastcgi", "prefork"))
    assert all(s["load"]["completed"] > 0 for s in of("idle-fastcgi", "loop"))
    # A connection to the database works on one statement at a time.
    for model in ("prefork", "loop"):
        for sample in of("slow-database", model, amount=100, concurrency=64):
            assert 0 < sample["load"]["completed"] <= 8 * (sample["load"]["seconds"] / 0.1 + 1)
    # What is not about failures has none.
    for name in ("same", "read", "nested", "write", "mix", "slow-database", "head-of-line", "fan-out", "large", "idle-clients", "fairness"):
        for cell in cells[name]:
            for sample in cell["samples"]:
                assert [kind["refused"] or kind["broken"] for kind in sample["load"]["kinds"]] == [0] * len(sample["load"]["kinds"]), (name, cell["cell"])
    assert all(s["load"]["idle"] == 2000 for model in ("prefork", "loop") for s in of("idle-clients", model))
    # Without nginx's buffers slow clients hold up the pool.
    assert sum(s["load"]["completed"] for s in of("slow-clients", "prefork", isBuffered=False)) < sum(
        s["load"]["completed"] for s in of("slow-clients", "prefork", isBuffered=True)) / 2
    # A reload loses nothing.
    for model in ("prefork", "loop"):
        assert [s["load"]["kinds"][0]["broken"] for s in of("reload", model)] == [0] * 2 * data["repeats"]
    # A restart is seen in the time-line of everybody, unless a busy machine is late with it.
    for model in ("prefork", "loop"):
        assert any(step["failed"] for s in of("restart", model) for step in s["load"]["timeline"]), model
    fairness = {c["cell"]["fairness"] for c in cells["fairness"]}
    assert fairness == {"connections", "memory", "cpu", "best"}
    pinned = [c for c in cells["fairness"] if c["cell"]["fairness"] == "cpu"]
    assert all(c["cell"]["setup"]["isPinned"] for c in pinned)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


def open_page(page, out, width, theme):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]})
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False})
    page.get(f"file://{out}/index.html")
    find(page, "#summary")


@pytest.mark.parametrize("width, theme", [(1200, "light"), (1200, "dark"), (390, "light"), (390, "dark")])
def test_the_page_opens_from_disk_and_draws_everything(shown, page, width, theme):
    open_page(page, shown, width, theme)
    charts = find(page, "canvas")
    assert len(charts) == 22
    assert [c.get_attribute("id") for c in charts if c.get_attribute("data-drawn") != "yes"] == []
    for chart in charts:
        drawn = page.execute_script("""
            const c = arguments[0], d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
            const colours = new Set(); for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 200) colours.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]);
            return colours.size""", chart)
        assert drawn > 3, f"{chart.get_attribute('id')} is blank"
        assert chart.get_attribute("role") == "img" and len(chart.get_attribute("aria-label")) > 40
    assert page.get_log("browser") == []
    # Nothing has to be scrolled sideways but what says so itself.
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    height = page.execute_script("return document.documentElement.scrollHeight")
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
    keep_picture(page, f"compare-{width}-{theme}")


def test_paper_is_white_and_the_charts_fit_it(shown, page):
    open_page(page, shown, 1200, "dark")
    ink = "getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()"
    page.execute_script(f"window.printed = []; addEventListener('beforeprint', () => printed.push({ink}))")
    assert len(page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]) > 50_000
    assert page.execute_script("return printed") == ["#1c2024"] and page.execute_script(f"return {ink}") == "#e8eaed"
    # As for print, which redraws nothing: a chart is scaled as a picture is, and stays in its figure.
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    outside = page.execute_script("""
        return [...document.querySelectorAll('canvas')].filter((canvas) => {
            const inner = canvas.getBoundingClientRect(), outer = canvas.closest('figure').getBoundingClientRect();
            const isWhole = Math.abs(inner.width / inner.height - canvas.width / canvas.height) < 0.02;
            return !isWhole || inner.left < outer.left || inner.right > outer.right || inner.bottom > outer.bottom;
        }).map((canvas) => canvas.id)""")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert outside == []


def test_the_page_can_be_read_without_seeing_it(shown, page):
    open_page(page, shown, 1200, "light")
    assert len(page.find_elements(By.CSS_SELECTOR, "#summary li")) == 5
    headings = [h.text for h in page.find_elements(By.CSS_SELECTOR, "h2")]
    assert headings[:2] == ["Summary", "At a glance"] and headings[-1] == "How it was measured" and len(headings) == len(SCENARIOS) + 3
    # Each chart has its figures in a table with headings, each section a sentence, each link a place.
    for figure in page.find_elements(By.CSS_SELECTOR, "figure"):
        assert figure.find_elements(By.CSS_SELECTOR, "details table th[scope=col]") and figure.find_elements(By.CSS_SELECTOR, "figcaption")
    for section in page.find_elements(By.CSS_SELECTOR, "main section:not(#controls):not(#summary)"):
        assert section.find_elements(By.CSS_SELECTOR, ".findings li"), section.get_attribute("id")
    for link in page.find_elements(By.CSS_SELECTOR, "nav a"):
        assert page.find_elements(By.ID, link.get_attribute("href").split("#")[1])
    text = (shown / "index.html").read_text()
    assert not re.search(r'(?:src|href)="(?!#|data:,)', text), "it fetches something"
    assert not re.search(r"\b(?:NaN|inf|undefined)\b", page.find_element(By.TAG_NAME, "main").text)


def test_the_page_can_be_drawn_again(quick, tmp_path):
    out, _, _ = quick
    done = compare(tmp_path, "--open-report", f"{out}/data.json")
    assert (tmp_path / "index.html").read_text() == (out / "index.html").read_text()
    assert "- " in done.stdout


@pytest.mark.parametrize("repeats", [1, pytest.param(3, marks=pytest.mark.long)])
def test_a_model_can_be_made_a_fifth_slower_on_purpose(tmp_path, repeats):
    compare(tmp_path, "--quick", "--handicap", "--scenario", "same", "--repeats", str(repeats))
    (tmp_path / "page").mkdir()
    cells = {s["name"]: s["cells"] for s in json.loads((tmp_path / "data.json").read_text())["scenarios"]}["handicap"]
    assert [c["cell"]["setup"]["model"] for c in cells] == ["prefork", "prefork"]
    usual, slowed = (c["cell"]["setup"]["handicap"] for c in cells)
    assert usual == 0 and slowed > 0 and all(len(c["samples"]) == 2 * repeats for c in cells)
    for sample in cells[1]["samples"]:
        assert sample["load"]["completed"] > 0 and sample["load"]["latencies"]["p50"] >= slowed
    # Whether it is found depends on what else the machine does; that the page says so, and with what interval, does not.
    text = (repeated(tmp_path, tmp_path / "page") / "index.html").read_text()
    assert f"computing for {slowed} µs more" in text
    missed, low, high = re.search(r"The slowed pool was (not )?found[^<]*ratio: ([\d.]+) to ([\d.]+)\)", text).groups()
    assert float(low) <= float(high) and (missed or float(low) >= 1), text


def test_ctrl_c_leaves_a_report_of_what_was_done(tmp_path):
    with open(tmp_path / "log", "w+") as log:
        process = subprocess.Popen(
            [PROGRAM, "compare", "--quick", "--repeats", "1", "--scenario", "same", "--scenario", "read", "--scenario", "burst", "--out", str(tmp_path / "out")],
            # What the environment says of libpq leads nowhere else: a database is dropped there.
            stdout=log, stderr=log, cwd=ROOT, env=clean_environment(PGHOSTADDR="127.0.0.1", PGSERVICE="nosuch", PGSSLMODE="bogus"))
        eventually(lambda: "The same against itself" in pathlib.Path(log.name).read_text(), 120)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    data = json.loads((tmp_path / "out/data.json").read_text())
    assert not data["isComplete"] and "same" in [s["name"] for s in data["scenarios"]]
    assert "stopped before its end" in (tmp_path / "out/index.html").read_text()
    assert not os.path.exists(scratch((tmp_path / "log").read_text())), "it left its scratch folder behind"


@pytest.mark.parametrize("flags, words", [
    (["--scenario", "nothing"], "there is no scenario 'nothing': choose from same, read"), (["--repeats", "0"], "--repeats must be from 1 to 1000"),
    (["--open-report", "/nowhere"], "/nowhere can't be read")])
def test_a_wrong_flag_is_told_in_a_line(tmp_path, flags, words):
    assert words in compare(tmp_path, *flags, code=2).stderr
