"""The same request in both servers: the two functions that README shows."""

import pathlib
import re

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
    awaiting = [line.replace("await database.execute(operation, for: request)", "execute(operation)").replace("= begin(", "= application.begin(")
                for line in awaiting]
    assert blocking == awaiting


def test_a_loop_s_tasks_are_started_in_one_place():
    """There the compiler is told that they stay on the loop's thread; elsewhere it finds out what does not."""
    starts = r"\bTask\s*(?:\([^)]*\)\s*)?\{|\bTask\.detached|\baddTask\b|withDiscardingTaskGroup|withTaskGroup"
    found = {str(path.relative_to(ROOT)) for path in pathlib.Path(ROOT, "Sources").rglob("*.swift") if re.search(starts, path.read_text())}
    assert found == {"Sources/EventLoop/EventLoop.swift"}
    claims = {str(path.relative_to(ROOT)) for path in pathlib.Path(ROOT, "Sources").rglob("*.swift")
              if "@unchecked Sendable" in path.read_text()}
    # The executor; shared memory; what libpq allows any thread to use (PQcancel).
    assert claims == {"Sources/EventLoop/EventLoop.swift", "Sources/ProcessPool/Scoreboard.swift", "Sources/Postgres/Cancellation.swift"}
