import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from delivery.hub import Hub
from delivery.hubs import Hubs
from delivery.inflow import BUSY_SECONDS, GATHER_SECONDS_MAX, GATHER_SECONDS_MIN
from delivery.sink import Batch
from errors import CursorExpired, CursorInvalid, InternalError, Unavailable
from message_log.protocol import Commit
from messages import Draft, Message, MessageFilter, decode_cursor
from tests.delivery.recorder import Recorder, render
from tests.fakes import MemoryLog


@asynccontextmanager
async def running(log: MemoryLog | None = None, **options: object) -> AsyncIterator[tuple[MemoryLog, Hub]]:
    """A hub on a log in memory. On leaving, its registry must be empty and no task may be left."""
    log = log or MemoryLog()
    hubs = Hubs(log, **options)  # type: ignore[arg-type]
    hub = hubs.messages
    await log.open(hubs)
    await hubs.start()
    before = asyncio.all_tasks()
    yield log, hub
    assert hub.channels == {}
    await hubs.stop()
    assert asyncio.all_tasks() <= before


async def post(log: MemoryLog, *contents: str, author: str = "ann", channel: str = "c") -> None:
    for content in contents:
        await log.append(Draft(channel, author, content))


async def join(hub: Hub, position: int | None, *, cohort: object = 0, filter: MessageFilter | None = None, to=render):
    sink = Recorder()
    return sink, await hub.subscribe("c", position, cohort=cohort, filter=filter, render=to, sink=sink)


async def test_hub_many_subscribers_of_a_cohort_share_one_execution() -> None:
    executed: list[int] = []

    def counted(message: Message) -> bytes:
        executed.append(message.sequence)
        return render(message)

    async with running() as (log, hub):
        joined = [await join(hub, None, to=counted) for _ in range(50)]
        assert hub.cohorts == 1
        await post(log, "one", "two", "three")
        for sink, _ in joined:
            await sink.reached(3)
            assert sink.payloads == [b"one", b"two", b"three"]
        late, late_subscriber = await join(hub, 0, to=counted)
        await late.reached(3)
        assert executed == [1, 2, 3]
        for _, subscriber in [*joined, (late, late_subscriber)]:
            subscriber.close()
        assert hub.cohorts == 0


async def test_hub_different_operations_and_filters_are_different_cohorts() -> None:
    async with running() as (log, hub):
        wanted = MessageFilter(authors=frozenset({"bob"}))
        everything, first = await join(hub, None)
        shouted, second = await join(hub, None, cohort=1, to=lambda m: render(m).upper())
        filtered, third = await join(hub, None, filter=wanted)
        assert len(hub.channels["c"].cohorts) == 3
        assert hub.cohorts == 2
        await post(log, "a")
        await post(log, "b", author="bob")
        for sink in (everything, shouted, filtered):
            await sink.reached(2)
        assert everything.payloads == [b"a", b"b"]
        assert shouted.payloads == [b"A", b"B"]
        assert filtered.payloads == [b"b"]
        for subscriber in (first, second, third):
            subscriber.close()


async def test_hub_past_the_bound_of_cohorts_operations_run_unshared_and_right() -> None:
    executed: list[int] = []

    def counted(message: Message) -> bytes:
        executed.append(message.sequence)
        return render(message)

    async with running(max_cohorts=2) as (log, hub):
        joined = [await join(hub, None, cohort=key) for key in ("one", "two")]
        shared_later = [await join(hub, None, cohort="one")]
        alone = [await join(hub, None, cohort="three", to=counted) for _ in range(3)]
        await post(log, "x")
        for sink, _ in joined + shared_later + alone:
            await sink.reached(1)
            assert sink.payloads == [b"x"]
        assert executed == [1, 1, 1]
        for _, subscriber in joined + shared_later + alone:
            subscriber.close()
        assert hub.cohorts == 0


class Clock:
    """The engine's time in these tests: what the machine does meanwhile does not count."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class Lengthy(Recorder):
    """Makes a sweep to it take so long."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.clock = clock
        self.seconds = seconds

    def _take(self, batch: Batch) -> None:
        self.clock.now += self.seconds
        super()._take(batch)


async def post_for_each_sweep(log: MemoryLog, sink: Recorder) -> None:
    for number in range(1, 11):
        await post(log, "x")
        await sink.reached(number)


async def post_all_the_time(log: MemoryLog, sink: Recorder) -> None:
    for _ in range(300):
        await post(log, "x")


Feed = Callable[[MemoryLog, Recorder], Awaitable[None]]


