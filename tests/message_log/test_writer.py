"""Group commit, its bounds and its end, with a commit that the test controls."""

import asyncio
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from errors import Unavailable
from message_log.batch import plan
from message_log.committer import Committed
from message_log.protocol import Commit
from message_log.writer import Writer, WriterLimits
from messages import Draft


class Gate:
    """Stands for the database: commits when it is let, and remembers the batches."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[str]] = []
        self.heads: dict[str, int] = {}
        self.aborts = 0

    def commit(self, drafts: Sequence[Draft]) -> Committed:
        self.entered.set()
        self.open.wait(10)
        self.batches.append([draft.content for draft in drafts])
        batch = plan(drafts, self.heads, {}, timestamp=datetime.now(UTC), epoch="e")
        self.heads |= batch.heads
        return Committed(batch.outcomes, batch.messages, [])

    def abort(self) -> None:
        self.aborts += 1


def draft(content: str) -> Draft:
    return Draft("general", "ada", content)


def nobody(_commit: Commit) -> None:
    """A listener that does not care."""


async def entered(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.entered.wait, 10)


async def test_posts_that_wait_share_the_next_commit_within_its_bounds() -> None:
    gate = Gate()
    writer = Writer(gate.commit, gate.abort, nobody, WriterLimits(batch_messages=4, batch_bytes=100))
    futures = [writer.post(draft("first"), 1)]
    await entered(gate)
    futures += [writer.post(draft(str(i)), 1) for i in range(6)]
    futures += [writer.post(draft(content), 60) for content in "abc"]
    gate.open.set()
    await asyncio.gather(*futures)
    assert gate.batches == [["first"], ["0", "1", "2", "3"], ["4", "5", "a", "b"], ["c"]]
    await writer.stop()


async def test_posts_are_handed_over_once_as_many_have_come_as_are_likely() -> None:
    gate = Gate()
    gate.open.set()
    writer = Writer(gate.commit, gate.abort, nobody, WriterLimits())
    alone = writer.post(draft("alone"), 1)
    # No step of the loop passes here: a single post does not wait for the end of its own.
    assert gate.entered.wait(5)
    await alone
    gate.open.clear()
    gate.entered.clear()
    futures = [writer.post(draft("first"), 1)]
    await entered(gate)
    futures += [writer.post(draft(content), 1) for content in "ab"]
    await asyncio.sleep(0)  # Two wait, so two are likely.
    gate.open.set()
    await asyncio.gather(*futures)
    assert gate.batches == [["alone"], ["first"], ["a", "b"]]
    gate.open.clear()
    gate.entered.clear()
    futures = [writer.post(draft("c"), 1)]
    assert not gate.entered.wait(0.05)
    futures.append(writer.post(draft("d"), 1))
    assert gate.entered.wait(5)
    gate.open.set()
    await asyncio.gather(*futures)
    assert gate.batches[3:] == [["c", "d"]]
    await writer.stop()


async def test_commit_waits_for_as_many_posts_as_there_were_a_moment_ago() -> None:
    gate = Gate()
    writer = Writer(gate.commit, gate.abort, nobody, WriterLimits(gather_seconds=10))
    futures = [writer.post(draft("first"), 1)]
    await entered(gate)
    futures += [writer.post(draft(content), 1) for content in "ab"]
    await asyncio.sleep(0)  # The thread is handed what one step of the loop has posted, at its end.
    gate.open.set()
    await futures[0]
    futures.append(writer.post(draft("again"), 1))
    async with asyncio.timeout(5):
        await asyncio.gather(*futures)
    assert gate.batches == [["first"], ["a", "b", "again"]]
    await writer.stop()


@pytest.mark.alone
async def test_commit_that_has_waited_in_vain_is_followed_by_one_that_does_not_wait() -> None:
    gate = Gate()
    writer = Writer(gate.commit, gate.abort, nobody, WriterLimits(gather_seconds=0.5))
    futures = [writer.post(draft("first"), 1)]
    await entered(gate)
    futures.append(writer.post(draft("waits in vain, for two"), 1))
    await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(*futures)
    began_at = time.monotonic()
    await writer.post(draft("goes at once"), 1)
    assert time.monotonic() - began_at < 0.4
    await writer.stop()


class SlowAfterTelling:
    """A loop for the writer's thread, which goes on only after the poster was answered and has posted again."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_soon_threadsafe(self, *call: Any) -> None:
        self._loop.call_soon_threadsafe(*call)
        time.sleep(0.1)


