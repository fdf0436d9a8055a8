"""What asking for `/metrics` costs, however often it is asked for."""

import pytest

from schema.operations import Operations
from tests.fakes import memory_chat
from transports.app import build_app
from transports.sight import metrics
from transports.sight.metrics import BURST_SECONDS, LOOP_SHARE_MAX, Metrics

TOOK_SECONDS = 0.002


async def test_metrics_asked_for_without_a_break_are_collected_for_a_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 0.0
    collected: list[float] = []

    def collect(registry: object) -> bytes:
        nonlocal clock
        collected.append(clock)
        clock += TOOK_SECONDS
        return b"%d" % len(collected)

    monkeypatch.setattr(metrics, "generate_latest", collect)
    monkeypatch.setattr(metrics, "perf_counter", lambda: clock)
    async with memory_chat() as chat:
        app = build_app(chat, Operations())
        assert isinstance(app.metrics, Metrics)
        clock = 100.0
        # A scrape now and then is of its moment, and so are some in a row.
        for number in range(1, 40):
            assert await app.metrics.page(clock) == b"%d" % number
        begun, before = clock, len(collected)
        while clock < begun + 10:
            await app.metrics.page(clock)
            clock += 0.0001
        share = (len(collected) - before) * TOOK_SECONDS / 10
        # A tenth, and a tenth of the second that may come in a burst.
        assert LOOP_SHARE_MAX * (1 + BURST_SECONDS) == 0.2
        assert share < 0.2
        before = len(collected)
        clock += 15.0
        await app.metrics.page(clock)
        assert len(collected) == before + 1
