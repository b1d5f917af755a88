"""The same request in both servers: the two functions that README shows."""

import pathlib
import re

import pytest
from local_stack import ROOT

PAIR = ["Sources/SyncServer/Worker.swift", "Sources/AsyncServer/ClientConnection.swift"]


def function(path):
    """`respond(to:)` as it stands in a source, from its declaration to its closing brace."""
    (found,) = re.findall(r"^  private [a-z ]*func respond\(to request.*?^  }$", pathlib.Path(ROOT, path).read_text(), re.MULTILINE | re.DOTALL)
    return found


def test_readme_shows_the_pair_as_it_stands_in_the_sources():
    shown = re.findall(r"```swift\n(  private .*?func respond.*?)\n```", pathlib.Path(ROOT, "README.md").read_text(), re.DOTALL)
    assert shown == [function(path) for path in PAIR]


def test_the_pair_differs_in_nothing_but_how_it_waits():
    blocking, awaiting = (function(path).splitlines()[1:] for path in PAIR)
    awaiting = [line.replace("await database.execute(query, for: request)", "execute(query)")
                    .replace("await request.sleep(duration, on: server.loop, then)", "sleep(duration, then)") for line in awaiting]
    assert blocking == awaiting


SERVERS = ["SyncServer", "AsyncServer"]
# What runs in the servers, and so is none of their business.
APPLICATIONS = {"Orders", "Workload"}


def imports(path):
    return set(re.findall(r"^[ \w@]*\bimport (?:(?:class|struct|enum|protocol|func|var|let|typealias) )?(\w+)", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("server", SERVERS)
def test_the_servers_know_no_application(server):
    """Nor do they make JSON, but for what they say of themselves."""
    sources = list(pathlib.Path(ROOT, "Sources", server).rglob("*.swift"))
    assert sources
    found = {path.name: imports(path) & (APPLICATIONS | {"JSON"}) for path in sources}
    assert {name: names for name, names in found.items() if names} == {"StatusPage.swift": {"JSON"}}


@pytest.mark.parametrize("target", [*SERVERS, "Application"])
def test_nor_does_the_package_give_them_one(target):
    package = pathlib.Path(ROOT, "Package.swift").read_text()
    (dependencies,) = re.findall(rf'\.target\(\s*name: "{target}",\s*dependencies: \[(.*?)\](?:,\s*swiftSettings|\))', package, re.DOTALL)
    names = set(re.findall(r'"(\w+)"', dependencies))
    assert "Postgres" in names and not names & APPLICATIONS, f"{target} depends on {sorted(names)}"


def test_a_loop_s_tasks_are_started_in_one_place():
    """There the compiler is told that they stay on the loop's thread; elsewhere it finds out what does not."""
    starts = r"\bTask\s*(?:\([^)]*\)\s*)?\{|\bTask\.detached|\baddTask\b|withDiscardingTaskGroup|withTaskGroup"
    found = {str(path.relative_to(ROOT)) for path in pathlib.Path(ROOT, "Sources").rglob("*.swift") if re.search(starts, path.read_text())}
    assert found == {"Sources/EventLoop/EventLoop.swift"}
    claims = {str(path.relative_to(ROOT)) for path in pathlib.Path(ROOT, "Sources").rglob("*.swift")
              if "@unchecked Sendable" in path.read_text()}
    # The executor; shared memory.
    assert claims == {"Sources/EventLoop/EventLoop.swift", "Sources/ProcessPool/Scoreboard.swift"}
