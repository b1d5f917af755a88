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
