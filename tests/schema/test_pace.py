"""What counts as the time of an operation, and what does not."""

import asyncio
import time

import pytest

from schema import pace as pacing
from schema.pace import Pace


def use_processor(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def stand_still(seconds: float) -> None:
    """As while other processes have the processor."""
    time.sleep(seconds)


async def test_time_of_waiting_and_of_others_does_not_count() -> None:
    pace = Pace()
    use_processor(0.01)
    stand_still(0.05)
    pace.stop()
    await asyncio.sleep(0.05)
    use_processor(0.03)  # Another operation has the event loop.
    pace.go()
    pace.stop()
    assert 0.01 <= pace.busy_seconds < 0.02


async def test_break_is_taken_after_a_long_step_and_not_after_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a busy machine even a step that does nothing may last longer than the real bound.
    monkeypatch.setattr(pacing, "STEP_SECONDS", 0.1)
    reached: list[str] = []
    pace = Pace()
    asyncio.get_running_loop().call_soon(reached.append, "others")
    await pace.breathe()
    assert reached == []
    use_processor(0.11)
    await pace.breathe()
    assert reached == ["others"]
