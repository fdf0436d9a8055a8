"""Tests run side by side, but none beside one that is marked `alone`. The wait for that does not count for a test."""

import os
import subprocess
import sys
from pathlib import Path

from tests.server_process import REPOSITORY

# The first tests of the two files wait for each other, which proves that two processes run at the same time.
TESTS = """
import time
from pathlib import Path
import pytest

HERE = Path(__file__).parent

def run(name, seconds):
    began = time.monotonic()
    time.sleep(seconds)
    (HERE / f"NAME {name}.ran").write_text(f"{began} {time.monotonic()}")

def test_meeting():
    (HERE / f"NAME.came").touch()
    while len(list(HERE.glob("*.came"))) < 2:
        time.sleep(0.01)

@pytest.mark.alone
@pytest.mark.timeout(1)
def test_alone():
    run("alone", 0.1)

def test_beside():
    run("beside", SECONDS)

def test_beside_again():
    run("beside again", SECONDS)
"""


def pytest_in_two_processes(directory: Path) -> "subprocess.CompletedProcess[str]":
    (directory / "pytest.ini").touch()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    options = ["-p", "tests.side_by_side", "-p", "no:schemathesis", "-n", "2", "--dist", "loadfile"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--max-worker-restart", "0", str(directory)],
        env={**environment, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_alone_test_overlaps_no_other_and_waits_for_what_runs_only(tmp_path: Path) -> None:
    for name, seconds in (("quick", "0.1"), ("slow", "1.5")):
        (tmp_path / f"test_{name}.py").write_text(TESTS.replace("NAME", name).replace("SECONDS", seconds))
    done = pytest_in_two_processes(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    ran = {path.stem: tuple(map(float, path.read_text().split())) for path in tmp_path.glob("*.ran")}
    assert len(ran) == 6
    for name in ("quick alone", "slow alone"):
        began, ended = ran[name]
        assert [other for other, (start, end) in ran.items() if start < ended and began < end] == [name]
    assert ran["quick alone"] < ran["slow beside again"], "no test may overtake one that waits to be alone"


def test_process_that_dies_is_more_than_a_failure(tmp_path: Path) -> None:
    (tmp_path / "test_dies.py").write_text("import os\n\ndef test_dies():\n    os._exit(0)\n")
    (tmp_path / "test_lives.py").write_text("def test_lives():\n    pass\n")
    done = pytest_in_two_processes(tmp_path)
    assert "crashed while running 'test_dies.py::test_dies'" in done.stdout
    assert done.returncode == 3, done.stdout + done.stderr
