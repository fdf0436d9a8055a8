"""Pages that several ask for at once: read once, never older than what was acknowledged."""

import asyncio

import pytest

from errors import Unavailable
from messages import ANYONE, Draft, Message
from resolvers import history
from resolvers.chat import Chat
from resolvers.recent_pages import KEPT_SECONDS, RecentPages
from tests.fakes import MemoryLog, fill, memory_chat


async def page(chat: Chat, **arguments: object) -> list[int]:
    found = history.recent_page(chat, ANYONE, "c", **arguments)  # type: ignore[arg-type]
    if found is None:
        found = await history.messages_page(chat, ANYONE, "c", **arguments)  # type: ignore[arg-type]
    return [message.sequence for message in found.messages]


def reads(chat: Chat) -> int:
    assert isinstance(chat.log, MemoryLog)
    return chat.log.pages


async def test_page_that_was_just_read_is_shared_until_a_commit_touches_its_channel() -> None:
    async with memory_chat() as chat:
        await fill(chat, "c", 3)
        assert await page(chat, last=2) == await page(chat, last=2) == [2, 3]
        assert reads(chat) == 1
        assert await page(chat, first=2) == [1, 2]
        assert reads(chat) == 2, "another page"
        await fill(chat, "other", 1)
        assert await page(chat, last=2) == [2, 3]
        assert reads(chat) == 2
        await fill(chat, "c", 1)
        assert await page(chat, last=2) == [3, 4], "what was acknowledged is there"
        assert reads(chat) == 3


async def test_page_that_was_read_while_somebody_waited_for_his_turn_is_shared_with_him() -> None:
    async with memory_chat() as chat:
        await fill(chat, "c", 3)
        pages = [await history.messages_page(chat, ANYONE, "c", last=2) for _ in range(2)]
        assert pages[0] == pages[1]
        assert reads(chat) == 1


async def test_page_that_was_being_read_during_a_commit_is_not_kept() -> None:
    async with memory_chat() as chat:
        await fill(chat, "c", 3)
        reading = asyncio.create_task(page(chat, last=2))
        await asyncio.sleep(0)  # It has asked the log, and waits.
        await chat.append(Draft("c", "ann", "4"))
        await reading
        assert history.recent_page(chat, ANYONE, "c", last=2) is None
        assert await page(chat, last=2) == [3, 4]


async def test_reading_that_fails_leaves_nothing_behind() -> None:
    async with memory_chat() as chat:
        await fill(chat, "c", 1)
        assert isinstance(chat.log, MemoryLog)
        chat.log.failing = True
        with pytest.raises(Unavailable):
            await page(chat, last=2)
        assert not chat.recent_pages._reading
        chat.log.failing = False


async def test_nothing_is_kept_where_other_processes_append_too() -> None:
    async with memory_chat() as chat:
        await fill(chat, "c", 3)
        assert isinstance(chat.log, MemoryLog)
        chat.log.exclusive = False
        await page(chat, last=2)
        assert len(chat.recent_pages) == 0
        chat.log.exclusive = True


async def test_pages_are_bounded_in_number_and_in_time() -> None:
    now = [0.0]
    pages = RecentPages(clock=lambda: now[0])
    async with memory_chat() as chat:
        [message] = await fill(chat, "c", 1)
        stored = await chat.log.page("c", limit=1)
        for number in range(1_000):
            pages.keep(f"c{number}", "asked", pages.begin(f"c{number}"), stored)
        assert len(pages) == 256
        assert len(pages._of_channel) == 256
        kept = pages.find("c999", "asked")
        assert kept is not None
        kept.keep("one", b"x" * 1_000_000)
        assert not kept.made
        now[0] = KEPT_SECONDS + 0.01
        assert pages.find("c999", "asked") is None
        pages.forget(None)
        assert len(pages) == 0
        assert isinstance(message, Message)
