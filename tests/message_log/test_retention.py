"""Retention removes from the beginning of a channel, in small steps, and leaves counters and totals alone."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from errors import Unavailable
from message_log.protocol import HistoryPage
from message_log.retention import Retention, RetentionPolicy
from message_log.sql import SqlMessageLog
from messages import Draft, MessageFilter
from tests.message_log.conftest import NewLog
from tests.message_log.recorder import Recorder, append, everything, post


async def test_removed_range_is_visible_as_a_jump_and_the_counter_stays(log: SqlMessageLog) -> None:
    await post(log, *map(str, range(1, 31)))
    await post(log, "other", channel_id="other")
    totals = await log.totals()
    assert await log.remove_before("general", 21, batch=7) == 20
    assert await log.remove_before("general", 21) == 0
    assert [m.sequence for m in await log.read("general", after=3, limit=3, max_bytes=1000)] == [21, 22, 23]
    assert await log.oldest_sequence("general") == 21
    assert await log.message("general", 20) is None
    page = await log.history("general", limit=5)
    assert ([m.sequence for m in page.messages], page.exhausted) == ([21, 22, 23, 24, 25], False)
    page = await log.history("general", limit=50, backwards=True, filter=MessageFilter(authors=frozenset({"ada"})))
    assert (len(page.messages), page.stopped_at, page.exhausted) == (10, 21, True)
    assert await log.totals() == totals
    assert await log.oldest_sequence("other") == 1


async def test_everything_removed_counter_never_goes_back(log: SqlMessageLog) -> None:
    await post(log, "a", "b")
    assert await log.remove_before("general", 10**9) == 2
    assert await log.last_sequence("general") == 2
    assert await log.oldest_sequence("general") == 3
    assert await log.history("general", limit=5) == HistoryPage([], None, True)
    assert await log.read("general", after=0, limit=5, max_bytes=100) == []
    assert [message.sequence for message in await post(log, "c")] == [3]
    assert await log.oldest_sequence("general") == 3


async def test_idempotency_key_goes_with_its_message(log: SqlMessageLog) -> None:
    draft = Draft("general", "ada", "x", idempotency_key="k")
    await append(log, draft)
    await log.remove_before("general", 2)
    (again,) = await append(log, draft)
    assert (again.created, again.message.sequence) == (True, 2)


async def test_by_age_removes_up_to_the_first_young_message(new_log: NewLog) -> None:
    start = datetime(2026, 11, 1, tzinfo=UTC)
    clock = start
    log = new_log(now=lambda: clock)
    await log.open(Recorder())
    for hours in (0, 1, 5, 2, 6):  # the fourth was stamped by a clock that was behind
        clock = start + timedelta(hours=hours)
        await post(log, str(hours))
        await post(log, *map(str, range(20)), channel_id=f"c{hours}")
    assert await log.remove_older_than(start + timedelta(hours=4), batch=3) == 2 + 60
    assert [message.content for message in await everything(log)] == ["5", "2", "6"]
    assert [len(await everything(log, f"c{hours}")) for hours in (0, 1, 2, 5, 6)] == [0, 0, 0, 20, 20]
    assert await log.remove_older_than(start + timedelta(hours=4)) == 0
    assert await log.remove_older_than(start + timedelta(hours=7)) == 3 + 40
    await log.close()


async def test_policy_by_count_and_age_runs_by_itself_until_stopped(log: SqlMessageLog) -> None:
    await post(log, *map(str, range(50)))
    await post(log, "x", channel_id="small")
    retention = Retention(log, RetentionPolicy(max_messages=10, interval_seconds=0.01, batch=20))
    retention.start()
    async with asyncio.timeout(10):
        while await log.oldest_sequence("general") != 41:
            await asyncio.sleep(0.01)
    await post(log, "one more")
    async with asyncio.timeout(10):
        while await log.oldest_sequence("general") != 42:
            await asyncio.sleep(0.01)
    await retention.stop()
    await retention.stop()
    assert len(await everything(log, "small")) == 1
    later = Retention(log, RetentionPolicy(max_age_seconds=86_400), now=lambda: datetime.now(UTC) + timedelta(days=2))
    assert await later.run_once() == 11


async def test_no_policy_removes_nothing(log: SqlMessageLog) -> None:
    await post(log, "x")
    retention = Retention(log, RetentionPolicy())
    retention.start()
    await asyncio.sleep(0)
    assert await retention.run_once() == 0
    await retention.stop()
    for nonsense in ({"max_messages": 0}, {"max_age_seconds": 0}):
        with pytest.raises(ValueError, match="must be positive"):
            RetentionPolicy(**nonsense)  # type: ignore[arg-type]


async def test_removal_beside_posts_and_readers_leaves_no_gap(log: SqlMessageLog) -> None:
    async def poster() -> None:
        for i in range(40):
            await post(log, *(f"{i}" for _ in range(5)))

    async def remover(done: asyncio.Event) -> None:
        while not done.is_set():
            await log.remove_before("general", await log.last_sequence("general") - 10, batch=3)

    async def reader(done: asyncio.Event) -> None:
        while not done.is_set():
            found = [m.sequence for m in await log.read("general", after=0, limit=100, max_bytes=10**6)]
            assert found == list(range(found[0], found[0] + len(found))) if found else True

    done = asyncio.Event()
    others = [asyncio.create_task(remover(done)), asyncio.create_task(reader(done))]
    await poster()
    done.set()
    await asyncio.gather(*others)
    assert await log.last_sequence("general") == 200


async def test_removal_from_a_closed_log_is_unavailable(log: SqlMessageLog) -> None:
    await log.close()
    with pytest.raises(Unavailable):
        await log.remove_before("general", 5)