async def gathered(monkeypatch: pytest.MonkeyPatch, sweep_seconds: float, feed: Feed) -> list[float]:
    """How long a channel has waited for more, in turn, while it was fed."""
    sleep, waited, clock = asyncio.sleep, [], Clock()

    async def recording(seconds: float) -> None:
        if seconds:
            waited.append(seconds)
            clock.now += seconds
        for _ in range(10):  # Whoever feeds the channel comes in between.
            await sleep(0)

    monkeypatch.setattr("delivery.inflow.time", clock)
    monkeypatch.setattr("delivery.channel.time", clock)
    async with running() as (log, hub):
        sink = Lengthy(clock, sweep_seconds)
        subscriber = await hub.subscribe("c", None, cohort=0, filter=None, render=render, sink=sink)
        monkeypatch.setattr("delivery.inflow.asyncio.sleep", recording)
        await feed(log, sink)
        monkeypatch.undo()
        subscriber.close()
    return waited


async def test_busy_channel_gathers_no_longer_than_its_last_sweep_took(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = await gathered(monkeypatch, 0.0015, post_all_the_time)
    # Without this bound the wait would have doubled to its longest by then.
    assert len(waited) > 3
    assert max(waited) == pytest.approx(0.0015)


async def test_wait_that_brings_something_is_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = await gathered(monkeypatch, 0.012, post_all_the_time)
    assert waited[0] == GATHER_SECONDS_MIN
    assert all(after in (GATHER_SECONDS_MIN, min(2 * before, GATHER_SECONDS_MAX)) for before, after in pairwise(waited))
    assert waited.count(GATHER_SECONDS_MAX) >= 2


async def test_channel_that_just_keeps_up_does_not_wait_itself_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(await gathered(monkeypatch, 0.012, post_for_each_sweep)) == {GATHER_SECONDS_MIN}


async def test_short_sweeps_follow_on_each_other_without_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await gathered(monkeypatch, BUSY_SECONDS / 2, post_for_each_sweep) == []


async def test_subscribe_where_a_hint_went_beyond_the_log_stands_at_the_log_s_head() -> None:
    async with running(MemoryLog(exclusive=False)) as (log, hub):
        keeper, first = await join(hub, None)
        await post(log, "1")
        await keeper.reached(1)
        read, gate = log.read, asyncio.Event()

        async def slow(*args: object, **options: object) -> list[Message]:
            await gate.wait()
            return await read(*args, **options)  # type: ignore[arg-type]

        log.read = slow  # type: ignore[method-assign]
        hub.hinted("c", 500)  # another log's channel of this name, say
        await asyncio.sleep(0)
        newcomer, second = await join(hub, None)
        with pytest.raises(CursorInvalid):
            await join(hub, 2)
        gate.set()
        await post(log, "2", "3")
        for sink in (keeper, newcomer):
            await sink.reached(3)
        assert (keeper.sequences, newcomer.sequences) == ([1, 2, 3], [2, 3])
        first.close()
        second.close()


async def test_subscription_set_up_while_delivery_fails_is_served_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(MemoryLog(exclusive=False)) as (log, hub):
        early, _ = await join(hub, None)
        heads, gate = log.last_sequences, asyncio.Event()

        async def slow(ids: object) -> dict[str, int]:
            await gate.wait()
            return await heads(ids)  # type: ignore[arg-type]

        async def broken(*_: object) -> None:
            raise RuntimeError("a defect")

        log.last_sequences = slow  # type: ignore[method-assign]
        joining = asyncio.create_task(join(hub, None))
        await asyncio.sleep(0)
        channel = hub.channels["c"]
        channel._sweep = broken  # type: ignore[method-assign]
        await post(log, "lost to those who are told so")
        while not early.ended:
            await asyncio.sleep(0)
        del channel._sweep
        gate.set()
        sink, subscriber = await joining
        late, last = await join(hub, 0)
        await post(log, "2")
        await sink.reached(2)
        await late.reached(2)
        assert (sink.sequences[-1], late.sequences) == (2, [1, 2])
        assert "a defect" in caplog.text
        subscriber.close()
        last.close()


async def test_reads_of_heads_go_on_after_an_error_that_nobody_foresaw(caplog: pytest.LogCaptureFixture) -> None:
    async with running(MemoryLog(exclusive=False), sweep_interval_seconds=0.01) as (log, hub):
        sink, subscriber = await join(hub, None)
        heads, failures = log.last_sequences, 0

        async def broken(_ids: object) -> dict[str, int]:
            nonlocal failures
            failures += 1
            await asyncio.sleep(0)
            raise RuntimeError("a defect")

        log.last_sequences = broken  # type: ignore[method-assign]
        first = asyncio.create_task(join(hub, None))
        await asyncio.sleep(0)
        second = asyncio.create_task(hub._read_head("another"))
        results = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable, Unavailable]
        while failures < 4:
            await asyncio.sleep(0.01)
        log.last_sequences = heads  # type: ignore[method-assign]
        assert await hub._read_head("another") == 0
        listener, log._listener = log._listener, None
        await post(log, "of another process, and its hint was lost")
        log._listener = listener
        async with asyncio.timeout(10):
            await sink.reached(1)
        assert "a defect" in caplog.text
        subscriber.close()


