"""How many workers there are, and when a process that has ended is started again."""

import pytest

from server import main
from workers.supervisor import PAUSES_SECONDS, SOUND_SECONDS, Process


def test_pause_grows_while_a_process_ends_soon_and_is_short_again_after_a_long_life() -> None:
    process = Process("worker 1", lambda lifeline: None)
    now = 1000.0
    pauses = []
    for _ in range(len(PAUSES_SECONDS) + 2):
        process.started_at = now
        pauses.append(process.pause_seconds(now + 1))
        now += 10
    assert pauses == [*PAUSES_SECONDS, PAUSES_SECONDS[-1], PAUSES_SECONDS[-1]]
    process.started_at = now
    assert process.pause_seconds(now + SOUND_SECONDS) == PAUSES_SECONDS[0]


@pytest.mark.parametrize("count", ["0", "257", "many", "1.5"])
def test_number_of_workers_that_is_none_is_refused_with_one_line(
    count: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--workers", count]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("raqcoon: RAQCOON_WORKERS: ")
    assert line.endswith(f"(got {count!r})")
