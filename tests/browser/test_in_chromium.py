"""The console and the playground as a person meets them. The scenarios are the .mjs files beside this one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import node

HERE = Path(__file__).parent
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.alone,
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)"),
]


def run_scenario(name: str, *arguments: str) -> None:
    node.install(HERE)
    command = json.dumps([sys.executable, str(node.REPOSITORY / "server.py")])
    environment = node.environment(SERVER_COMMAND=os.environ.get("SERVER_COMMAND", command), CHROMIUM=str(CHROMIUM))
    done = subprocess.run(
        ["node", str(HERE / name), *arguments],
        env=environment,
        cwd=node.REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, f"{name}\n{done.stdout}\n{done.stderr}"


def test_console_two_windows_and_kill_9_show_everything_once() -> None:
    run_scenario("console.mjs")


def test_console_cursor_refused_or_connection_dead_goes_on_sensibly() -> None:
    run_scenario("console_faults.mjs")


def test_console_channels_search_links_keys_and_token_serve_people() -> None:
    run_scenario("console_people.mjs")


def test_console_messages_grow_are_stopped_edited_and_erased_in_all_windows() -> None:
    run_scenario("console_changes.mjs")


def test_playground_first_tab_runs_as_it_is() -> None:
    run_scenario("playground.mjs")


@pytest.mark.parametrize("app", ["apollo", "urql"])
def test_example_kill_9_in_mid_stream_misses_and_repeats_nothing(app: str) -> None:
    node.build(node.REPOSITORY / "examples", "apollo/dist/index.html", "urql/dist/index.html")
    run_scenario("example.mjs", app)