async def test_channel_that_nobody_subscribes_to_any_more_is_freed_at_once() -> None:
    gc.collect()
    gc.disable()  # Full collections are rare in the server: what only they would find is a leak.
    try:
        async with running() as (log, hub):
            sink, subscriber = await join(hub, None)
            await post(log, "x")
            await sink.reached(1)
            channel = weakref.ref(hub.channels["c"])
            subscriber.close()
            del subscriber, sink
            while hub._ending:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert channel() is None
    finally:
        gc.enable()


async def test_subscribe_position_past_the_head_raises_and_leaves_nothing() -> None:
    async with running() as (log, hub):
        await post(log, "x")
        with pytest.raises(CursorInvalid):
            await join(hub, 2)


async def test_subscribe_cursor_of_a_commit_whose_callback_is_on_its_way_is_valid() -> None:
    async with running() as (log, hub):
        keeper, first = await join(hub, None)
        listener, log._listener = log._listener, None
        await post(log, "committed, not yet told")
        sink, second = await join(hub, 1)
        log._listener = listener
        await post(log, "next")
        await sink.reached(2)
        assert sink.sequences == [2]
        await keeper.reached(2)
        assert keeper.sequences == [1, 2]
        first.close()
        second.close()


async def test_subscribe_position_that_retention_overtook_ends_with_the_cursor_to_resume_from() -> None:
    async with running() as (log, hub):
        await post(log, *"abcdef")
        log.forget("c", up_to=4)
        sink, subscriber = await join(hub, 1)
        await sink.reached(6)
        assert subscriber.closed
        [error] = sink.ended
        assert isinstance(error, CursorExpired)
        assert decode_cursor(error.resume_cursor, log.epoch, "c") == 4
        again, resumed = await join(hub, 4)
        await again.reached(6)
        assert again.sequences == [5, 6]
        resumed.close()


async def test_subscribe_log_unavailable_raises_and_leaves_nothing() -> None:
    async with running() as (log, hub):
        log.failing = True
        with pytest.raises(Unavailable):
            await join(hub, None)
        log.failing = False
        sink, subscriber = await join(hub, None)
        await post(log, "x")
        await sink.reached(1)
        subscriber.close()


async def test_subscribe_cancelled_while_the_head_is_read_leaves_nothing() -> None:
    async with running() as (_, hub):
        subscribing = asyncio.create_task(join(hub, None))
        await asyncio.sleep(0)
        assert hub.channels
        subscribing.cancel()
        await asyncio.gather(subscribing, return_exceptions=True)


async def test_slow_subscriber_is_not_written_to_and_gets_everything_later_in_order() -> None:
    async with running() as (log, hub):
        slow, slow_subscriber = await join(hub, None)
        quick, quick_subscriber = await join(hub, None)
        slow.slow()
        await post(log, *map(str, range(500)))
        await quick.reached(500)
        assert slow.sequences == []
        slow.fast()
        await slow.reached(500)
        assert slow.sequences == list(range(1, 501))
        await post(log, "live again")
        await slow.reached(501)
        assert slow_subscriber.catch_up is None
        for subscriber in (slow_subscriber, quick_subscriber):
            subscriber.close()


async def test_slow_subscriber_of_a_channel_that_falls_silent_still_gets_the_last_message() -> None:
    async with running() as (log, hub):
        slow, subscriber = await join(hub, None)
        quick, quick_subscriber = await join(hub, None)
        slow.slow()
        await post(log, "the last one")
        await quick.reached(1)
        slow.fast()
        await slow.reached(1)
        assert slow.payloads == [b"the last one"]
        subscriber.close()
        quick_subscriber.close()


async def test_channel_posts_that_wait_together_become_one_batch() -> None:
    async with running() as (log, hub):
        sink, subscriber = await join(hub, None)
        listener, log._listener = log._listener, None
        await post(log, *map(str, range(100)))
        assert listener is not None
        listener.committed(Commit(log._held["c"]))
        log._listener = listener
        await sink.reached(100)
        assert sink.batches == 1
        subscriber.close()


