"""Real dialogues in 28 languages through a real server, and proof that the check can fail."""

import asyncio
import sys

import pytest

from examples.replay import Line, Replay
from tests.server_process import REPOSITORY, ServerProcess

MESSAGES_PER_LANGUAGE = 100


@pytest.mark.timeout(180)
async def test_replay_every_language_arrives_as_posted(server: ServerProcess) -> None:
    command = [
        sys.executable,
        "-m",
        "examples.replay",
        "--url",
        server.url,
        "--per-language",
        str(MESSAGES_PER_LANGUAGE),
    ]
    replay = await asyncio.create_subprocess_exec(
        *command, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await replay.communicate()
    assert replay.returncode == 0, errors.decode()
    assert b"28 languages: all as posted" in output


async def test_replay_message_from_elsewhere_is_noticed(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("examples.replay.SURPLUS_SECONDS", 5.0)
    lines: list[Line] = [("ada", "Wie geht's?", "ai"), ("grace", "Gut!", "ai")]
    intruder = Replay(server.url, {"german": [*lines, ("eve", "noch etwas", "ai")]})
    expected = Replay(server.url, {"german": lines})
    problems = await asyncio.gather(expected.run(), intruder.run())
    assert problems[0]
    assert "german" in problems[0][0]
