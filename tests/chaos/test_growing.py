"""Answers grow while the server, who writes them and who watches them are killed: each text is what was sent."""

from pathlib import Path

import pytest

from tests.chaos.growing import run


@pytest.mark.timeout(200)
async def test_every_final_text_is_what_was_sent_though_everything_was_killed(tmp_path: Path) -> None:
    outcome = await run(tmp_path, messages=6, rate=20, subscribers=12, channels=3, seconds=8, kills=4)
    assert outcome.right == outcome.subscribers == 12
    assert outcome.pieces > 100
    assert outcome.changes > outcome.pieces