async def test_delivery_that_fails_ends_subscriptions_with_a_masked_error(caplog: pytest.LogCaptureFixture) -> None:
    def broken(message: Message) -> bytes:
        raise ZeroDivisionError("secret")

    async with running() as (log, hub):
        sink, _ = await join(hub, None, to=broken)
        with caplog.at_level(logging.CRITICAL):
            await post(log, "x")
            await sink.reached(1)
        [error] = sink.ended
        assert isinstance(error, InternalError)
        assert "secret" not in str(error)


@pytest.mark.parametrize("claims", [True, False])
async def test_sink_that_raises_takes_nothing_from_the_others(claims: bool) -> None:
    class Broken(Recorder):
        def _take(self, batch: Batch) -> None:
            raise RuntimeError("lost transport")

    async with running() as (log, hub):
        broken = Broken(claims=claims)
        await hub.subscribe("c", None, cohort=0, filter=None, render=render, sink=broken)
        sink, subscriber = await join(hub, None)
        await post(log, "x", "y")
        await sink.reached(2)
        assert sink.sequences == [1, 2]
        assert len(broken.ended) == 1
        subscriber.close()


async def test_hub_stop_ends_every_subscription() -> None:
    log = MemoryLog()
    hubs = Hubs(log)
    hub = hubs.messages
    await log.open(hubs)
    sink, _ = await join(hub, None)
    stuck, _ = await join(hub, None)
    stuck.slow()
    await post(log, "x")
    await sink.reached(1)
    await hub.stop()
    assert sink.ended == [None]
    assert stuck.ended == [None]
    assert hub.channels == {}
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_shared_log_subscribing_without_a_position_asks_the_log_once_for_all_that_ask_together() -> None:
    class Counting(MemoryLog):
        queries = 0

        async def last_sequences(self, channel_ids):
            Counting.queries += 1
            return await super().last_sequences(channel_ids)

    async with running(Counting(exclusive=False), sweep_interval_seconds=60) as (log, hub):
        keeper, first = await join(hub, None)
        Counting.queries = 0
        log._listener = None
        await post(log, "posted on another node, no hint yet")
        joined = await asyncio.gather(*(join(hub, None) for _ in range(20)))
        assert Counting.queries <= 2
        assert {subscriber.position for _, subscriber in joined} == {1}
        await keeper.reached(1)
        for subscriber in (first, *(subscriber for _, subscriber in joined)):
            subscriber.close()


async def test_shared_log_hint_makes_the_channel_read_the_log_and_a_lost_one_is_repaired() -> None:
    async with running(MemoryLog(exclusive=False), sweep_interval_seconds=0.01) as (log, hub):
        sink, subscriber = await join(hub, None)
        log._listener = None
        await post(log, "hinted")
        hub.hinted("c", 1)
        await sink.reached(1)
        await post(log, "not hinted")
        async with asyncio.timeout(5):
            while len(sink.messages) < 2:
                await asyncio.sleep(0.005)
        hub.hinted("c", 1)
        hub.hinted("nobody listens", 7)
        subscriber.close()


async def test_hint_beyond_what_the_log_holds_is_forgotten() -> None:
    async with running(MemoryLog(exclusive=False)) as (log, hub):
        sink, subscriber = await join(hub, None)
        hub.hinted("c", 1000)
        for _ in range(50):
            await asyncio.sleep(0)
        await post(log, "x")
        await sink.reached(1)
        assert sink.sequences == [1]
        subscriber.close()


async def test_subscribing_to_many_channels_at_once_costs_few_queries() -> None:
    class Shared(MemoryLog):
        exclusive = False
        queries = 0

        async def last_sequence(self, channel_id: str) -> int:
            raise AssertionError("one query for each channel")

        async def last_sequences(self, channel_ids):
            self.queries += 1
            return await super().last_sequences(channel_ids)

    log = Shared(exclusive=False)
    async with running(log, sweep_interval_seconds=60) as (_, hub):
        await post(log, "one", channel="c7")

        async def subscribe(i: int, position: int | None):
            return await hub.subscribe(f"c{i}", position, cohort=0, filter=None, render=render, sink=Recorder())

        joined = await asyncio.gather(*(subscribe(i % 500, None) for i in range(1000)))
        assert log.queries <= 4
        assert joined[7].position == 1
        log.failing = True
        with pytest.raises(Unavailable):
            await subscribe(8, None)
        log.failing = False
        with pytest.raises(CursorInvalid):
            await subscribe(8, 1)
        for subscriber in joined:
            subscriber.close()
