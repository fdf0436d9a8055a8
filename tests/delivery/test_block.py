"""Blocks, as the hub uses them: who is in one, and what happens when one of many can take no more."""

import asyncio

import pytest

from delivery.block import MEMBERS_MAX
from delivery.cohort import Cohort
from delivery.hub import Hub
from delivery.sink import Claim, Holder
from delivery.subscriber import Subscriber
from errors import CursorExpired
from messages import Message
from tests.delivery.recorder import Recorder, Whole, render
from tests.delivery.test_hub import post, running


async def join(hub: Hub, sink: Recorder, position: int | None = None) -> Subscriber:
    return await hub.subscribe("c", position, cohort=0, filter=None, render=render, sink=sink)


def only_cohort(hub: Hub) -> Cohort:
    (cohort,) = hub.channels["c"].cohorts.values()
    return cohort


async def test_who_need_not_be_asked_moves_with_a_block_and_counts_what_it_took() -> None:
    async with running() as (log, hub):
        asked, claimed, late = Recorder(claims=False), Recorder(), Recorder()
        joined = [await join(hub, asked), await join(hub, claimed)]
        await post(log, "a", "b")
        await claimed.reached(2)
        joined.append(await join(hub, late))
        await post(log, "c")
        await late.reached(3)
        cohort = only_cohort(hub)
        assert [block.members for block in cohort.blocks] == [joined[1:]]
        assert list(cohort.loose) == joined[:1]
        assert [subscriber.position for subscriber in joined] == [3, 3, 3]
        assert [subscriber.delivered for subscriber in joined] == [3, 3, 1]
        for subscriber in joined:
            subscriber.close()
        assert [subscriber.delivered for subscriber in joined] == [3, 3, 1]
        assert claimed.holder is late.holder is None


async def test_blocks_are_bounded_and_fill_up_again() -> None:
    async with running() as (log, hub):
        sinks = [Recorder() for _ in range(2 * MEMBERS_MAX + 1)]
        joined = [await join(hub, sink) for sink in sinks]
        blocks = only_cohort(hub).blocks
        assert [len(block) for block in blocks] == [MEMBERS_MAX, MEMBERS_MAX, 1]
        for leaving in (joined[0], joined[1], joined[-1]):
            leaving.close()
        assert [len(block) for block in blocks] == [MEMBERS_MAX - 2, MEMBERS_MAX]
        came = [Recorder() for _ in range(3)]
        joined += [await join(hub, sink) for sink in came]
        assert [len(block) for block in blocks] == [MEMBERS_MAX, MEMBERS_MAX, 1]
        await post(log, "x")
        for sink in (*sinks[2:-1], *came):
            await sink.reached(1)
            assert sink.sequences == [1]
        for subscriber in joined:
            subscriber.close()


async def test_member_that_its_own_write_blocks_has_taken_it_and_leaves() -> None:
    async with running() as (log, hub):
        sink, other = Recorder(room=1), Recorder()
        joined = [await join(hub, sink), await join(hub, other)]
        await post(log, "a")
        await other.reached(1)
        assert sink.sequences == [1]
        cohort = only_cohort(hub)
        assert list(cohort.loose) == joined[:1]
        assert joined[0].position == 1
        for number in range(2, 6):
            await post(log, "x")
            for each in (sink, other):
                await each.reached(number)
        assert sink.sequences == other.sequences == [1, 2, 3, 4, 5]
        for subscriber in joined:
            subscriber.close()


async def test_slow_member_goes_on_alone_and_comes_back() -> None:
    async with running() as (log, hub):
        sink, other = Recorder(), Recorder()
        joined = [await join(hub, sink), await join(hub, other)]
        sink.slow()
        await post(log, "a", "b")
        await other.reached(2)
        assert [subscriber.position for subscriber in joined] == [0, 2]
        assert hub.figures.slow_falls == 1
        sink.fast()
        await sink.reached(2)
        await asyncio.sleep(0)
        assert sorted(len(block) for block in only_cohort(hub).blocks) == [2]
        await post(log, "c")
        await sink.reached(3)
        assert sink.sequences == other.sequences == [1, 2, 3]
        for subscriber in joined:
            subscriber.close()


