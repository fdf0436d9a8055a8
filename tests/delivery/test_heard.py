"""Messages that other processes tell of: delivered where they continue the head, else repaired from the log."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from delivery import inflow as inflow_module
from delivery.hub import Hub
from delivery.hubs import Hubs
from messages import Draft, Message
from tests.delivery.recorder import Recorder, render
from tests.fakes import MemoryLog


class SharedLog(MemoryLog):
    """A log to which another process appends: whoever posts here tells this process nothing."""

    def __init__(self) -> None:
        super().__init__(exclusive=False)
        self.queries: list[dict[str, int]] = []

    async def post(self, *contents: str, channel_id: str = "c") -> list[Message]:
        listener, self._listener = self._listener, None
        posted = [(await self.append(Draft(channel_id, "ann", content))).message for content in contents]
        self._listener = listener
        return posted

    async def read_many(self, positions: Mapping[str, int], *, limit: int, max_bytes: int) -> dict[str, list[Message]]:
        self.queries.append(dict(positions))
        return await super().read_many(positions, limit=limit, max_bytes=max_bytes)


@asynccontextmanager
async def listening(*channel_ids: str) -> AsyncIterator[tuple[SharedLog, Hub, list[Recorder]]]:
    """A hub whose sweep never comes, with a subscriber in each channel."""
    log = SharedLog()
    hubs = Hubs(log, sweep_interval_seconds=3600)
    hub = hubs.messages
    await log.open(hubs)
    await hubs.start()
    sinks = [Recorder() for _ in channel_ids]
    subscribers = [
        await hub.subscribe(channel_id, 0, cohort=0, filter=None, render=render, sink=sink)
        for channel_id, sink in zip(channel_ids, sinks, strict=True)
    ]
    yield log, hub, sinks
    for subscriber in subscribers:
        subscriber.close()
    await hubs.stop()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is waited for longer than any test lasts."""
    monkeypatch.setattr(inflow_module, "EARLY_SECONDS", 3600)


@pytest.mark.usefixtures("patient")
async def test_heard_messages_that_continue_are_delivered_without_a_read() -> None:
    async with listening("c") as (log, hub, (sink,)):
        one, two, three = await log.post("1", "2", "3")
        hub.heard([one])
        await sink.reached(1)
        hub.heard([two, three])
        await sink.reached(3)
        assert sink.sequences == [1, 2, 3]
        assert log.queries == []
        assert hub.figures.heard == 3


@pytest.mark.usefixtures("patient")
async def test_heard_messages_late_doubled_and_out_of_order_are_delivered_once_in_order() -> None:
    async with listening("c") as (log, hub, (sink,)):
        told = await log.post(*map(str, range(1, 10)))
        for index in (2, 1, 2, 0, 0, 5, 3, 4, 8, 2, 7, 6, 8):
            hub.heard([told[index]])
            await asyncio.sleep(0)
        await sink.reached(9)
        hub.heard(told)
        hub.heard(await log.post("10"))
        await sink.reached(10)
        assert sink.sequences == list(range(1, 11))
        assert log.queries == []


async def test_heard_message_whose_predecessor_never_comes_is_read_after_a_moment() -> None:
    async with listening("c") as (log, hub, (sink,)):
        _, _, three = await log.post("1", "2", "3")
        hub.heard([three])
        await asyncio.sleep(0)
        assert sink.sequences == []
        await sink.reached(3)
        assert sink.sequences == [1, 2, 3]
        assert log.queries == [{"c": 0}]


@pytest.mark.usefixtures("patient")
async def test_hint_without_its_message_is_read_at_once_and_frees_what_came_early() -> None:
    async with listening("c") as (log, hub, (sink,)):
        _, two = await log.post("too long for a hint", "2")
        hub.heard([two])
        await asyncio.sleep(0)
        hub.hinted("c", 1)
        await sink.reached(2)
        assert sink.sequences == [1, 2]
        assert len(log.queries) == 1


async def test_heard_message_that_the_log_does_not_hold_is_dropped() -> None:
    async with listening("c") as (log, hub, (sink,)):
        (one,) = await log.post("1")
        never = Message("c", 9, "eve", "never stored", None, None, None, one.timestamp, log.epoch)
        hub.heard([never])
        await sink.reached(1)
        hub.heard(await log.post(*map(str, range(2, 10))))
        await sink.reached(9)
        assert sink.payloads == [str(number).encode() for number in range(1, 10)]


@pytest.mark.usefixtures("patient")
async def test_what_came_early_is_bounded_and_the_log_is_read_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflow_module, "QUEUE_ENTRIES", 8)
    async with listening("c") as (log, hub, (sink,)):
        told = await log.post(*map(str, range(1, 40)))
        for message in told[1:]:
            hub.heard([message])
            await asyncio.sleep(0)
            inflow = hub.channels["c"].inflow
            assert len(inflow._early) + inflow._queue.qsize() <= 8
        await sink.reached(39)
        assert sink.sequences == list(range(1, 40))


async def test_channels_with_news_at_once_are_read_by_one_query() -> None:
    names = [f"c{number}" for number in range(20)]
    async with listening(*names) as (log, hub, sinks):
        for name in names:
            await log.post("1", "2", channel_id=name)
        for name in names:
            hub.hinted(name, 2)
        for sink in sinks:
            await sink.reached(2)
        assert sorted(key for query in log.queries for key in query) == sorted(names)
        assert len(log.queries) == 1


async def test_read_of_news_that_fails_is_tried_again() -> None:
    async with listening("c", "d") as (log, hub, sinks):
        await log.post("1")
        await log.post("1", channel_id="d")
        log.failing = True
        hub.hinted("c", 1)
        hub.hinted("d", 1)
        while len(log.queries) < 2:
            await asyncio.sleep(0)
        log.failing = False
        for sink in sinks:
            await sink.reached(1)
