"""What operations share: reads of history wait for each other, and no client takes all places."""

import asyncio

from resolvers.chat import READS_AT_ONCE, READS_OF_CLIENT_AT_ONCE, Chat
from schema.context import Context


async def test_reads_of_one_operation_are_one_and_those_of_one_client_leave_places_for_others(chat: Chat) -> None:
    under_way: list[str | None] = []
    over = asyncio.Event()

    async def read(context: Context) -> None:
        async with context.reading():
            under_way.append(context.address)
            await over.wait()

    async def begun() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    one_operation = Context(chat, address="one")
    reads = [asyncio.create_task(read(one_operation)) for _ in range(20)]
    await begun()
    assert under_way == ["one"]
    reads += [asyncio.create_task(read(Context(chat, address="many"))) for _ in range(20)]
    await begun()
    assert under_way.count("many") == READS_OF_CLIENT_AT_ONCE
    reads += [asyncio.create_task(read(Context(chat, address="late"))) for _ in range(20)]
    await begun()
    assert under_way.count("late") == READS_AT_ONCE - READS_OF_CLIENT_AT_ONCE - 1
    over.set()
    await asyncio.gather(*reads)
    assert len(under_way) == 60