async def test_subscriptions_of_one_connection_are_in_blocks_of_their_own() -> None:
    # The first of them may block the connection: then the second must not be written to in the same step.
    class Connection:
        """Takes one batch, then none until it is opened."""

        def __init__(self) -> None:
            self.holders: list[Holder] = []
            self.taken: list[list[int]] = []

        def write(self, batch: Whole) -> None:
            assert self.holders, "written to while it was blocked"
            self.taken.append([message.sequence for message in batch.entries])
            holders, self.holders = self.holders, []
            for holder in holders:
                holder.blocked()

    class OneOfTwo(Recorder):
        def __init__(self, connection: Connection) -> None:
            super().__init__()
            self.connection = connection

        def write(self, batch) -> bool:
            return False

        async def writable(self) -> None:
            await asyncio.get_running_loop().create_future()

        def claim(self, holder: Holder) -> Claim | None:
            self.connection.holders.append(holder)
            return Claim(Whole, b"", self.connection.write)

        def release(self, holder: Holder) -> None:
            self.connection.holders.remove(holder)

    async with running() as (log, hub):
        connection, other = Connection(), Recorder()
        joined = [await join(hub, OneOfTwo(connection)), await join(hub, OneOfTwo(connection)), await join(hub, other)]
        assert sorted(len(block) for block in only_cohort(hub).blocks) == [1, 2]
        await post(log, "x")
        await other.reached(1)
        assert connection.taken == [[1]]
        assert sorted(subscriber.position for subscriber in joined) == [0, 1, 1]
        for subscriber in joined:
            subscriber.close()


async def test_who_joins_behind_a_sweep_that_waits_for_a_result_is_taken_along_and_enters_a_block_once() -> None:
    allowed = asyncio.Event()

    async def slowly(message: Message) -> bytes:
        await allowed.wait()
        return render(message)

    async with running() as (log, hub):
        sinks = [Recorder(), Recorder()]
        subscribers = [await hub.subscribe("c", None, cohort=0, filter=None, render=slowly, sink=sinks[0])]
        await post(log, "x")
        while hub.channels["c"].head == 0:
            await asyncio.sleep(0)
        subscribers += [await hub.subscribe("c", 0, cohort=0, filter=None, render=slowly, sink=sinks[1])]
        for _ in range(10):
            await asyncio.sleep(0)
        assert subscribers[1].catch_up is not None
        assert [sink.sequences for sink in sinks] == [[], []]
        allowed.set()
        for sink in sinks:
            await sink.reached(1)
        while subscribers[1].catch_up is not None:
            await asyncio.sleep(0)
        assert [set(block.members) for block in only_cohort(hub).blocks] == [set(subscribers)]
        await post(log, "y")
        for sink in sinks:
            await sink.reached(2)
            assert sink.sequences == [1, 2]
        for subscriber in subscribers:
            subscriber.close()


async def test_block_that_retention_has_overtaken_is_dissolved() -> None:
    async with running() as (log, hub):
        sink = Recorder()
        subscriber = await join(hub, sink)
        log._listener = None
        await post(log, "a", "b", "c")
        del log._held["c"][:2]
        hub.hinted("c", 3)
        await sink.reached(3)
        (error,) = sink.ended
        assert isinstance(error, CursorExpired)
        assert sink.holder is None
        assert subscriber.closed


@pytest.mark.parametrize("claims", [True, False])
async def test_closed_subscriber_is_not_written_to_though_a_sweep_is_under_way(claims: bool) -> None:
    async with running() as (log, hub):
        sinks = [Recorder(claims=claims) for _ in range(3 * MEMBERS_MAX)]
        joined = [await join(hub, sink) for sink in sinks]
        await post(log, "x")
        await sinks[0].reached(1)
        assert sinks[-1].sequences == [], "the sweep does not yield"
        for leaving in (MEMBERS_MAX, len(sinks) - 1):  # The one at which a sweep that asks is suspended, and the last.
            joined[leaving].close()
        await sinks[-2].reached(1)
        assert sinks[MEMBERS_MAX].sequences == sinks[-1].sequences == []
        for subscriber in joined:
            subscriber.close()
