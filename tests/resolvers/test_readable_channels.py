"""Listing channels by patterns: all that match, in order, page by page, and nothing of the others."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import Forbidden
from patterns import ChannelPatterns
from resolvers import history, readable_channels
from resolvers.chat import Chat
from tests.fakes import fill, memory_chat, viewer_of_patterns

IDS = st.text("ab-é\U0001f99d", min_size=1, max_size=4)
PATTERNS = st.lists(st.text("ab-*?[]é", max_size=4), max_size=4).map(tuple)


@given(channels=st.sets(IDS, max_size=12), patterns=PATTERNS, size=st.integers(1, 4))
async def test_listing_by_any_patterns_is_what_matches_page_by_page(
    channels: set[str], patterns: tuple[str, ...], size: int
) -> None:
    wanted = sorted(id_ for id_ in channels if any(fnmatchcase(id_, pattern) for pattern in patterns))
    viewer = viewer_of_patterns(patterns)
    async with memory_chat() as chat:
        for channel in channels:
            await fill(chat, channel, 1)
        assert await history.all_channels(chat, viewer) == wanted
        found: list[str] = []
        after = None
        while True:
            page = await history.channels_page(chat, viewer, first=size, after=after)
            assert page.has_previous == bool(found)
            found += [head.channel_id for head in page.channels]
            after = page.end_cursor
            assert after is None or after in wanted, "a cursor must not tell of a channel that may not be used"
            if not page.has_next:
                break
        assert found == wanted


@pytest.mark.parametrize(
    ("patterns", "places"),
    [
        ((), ()),
        (("general",), (("general", False),)),
        (("team-*", "team-a", "team-a?", "general"), (("general", False), ("team-", True))),
        (("a", "a*"), (("a", True),)),
        (("*x", "team-*"), (("", True),)),
        (("general", "general-*"), (("general", False), ("general-", True))),
    ],
)
def test_stretches_cover_the_patterns_and_never_overlap(
    patterns: tuple[str, ...], places: tuple[tuple[str, bool], ...]
) -> None:
    assert ChannelPatterns(patterns).stretches == places


async def test_listing_by_prefix_reads_nothing_of_the_other_channels(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        await fill(chat, f"other-{number}", 1)
    await fill(chat, "team-a", 1)
    monkeypatch.setattr(readable_channels, "PASSED_OVER_MAX", 0)
    assert await history.all_channels(chat, viewer_of_patterns(("team-*", "nobody"))) == ["team-a"]


async def test_listing_that_passes_over_too_many_is_refused_rather_than_endless(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await fill(chat, f"other-{number}", 1)
    await fill(chat, "x", 1)
    monkeypatch.setattr(readable_channels, "PASSED_OVER_MAX", 5)
    assert await history.all_channels(chat, viewer_of_patterns(("*x",))) == ["x"]
    monkeypatch.setattr(readable_channels, "PASSED_OVER_MAX", 4)
    with pytest.raises(Forbidden):
        await history.all_channels(chat, viewer_of_patterns(("*x",)))
