"""README and docs: short enough, each page for somebody, and right where a machine can tell: links, paths, targets, commands, code."""

import functools
import pathlib
import re
import subprocess

import pytest

from local_stack import ROOT
from settings_help import helps, settings

README = pathlib.Path(ROOT, "README.md")
PAGES = sorted(path for path in [*pathlib.Path(ROOT).glob("*.md"), *pathlib.Path(ROOT, "docs").rglob("*.md")])
# Whose code is compared with other things than the sources, or shows what is wrong on purpose; and which files they have readers make.
CODE_OF_THEIR_OWN = {"docs/tutorial.md", "docs/sync-and-async.md"}

# The changelog tells of commands, flags and settings that are no more.
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

each_current_page = pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))


def name(page):
    return str(page.relative_to(ROOT))


def prose(text):
    """Without fenced code."""
    return re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)


def fenced(text, *languages):
    return [body for _, language, body in re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL) if language in languages]


@functools.cache
def anchors(page):
    """What GitHub makes of headings."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return found


@functools.cache
def tracked():
    return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


# --- for readers

def test_the_readme_is_read_in_five_minutes():
    """Words as `wc -w` counts them, of all but fenced code: tables count."""
    words = len(prose(README.read_text()).split())
    assert words <= 1200, f"README.md has {words} words"


@each_page
def test_a_page_says_for_whom_it_is(page):
    if page == README:
        assert "It is for people who" in page.read_text()
        return
    first = re.sub(r"^#.*$|<!--.*?-->", "", page.read_text(), count=1, flags=re.MULTILINE).strip().split("\n\n")[0]
    assert re.match(r"For (whoever|anyone|those|people|you)\b", first), f"{name(page)} begins: {first[:100]}"


@each_page
def test_sentences_are_short(page):
    text = "\n".join(line for line in prose(page.read_text()).splitlines() if not line.startswith(("|", "#")))
    text = re.sub(r"`[^`]*`", "code", re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text))
    paragraphs = re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.) ", text)
    lengths = [len(sentence.split()) for paragraph in paragraphs for sentence in re.split(r"(?<=[.!?])\s+", paragraph) if sentence.split()]
    mean = sum(lengths) / len(lengths)
    assert mean <= 20, f"{name(page)}: {mean:.1f} words to a sentence"


# --- links and places

@each_page
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text()))
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)}: there is no {link}"
        assert target.is_relative_to(ROOT), f"{name(page)}: {link} leads out of the repository"
        if anchor:
            assert anchor in anchors(target), f"{name(page)}: {link}; there are {sorted(anchors(target))}"


def test_every_page_is_reached_from_the_readme():
    reached, waiting = set(), [README]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)\s#]+\.md)", prose(page.read_text()))
        waiting += [target for link in links if (target := (page.parent / link).resolve()).exists()]
    assert not [name(page) for page in PAGES if page not in reached]


@each_page
def test_paths_in_a_text_exist(page):
    if name(page) in CODE_OF_THEIR_OWN:
        pytest.skip("its readers make files")
    folders = "|".join(sorted({path.split("/")[0] for path in tracked() if "/" in path}))
    made = ("nginx/assets/", "var/")
    for path in re.findall(rf"`((?:{folders})/[^`\s]*)`", prose(page.read_text())):
        plain = path.rstrip("/…*")
        assert path.startswith(made) or pathlib.Path(ROOT, plain).exists(), f"{name(page)}: there is no {path}"


@each_page
def test_a_name_in_a_file_is_there(page):
    for symbol, path in re.findall(r"`([\w.]+)` in `([\w/+.]+\.swift)`", page.read_text()):
        assert symbol.split(".")[-1] in pathlib.Path(ROOT, path).read_text(), f"{name(page)}: no {symbol} in {path}"


def structure():
    (table,) = re.findall(r"## Project structure\n\n((?:\|.*\n)+)", README.read_text())
    return {path for row in table.splitlines()[2:] for path in re.findall(r"`([^`]+)`", row.split("|")[1])}


def dependencies():
    """Of each target that is no test: the targets that it depends on."""
    package = re.sub(r"\.product\([^)]*\)|//.*", "", pathlib.Path(ROOT, "Package.swift").read_text())
    targets = re.split(r"\.(?:target|executableTarget|systemLibrary)\(", package.split("testTarget")[0])[1:]
    named = [(re.search(r'name: "(\w+)"', target)[1], re.search(r"dependencies: \[(.*?)\]", target, re.DOTALL)) for target in targets]
    return {target: set(re.findall(r'"(\w+)"', found[1])) if found else set() for target, found in named}


def test_the_architecture_says_who_may_import_whom():
    text = pathlib.Path(ROOT, "docs/architecture.md").read_text()
    (table,) = re.findall(r"\| target \| may import \|\n\|---\|---\|\n((?:\|.*\n)+)", text)
    rows = [[re.findall(r"`(\w+)`", cell) for cell in row.split("|")[1:3]] for row in table.splitlines()]
    assert {target: set(imported) for targets, imported in rows for target in targets} == dependencies()


def test_the_project_structure_has_every_folder_and_every_target():
    folders = {path.split("/")[0] for path in tracked() if "/" in path}
    targets = {f"Sources/{target}" for target in dependencies()}
    tests = set(re.findall(r'\.testTarget\(\s*name: "(\w+)"', pathlib.Path(ROOT, "Package.swift").read_text()))
    # The folder Sources is its targets.
    assert structure() == targets | folders - {"Sources"}
    assert len(targets) > 15 and all(pathlib.Path(ROOT, target).is_dir() for target in targets)
    assert {path.name for path in pathlib.Path(ROOT, "Tests").iterdir() if path.name.endswith("Tests")} == tests | {"SystemTests"}


# --- commands

def commands(text):
    """Of a text's shell blocks and of its code in lines: the words behind `forkloop`, up to whatever ends a command."""
    lines = [re.sub(r"'[^']*'|(^|\s)#.*", "", line) for block in fenced(text, "sh", "console") for line in block.splitlines()]
    lines += re.findall(r"`((?:forkloop|make|eval) [^`]*)`", prose(text))
    for line in lines:
        for words in re.findall(r"(?:^|[\s(/])forkloop ((?:[a-z]|--)[^|;&)`]*)", line):
            yield words.replace("[", "").replace("]", "").split()