async def test_poster_who_posts_again_at_once_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    gate.open.set()
    writer = Writer(gate.commit, gate.abort, nobody, WriterLimits(gather_seconds=10))
    monkeypatch.setattr(writer, "_loop", SlowAfterTelling(asyncio.get_running_loop()))
    async with asyncio.timeout(5):
        await writer.post(draft("first"), 1)
        await writer.post(draft("again"), 1)
        await writer.post(draft("and again"), 1)
    assert gate.batches == [["first"], ["again"], ["and again"]]
    await writer.stop()


async def test_cancelled_post_that_waits_is_not_tried() -> None:
    gate = Gate()
    writer = Writer(gate.commit, gate.abort, nobody, WriterLimits())
    first = writer.post(draft("first"), 1)
    await entered(gate)
    second, third = writer.post(draft("second"), 1), writer.post(draft("third"), 1)
    second.cancel()
    gate.open.set()
    await asyncio.gather(first, third)
    assert gate.batches == [["first"], ["third"]]
    await writer.stop()


async def test_commit_that_hangs_is_aborted_and_waiting_posts_give_up_untried() -> None:
    gate = Gate()
    writer = Writer(gate.commit, gate.abort, nobody, WriterLimits(timeout_seconds=0.1, backlog_messages=2))
    futures = [writer.post(draft("hangs"), 1)]
    await entered(gate)
    futures.append(writer.post(draft("waits"), 1))
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable, Unavailable]
    assert gate.aborts >= 1
    with pytest.raises(Unavailable):  # they still stand in the backlog: it is what bounds the memory
        writer.post(draft("refused"), 1)
    gate.open.set()
    await writer.stop()
    assert gate.batches == [["hangs"]]


async def test_backlog_is_bounded_in_bytes() -> None:
    gate = Gate()
    writer = Writer(gate.commit, gate.abort, nobody, WriterLimits(backlog_bytes=100))
    futures = [writer.post(draft("a"), 60), writer.post(draft("b"), 60)]
    with pytest.raises(Unavailable):
        writer.post(draft("c"), 1)
    gate.open.set()
    await asyncio.gather(*futures)
    assert (await writer.post(draft("d"), 1)).created
    await writer.stop()


async def test_commit_or_listener_that_raises_answers_the_posts_and_the_writer_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate()
    gate.open.set()
    faults = iter([True, False, False])

    def commit(drafts: Sequence[Draft]) -> Committed:
        if next(faults):
            raise RuntimeError("commit broke")
        return gate.commit(drafts)

    def publish(_commit: Commit) -> None:
        raise RuntimeError("listener broke")

    writer = Writer(commit, gate.abort, publish, WriterLimits())
    with pytest.raises(Unavailable):
        await writer.post(draft("a"), 1)
    assert (await writer.post(draft("b"), 1)).message.sequence == 1
    assert (await writer.post(draft("c"), 1)).message.sequence == 2
    assert "commit broke" in caplog.text
    assert "listener broke" in caplog.text
    await writer.stop()


async def test_work_runs_between_batches_and_reports_its_own_error() -> None:
    gate = Gate()
    gate.open.set()
    writer = Writer(gate.commit, gate.abort, nobody, WriterLimits())

    def fail() -> None:
        raise Unavailable("no")

    assert await writer.run(threading.current_thread) is not threading.current_thread()
    with pytest.raises(Unavailable, match="no"):
        await writer.run(fail)
    await writer.stop()
    with pytest.raises(Unavailable):
        await writer.run(fail)
    await writer.stop()
    assert not writer.alive


async def test_more_posts_than_can_be_stored_are_refused_in_part_and_not_all_too_late() -> None:
    """Without a look at the time that is left, each batch is stored just after its posters have given up."""
    gate = Gate()
    gate.open.set()

    def commit(drafts: Sequence[Draft]) -> Committed:
        time.sleep(0.1)
        return gate.commit(drafts)

    writer = Writer(commit, gate.abort, nobody, WriterLimits(batch_messages=4, timeout_seconds=0.5))
    outcomes = {"acknowledged": 0, "refused": 0}

    async def client() -> None:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            try:
                await writer.post(draft("x"), 1)
                outcomes["acknowledged"] += 1
            except Unavailable:
                outcomes["refused"] += 1

    await asyncio.gather(*(client() for _ in range(60)))
    stored = sum(map(len, gate.batches))
    assert outcomes["refused"]
    assert outcomes["acknowledged"] > 0.5 * stored, (outcomes, stored)
    await writer.stop()
