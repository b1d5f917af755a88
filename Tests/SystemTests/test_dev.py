"""`make dev`: what changes is built and reloaded, what can't be built is told."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import urllib.request

import pytest

from local_stack import PROGRAM, ROOT, clean_environment, eventually, free_port, temporary_folder


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_a_change_is_built_and_reloaded_and_a_fault_is_told():
    with temporary_folder() as folder:
        port, source, fault, output = free_port(), pathlib.Path(folder, "source"), pathlib.Path(folder, "fault"), pathlib.Path(folder, "output")
        source.touch()
        command = ["make", "dev", f"BUILD_DEV=test ! -e {fault}", f"DEV={PROGRAM}", f"DEV_SOURCES={source}", f"ARGS=--port {port} --state {folder}/state"]
        with open(output, "w") as to:
            dev = subprocess.Popen(command, cwd=ROOT, env=clean_environment(PATH=os.environ["PATH"]), stdout=to, stderr=to, start_new_session=True)

        def status(mode):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{mode}/status", timeout=5) as answer:
                return json.load(answer)

        def changed(says):
            os.utime(source)
            eventually(lambda: output.read_text().endswith(says), 10, f"it does not say {says!r}")

        try:
            eventually(lambda: "Ctrl-C stops everything" in output.read_text() or dev.poll() is not None, 30, "it did not start")
            masters = {mode: status(mode)["master"] for mode in ("sync", "async")}
            changed("built and reloaded\n")
            for mode, master in masters.items():
                eventually(lambda: status(mode)["reloads"] == 1, 10, f"{mode} was not reloaded")
                assert status(mode)["master"] == master, f"{mode} was started anew"
            fault.touch()
            changed("not reloaded: the program before the change goes on\n")
            assert status("sync")["reloads"] == 1
            # As Ctrl-C does: to all of them.
            os.killpg(dev.pid, signal.SIGINT)
            dev.wait(20)
            assert "\nstopping\n" in output.read_text(), output.read_text()
        finally:
            if dev.poll() is None:
                os.killpg(dev.pid, signal.SIGTERM)
                dev.wait(30)
