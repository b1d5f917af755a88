"""What the help of every command says of settings, and what the code does: found, not listed, so that a new setting is among them."""

import functools
import pathlib
import re
import subprocess
from typing import NamedTuple

from local_stack import PROGRAM, ROOT, clean_environment


class Setting(NamedTuple):
    name: str
    flag: str | None
    default: str | None
    command: str


def run(*arguments, cwd="/", **environment):
    """As it is when nobody has set anything. Bytes that are no UTF-8 are shown as such."""
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, errors="replace", timeout=60, cwd=cwd, env=clean_environment(**environment))


@functools.cache
def helps():
    """The help of each command, an option a line; the root's under ''."""
    wide = {"COLUMNS": 100_000}
    root = run("--help", **wide).stdout
    commands = re.findall(r"^  ([a-z-]+) ", root[root.index("SUBCOMMANDS:"):], re.MULTILINE)
    return {"": root, **{command: run(command, "--help", **wide).stdout for command in commands}}


@functools.cache
def settings():
    """Every setting that some help names in brackets."""
    found = {}
    for command, text in helps().items():
        flag = None
        for line in text.splitlines():
            flag = next(iter(re.findall(r"^  (--[a-z-]+)", line)), flag if line.startswith("    ") else None)
            for names, default in re.findall(r"\[(FORKLOOP_[^\]]+)\](?: \(default: ([^)]*)\))?", line):
                for name in names.split(", "):
                    name = name.split("=")[0]
                    found.setdefault(name, Setting(name, flag, default or None, command))
    return found


def sources(*folders):
    return {path: path.read_text() for folder in folders for path in sorted(pathlib.Path(ROOT, folder).rglob("*.swift"))}


def defaults_of_the_code():
    """What the commands fall back to, where that is a number or a text: by the setting's name."""
    name = r'"((?:FORKLOOP_|\\\(Name\.prefix\))[A-Z_]+)"'
    forms = [name + r",(?:\s*in: [^,]+,)?\s*default:\s*((?:[^(),]|\([^)]*\))+)", r"settings\[" + name + r'\] \?\? ("[^"]*")']
    found = {}
    for text in sources("Sources/forkloop").values():
        for form in forms:
            for name, fallback in re.findall(form, text):
                literal = re.fullmatch(r'(?:.*\?\? )?(?:([\d_]+)|"(.+)")', fallback.strip(), re.DOTALL)
                if literal:
                    for prefix in ("FORKLOOP_SYNC_", "FORKLOOP_ASYNC_"):
                        found[name.replace("\\(Name.prefix)", prefix)] = literal[2] or literal[1].replace("_", "")
    return found
