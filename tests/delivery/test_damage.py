"""A log that cannot read what it holds: whoever needs it is told, and nobody waits in silence."""

import asyncio
from collections.abc import Collection, Sequence

import pytest

from errors import LogDamaged, RaqcoonError
from messages import Message
from tests.delivery.test_hub import join, post, running
from tests.fakes import MemoryLog


class Damaged(MemoryLog):
    """Cannot read the messages of `c`, nor, with `head`, how many they are."""

    head = False

    async def read(self, channel_id: str, *, after: int, limit: int, max_bytes: int) -> Sequence[Message]:
        if channel_id == "c":
            raise LogDamaged
        return await super().read(channel_id, after=after, limit=limit, max_bytes=max_bytes)

    async def last_sequences(self, channel_ids: Collection[str]) -> dict[str, int]:
        if self.head and "c" in channel_ids:
            raise LogDamaged
        return await super().last_sequences(channel_ids)


async def ended(sink: object) -> RaqcoonError | None:
    async with asyncio.timeout(5):
        while not sink.ended:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
    return sink.ended[0]  # type: ignore[attr-defined, no-any-return]


async def test_resuming_over_damage_ends_with_its_code() -> None:
    log = Damaged()
    await post(log, "one", "two")
    async with running(log) as (_, hub):
        sink, _ = await join(hub, 0)
        assert isinstance(await ended(sink), LogDamaged)
        # What is live needs no reading.
        live, subscriber = await join(hub, None)
        await post(log, "three")
        await live.reached(3)
        subscriber.close()


async def test_head_that_has_to_be_read_over_damage_ends_the_channels_subscriptions() -> None:
    async with running(Damaged(exclusive=False), sweep_interval_seconds=60.0) as (log, hub):
        sink, _ = await join(hub, None)
        listener, log._listener = log._listener, None
        await post(log, "committed by another process")
        log._listener = listener
        hub.hinted("c", 1)
        assert isinstance(await ended(sink), LogDamaged)


async def test_damaged_head_costs_no_other_channel_its_own() -> None:
    log = Damaged()
    log.head = True
    await post(log, "whole", channel="d")
    async with running(log) as (_, hub):
        heads = await asyncio.gather(*(hub._read_head(name) for name in "cde"), return_exceptions=True)
        assert isinstance(heads[0], LogDamaged)
        assert heads[1:] == [1, 0]
        with pytest.raises(LogDamaged):
            await join(hub, None)
