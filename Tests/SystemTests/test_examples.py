"""The examples do what they say, against both doors."""

import subprocess

import pytest

from house import MODES, ROOT, clean_environment


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("example", ["orders.sh", "orders.py"])
def test_an_example_runs_to_its_end(house, mode, example):
    done = subprocess.run([f"{ROOT}/examples/{example}", f"http://127.0.0.1:{house.port}/{mode}"], capture_output=True, text=True, timeout=60, env=clean_environment())
    assert done.returncode == 0, done.stdout + done.stderr
    if example == "orders.sh":
        assert done.stdout.endswith("\ndone\n") and '"name":"SO001 b"' in done.stdout
        assert house.psql("select count(*) from contact") == [("0",)], "something was left behind"
    else:
        assert done.stdout.splitlines() == ["1 SO000 0.75", "2 SO001 1.5", "3 SO002 2.25", "4 SO003 3", "5 SO004 3.75"]
    assert house.psql('select count(*) from "order"') == [("0",)]
