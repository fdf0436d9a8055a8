import asyncio

import pytest

from delivery.pages import PAGE_ENTRIES, PageReader
from errors import Unavailable
from messages import Draft, Message
from tests.fakes import MemoryLog


class GatedLog(MemoryLog):
    """Reads what is there at once, and answers when the gate opens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads = 0

    async def read(self, channel_id: str, *, after: int, limit: int, max_bytes: int) -> list[Message]:
        self.reads += 1
        page = await super().read(channel_id, after=after, limit=limit, max_bytes=max_bytes)
        await self.gate.wait()
        return page


async def filled(count: int, content: str = "x") -> GatedLog:
    log = GatedLog()
    for _ in range(count):
        await log.append(Draft("c", "a", content))
    return log


async def test_page_many_waiters_at_many_positions_share_few_reads() -> None:
    log = await filled(4 * PAGE_ENTRIES)
    pages = PageReader(log)
    log.gate.clear()
    waiting = [asyncio.create_task(pages.after("c", position)) for position in range(0, 4 * PAGE_ENTRIES, 3)]
    await asyncio.sleep(0)
    log.gate.set()
    for position, page in zip(range(0, 4 * PAGE_ENTRIES, 3), await asyncio.gather(*waiting), strict=True):
        assert page[0].sequence == position + 1
        assert [m.sequence for m in page] == list(range(position + 1, page[-1].sequence + 1))
    assert log.reads == 4
    await pages.close()


async def test_page_joined_read_began_before_the_newest_commit_is_read_again() -> None:
    log = await filled(PAGE_ENTRIES)
    pages = PageReader(log)
    log.gate.clear()
    early = asyncio.create_task(pages.after("c", PAGE_ENTRIES))
    while log.reads == 0:
        await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0)
    await log.append(Draft("c", "a", "newest"))
    late = asyncio.create_task(pages.after("c", PAGE_ENTRIES))
    await asyncio.sleep(0)
    log.gate.set()
    assert [m.content for m in await late] == ["newest"]
    await early
    await pages.close()


async def test_page_waiter_that_is_cancelled_does_not_take_the_read_from_others() -> None:
    log = await filled(10)
    pages = PageReader(log)
    log.gate.clear()
    first = asyncio.create_task(pages.after("c", 0))
    second = asyncio.create_task(pages.after("c", 4))
    await asyncio.sleep(0)
    first.cancel()
    log.gate.set()
    assert [m.sequence for m in await second] == [5, 6, 7, 8, 9, 10]
    await asyncio.gather(first, return_exceptions=True)
    await pages.close()


async def test_page_log_unavailable_raises_and_is_not_kept() -> None:
    log = await filled(3)
    pages = PageReader(log)
    log.failing = True
    with pytest.raises(Unavailable):
        await pages.after("c", 0)
    log.failing = False
    assert len(await pages.after("c", 0)) == 3
    await pages.close()


async def test_page_of_large_messages_is_cut_and_the_next_one_follows_it() -> None:
    log = await filled(40, "x" * 30_000)
    pages = PageReader(log)
    position = 0
    while position < 40:
        page = await pages.after("c", position)
        assert page[0].sequence == position + 1
        assert sum(len(m.content) for m in page) < 100_000
        position = page[-1].sequence
    assert await pages.after("c", 40) == []
    await pages.close()


@pytest.mark.parametrize(("size", "times"), [(200, 1.1), (1_500, 2.7), (4_000, 3.5), (16_000, 1.5)])
async def test_page_of_long_messages_is_not_read_over_and_over(size: int, times: float) -> None:
    log = await filled(1_024, "x" * size)
    read, read_bytes = log.read, 0

    async def counted(*args: object, **options: object) -> list[Message]:
        nonlocal read_bytes
        run = await read(*args, **options)  # type: ignore[arg-type]
        read_bytes += sum(len(message.content) for message in run)
        return run

    log.read = counted  # type: ignore[method-assign]
    pages = PageReader(log)
    position = 0
    while page := await pages.after("c", position):
        assert page[0].sequence == position + 1
        position = page[-1].sequence
    assert position == 1_024
    assert read_bytes < times * 1_024 * size
    await pages.close()