@each_current_page
def test_commands_and_flags_are_those_of_the_help(page):
    for command, *arguments in commands(page.read_text()):
        if command.startswith("--"):
            assert command in ("--version", "--help"), f"{name(page)}: forkloop {command}"
            continue
        assert command in helps(), f"{name(page)}: there is no 'forkloop {command}'"
        for flag in [argument.split("=")[0] for argument in arguments if argument.startswith("--")]:
            assert re.search(rf"{flag}\b(?!-)", helps()[command]), f"{name(page)}: 'forkloop {command}' has no {flag}"


@each_current_page
def test_flags_in_a_text_are_those_of_some_command(page):
    """But for Docker's."""
    for flag in re.findall(r"`(--[a-z-]+)[^`]*`", prose(page.read_text())):
        assert flag == "--cap-add" or any(re.search(rf"{flag}\b(?!-)", text) for text in helps().values()), f"{name(page)}: no command has {flag}"


@each_current_page
def test_settings_in_a_text_exist(page):
    ours_alone = {"FORKLOOP_NO_ENV_FILE", "FORKLOOP_SIGNALS", "FORKLOOP_LONG_TESTS"}
    for setting in re.findall(r"\bFORKLOOP_[A-Z_]*[A-Z]\b(?![_{])", page.read_text()):
        assert setting in settings() or setting in ours_alone, f"{name(page)}: there is no setting {setting}"


@each_page
def test_targets_of_make_exist(page):
    makefile = pathlib.Path(ROOT, "Makefile").read_text()
    text = page.read_text()
    named = re.findall(r"^make ([a-z-]+)", "\n".join(fenced(text, "sh", "console")), re.MULTILINE) + re.findall(r"`make ([a-z-]+)", prose(text))
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{name(page)}: there is no 'make {target}'"


def test_the_readme_has_the_test_command_of_continuous_integration():
    assert "\nmake test" in pathlib.Path(ROOT, ".ci/run").read_text() and "\nmake test " in README.read_text()


# --- code

@each_page
def test_code_is_cut_from_the_sources(page):
    if name(page) in CODE_OF_THEIR_OWN:
        pytest.skip("its code has a test of its own")
    sources = [path.read_text() for path in pathlib.Path(ROOT, "Sources").rglob("*.swift")]
    for block in fenced(page.read_text(), "swift"):
        assert any(block in source for source in sources), f"{name(page)}: not in the sources:\n{block}"


def test_the_changelog_has_the_program_s_version():
    version = re.search(r'static let version = "([^"]+)"', pathlib.Path(ROOT, "Sources/Orders/Orders.swift").read_text())[1]
    released = re.findall(r"^## (\S+)", pathlib.Path(ROOT, "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[:2] == ["Unreleased", version] or released[:1] == [version], released
