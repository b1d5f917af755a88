"""docs/tutorial.md: its code is that of docs/tutorial.patch, which applies to the sources, builds, and does what the page shows."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

import local_stack
from local_stack import ROOT, LocalStack, clean_environment, temporary_folder

PATCH = ROOT / "docs/tutorial.patch"
# The language and the text of each block.
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "docs/tutorial.md").read_text(), re.M | re.S)
CODE = [(language, text) for language, text in BLOCKS if language != "console"]


def commands():
    """What the page has its reader type, and what is printed then; nothing where the page does not say."""
    lines = "".join(text for language, text in BLOCKS if language == "console")
    return re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", lines, re.M)


def after(patch):
    """What stands in the files behind a patch, as far as it shows them."""
    return "".join(line[1:] for line in patch.splitlines(keepends=True) if re.match(r"[+ ](?!\+\+ )", line))


def test_the_patch_applies_to_the_sources():
    if (ROOT / "Sources/Orders/Warehouse").exists():
        pytest.skip("somebody follows the tutorial here")
    done = subprocess.run(["git", "apply", "--check", PATCH], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"commit the sources, then run: make tutorial\n{done.stderr}"


def test_the_migration_has_the_next_number():
    def numbers(text):
        return [int(number) for number in re.findall(r"\bMigration\(\s*(\d+),", text)]

    released = [n for path in (ROOT / "Sources/Orders").glob("Schema*.swift") for n in numbers(path.read_text())]
    assert numbers(after(PATCH.read_text())) == [max(released) + 1], "mend it in what this leaves, and in the page: make tutorial ARGS=--edit"


@pytest.mark.parametrize("language, text", CODE, ids=[text.strip().splitlines()[0][:60] for _, text in CODE])
def test_the_code_of_the_page_stands_in_the_patch(language, text):
    patch = PATCH.read_text()
    assert text in (patch if language == "diff" else after(patch)), f"this is not in docs/tutorial.patch any more:\n{text}"


@pytest.fixture(scope="module")
def checkout():
    """A clean copy of what is under version control here."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    # On disk: what is built is large.
    with tempfile.TemporaryDirectory(prefix="forkloop-") as folder:
        os.chmod(folder, 0o755)  # The servers' own users run it, too.
        copy = pathlib.Path(folder, "forkloop")
        for name in filter(lambda name: name and (ROOT / name).exists(), names):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
        # What has been fetched from elsewhere; all else is built.
        (copy / ".build").mkdir()
        for part in ("checkouts", "repositories", "workspace-state.json"):
            subprocess.run(["cp", "-a", ROOT / ".build" / part, copy / ".build"], check=True)
        yield copy


@pytest.mark.long
def test_who_types_what_the_page_says_sees_what_it_shows(checkout, monkeypatch):
    monkeypatch.setattr(local_stack, "ROOT", checkout)
    monkeypatch.setattr(local_stack, "PROGRAM", f"{checkout}/.build/release/forkloop")
    # Other tests' state is not for this program, nor this one's for theirs.
    monkeypatch.setattr(LocalStack, "template", None)
    with temporary_folder() as folder, contextlib.ExitStack() as exits:
        port = 8080
        for command, expected in commands():
            if command == "make up":
                stack = LocalStack(folder)
                exits.callback(stack.stop)
                port = stack.port
                continue
            done = subprocess.run(
                ["bash", "-c", command.replace("localhost:8080", f"localhost:{port}")], cwd=checkout, env=clean_environment(),
                capture_output=True, text=True, timeout=1800)
            assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}{done.stderr[-6000:]}"
            assert not expected or done.stdout.rstrip("\n") == expected.rstrip("\n"), f"{command}\n{done.stdout}{done.stderr}"
        assert port != 8080
