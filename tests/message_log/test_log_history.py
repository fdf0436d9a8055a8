"""Paging through a channel: ranges, both directions, filters and how far they look."""

import pytest

from message_log.protocol import HistoryPage
from message_log.sql import SqlMessageLog
from messages import Draft, MessageFilter
from tests.message_log.recorder import append, post


def sequences(page: HistoryPage) -> list[int]:
    return [message.sequence for message in page.messages]


async def test_history_forwards_and_backwards_bounds(log: SqlMessageLog) -> None:
    await post(log, *map(str, range(1, 11)))
    page = await log.history("general", limit=4)
    assert (sequences(page), page.stopped_at, page.exhausted) == ([1, 2, 3, 4], 4, False)
    page = await log.history("general", after=4, limit=4)
    assert (sequences(page), page.stopped_at, page.exhausted) == ([5, 6, 7, 8], 8, False)
    page = await log.history("general", after=8, limit=4)
    assert (sequences(page), page.stopped_at, page.exhausted) == ([9, 10], 10, True)
    page = await log.history("general", limit=4, backwards=True)
    assert (sequences(page), page.stopped_at, page.exhausted) == ([7, 8, 9, 10], 7, False)
    page = await log.history("general", before=3, limit=4, backwards=True)
    assert (sequences(page), page.stopped_at, page.exhausted) == ([1, 2], 1, True)
    page = await log.history("general", after=2, before=6, limit=3)
    assert (sequences(page), page.stopped_at, page.exhausted) == ([3, 4, 5], 5, True)
    page = await log.history("general", after=2, before=6, limit=2, backwards=True)
    assert (sequences(page), page.stopped_at, page.exhausted) == ([4, 5], 4, False)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("filter", [None, MessageFilter(), MessageFilter(authors=frozenset({"ada"}))])
async def test_history_nothing_in_range_is_exhausted(
    log: SqlMessageLog, backwards: bool, filter: MessageFilter | None
) -> None:
    assert await log.history("nobody", limit=5, backwards=backwards, filter=filter) == HistoryPage([], None, True)
    await post(log, "a")
    for after, before in ((1, None), (0, 1), (5, 3)):
        page = await log.history("general", after=after, before=before, limit=5, backwards=backwards, filter=filter)
        assert page == HistoryPage([], None, True)
    page = await log.history("general", limit=0, backwards=backwards, filter=filter)
    assert page == HistoryPage([], None, False)


async def test_history_filter_is_or_inside_and_between(log: SqlMessageLog) -> None:
    drafts = [
        Draft("general", author, "x", lane, provider)
        for author in ("ada", "bob", "eve")
        for lane in ("main", None)
        for provider in ("p", "q")
    ]
    held = [appended.message for appended in await append(log, *drafts)]
    for filter in (
        MessageFilter(authors=frozenset({"ada", "eve"})),
        MessageFilter(authors=frozenset({"ada", "eve"}), lanes=frozenset({"main"})),
        MessageFilter(providers=frozenset({"q"}), lanes=frozenset({"main", "side"})),
        MessageFilter(authors=frozenset()),
        MessageFilter(lanes=frozenset({""})),
        MessageFilter(authors=frozenset({f"nobody{i}" for i in range(99)} | {"bob"})),
    ):
        for backwards in (False, True):
            page = await log.history("general", limit=50, backwards=backwards, filter=filter)
            assert page.messages == [message for message in held if filter.matches(message)]
            assert page.exhausted
            assert page.stopped_at == (1 if backwards else 12)


async def test_history_filtered_page_looks_at_a_bounded_stretch(log: SqlMessageLog) -> None:
    await append(log, *(Draft("general", "bob" if i in (3, 15, 30) else "ada", str(i)) for i in range(1, 31)))
    bob = MessageFilter(authors=frozenset({"bob"}))

    async def page(limit: int, **range_: int | bool) -> tuple[list[int], int | None, bool]:
        found = (await log.page("general", limit=limit, filter=bob, look_at_max=10, **range_)).found  # type: ignore[arg-type]
        assert found.looked_at <= 10
        return sequences(found), found.stopped_at, found.exhausted

    assert await page(5) == ([3], 10, False)
    assert await page(5, after=10) == ([15], 20, False)
    assert await page(5, after=20) == ([30], 30, True)
    assert await page(1) == ([3], 3, False)
    assert await page(1, after=20) == ([30], 30, True)
    assert await page(5, after=3, before=9) == ([], 8, True)
    assert await page(5, backwards=True) == ([30], 21, False)
    assert await page(5, backwards=True, before=21) == ([15], 11, False)
    assert await page(5, backwards=True, before=11) == ([3], 1, True)
    assert await page(1, backwards=True) == ([30], 30, False)
