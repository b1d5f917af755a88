"""The findings of docs/findings: pages, scripts and `make finding` agree, and the claims hold in a small run."""

import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as xml

import pytest

from local_stack import PROGRAM, ROOT

SCRIPTS = sorted(path for path in pathlib.Path(ROOT, "benchmarks/findings").iterdir() if path.name[0].isdigit())
PAGES = pathlib.Path(ROOT, "docs/findings")

each_finding = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)


def claim(script):
    return re.search(r'"""(.*)\.$', script.read_text(), re.MULTILINE)[1]


def page(script):
    return (PAGES / f"{script.name}.md").read_text()


def graph(script):
    root = xml.parse(PAGES / f"{script.name}.svg").getroot()
    return {part: root.findtext(f"{{http://www.w3.org/2000/svg}}{part}") for part in ("title", "desc", "style")}


def numbers(text):
    return {float(number) for number in re.findall(r"\d+(?:\.\d+)?", text.replace(",", ""))}


def run(script, *arguments, program=PROGRAM, code):
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=100,
                          env={**os.environ, "FORKLOOP": str(program)})
    assert done.returncode == code, f"it ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def make(*arguments):
    """As from a shell, though the tests were started by make."""
    outside = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, env=outside)


def test_each_finding_has_a_script_a_page_and_a_graph():
    assert {path.stem for path in PAGES.iterdir()} == {script.name for script in SCRIPTS} and len(SCRIPTS) == 2
    assert len(list(PAGES.iterdir())) == 2 * len(SCRIPTS)


@each_finding
def test_a_page_makes_the_claim_of_its_script_and_says_how_to_redo_it(script):
    text = page(script)
    assert text.startswith(f"# {claim(script)}\n") and graph(script)["title"] == claim(script)
    assert re.findall(r"^make finding N=(\d+)", text, re.MULTILINE) == [script.name.split("-")[0]]
    assert f"]({script.name}.svg)" in text and "## What would refute it" in text
    assert re.search(r"https://github.com/[\w-]+/[\w-]+/(issues|pull)/\d+", text.split("## Who asks for it")[1])


@each_finding
def test_a_graph_shows_the_run_that_its_page_tells(script):
    (told,) = re.findall(r"```text\n(.*?)```", page(script), re.DOTALL)
    assert "The claim holds." in told and "Debian" in told
    assert not numbers(graph(script)["desc"]) - numbers(told)
    assert "prefers-color-scheme: dark" in graph(script)["style"]


@each_finding
def test_make_redoes_a_finding(script):
    done = make("-n", "finding", f"N={script.name.split('-')[0]}", "ARGS=--quick")
    lines = done.stdout.splitlines()
    assert lines[-1].endswith(f" benchmarks/findings/{script.name} --quick"), done
    assert any("swift build" in line for line in lines[:-1]), "it does not build the program first"


@pytest.mark.parametrize("number", ["", "9"])
def test_make_tells_which_findings_there_are(number):
    done = make("finding", f"N={number}")
    assert done.returncode != 0 and all(script.name in done.stderr for script in SCRIPTS), done


@each_finding
def test_what_can_t_be_measured_is_no_refutation(script, tmp_path):
    assert "could not be measured" in run(script, "--quick", f"--out={tmp_path}/graph.svg", program="/bin/false", code=2)


# What makes the claim wrong: connections are not kept, reads are not shared.
BROKEN = {
    "1-keep-alive": 'for flag; do shift; [ "$flag" = --keep-alive ] || set -- "$@" "$flag"; done',
    "2-shared-reads": "export FORKLOOP_ASYNC_SHARE_READS=0",
}


@pytest.mark.long
@each_finding
def test_a_claim_holds_in_a_small_run(script, tmp_path):
    assert "The claim holds." in run(script, "--quick", f"--out={tmp_path}/graph.svg", code=0)
    assert xml.parse(tmp_path / "graph.svg").getroot().findtext("{http://www.w3.org/2000/svg}title") == claim(script)


@pytest.mark.long
@each_finding
def test_a_claim_does_not_hold_for_a_program_that_does_otherwise(script, tmp_path):
    program = tmp_path / "forkloop"
    program.write_text(f'#!/bin/bash\n{BROKEN[script.name]}\nexec {PROGRAM} "$@"\n')
    program.chmod(0o755)
    assert "against the claim" in run(script, "--quick", f"--out={tmp_path}/graph.svg", program=program, code=1)
