"""Relay pages in both directions, cursors, permissions, and pages of channels."""

import pytest

from errors import BadUserInput, CursorExpired, CursorInvalid
from messages import ANYONE, MessageFilter, encode_cursor
from resolvers import history
from resolvers.chat import Chat
from resolvers.history import MessagePage, messages_page
from tests.fakes import MemoryLog, fill, memory_chat, viewer_of_patterns


def at(chat: Chat, sequence: int, channel: str = "c") -> str:
    return encode_cursor(chat.log.epoch, channel, sequence)


def sequences(page: MessagePage) -> list[int]:
    return [message.sequence for message in page.messages]


async def test_page_without_first_or_last_is_the_oldest_fifty(chat: Chat) -> None:
    await fill(chat, "c", 60)
    page = await messages_page(chat, ANYONE, "c")
    assert sequences(page) == list(range(1, 51))
    assert (page.has_previous, page.has_next) == (False, True)
    assert (page.start_cursor, page.end_cursor) == (at(chat, 1), at(chat, 50))


@pytest.mark.parametrize(
    ("arguments", "expected", "has_previous", "has_next"),
    [
        ({"first": 3}, [1, 2, 3], False, True),
        ({"first": 10}, list(range(1, 11)), False, False),
        ({"first": 200}, list(range(1, 11)), False, False),
        ({"first": 3, "after": 4}, [5, 6, 7], True, True),
        ({"first": 3, "after": 7}, [8, 9, 10], True, False),
        ({"first": 3, "after": 0}, [1, 2, 3], False, True),
        ({"first": 3, "after": 10}, [], True, False),
        ({"first": 3, "before": 3}, [1, 2], False, True),
        ({"first": 5, "after": 2, "before": 5}, [3, 4], True, True),
        ({"first": 0}, [], False, True),
        ({"first": 0, "after": 10}, [], True, False),
        ({"last": 3}, [8, 9, 10], True, False),
        ({"last": 10}, list(range(1, 11)), False, False),
        ({"last": 3, "before": 8}, [5, 6, 7], True, True),
        ({"last": 3, "before": 3}, [1, 2], False, True),
        ({"last": 3, "after": 8}, [9, 10], True, False),
        ({"last": 3, "before": 1}, [], False, True),
        ({"last": 0}, [], True, False),
    ],
)
async def test_page_tells_what_lies_on_both_sides(
    chat: Chat, arguments: dict[str, int], expected: list[int], has_previous: bool, has_next: bool
) -> None:
    await fill(chat, "c", 10)
    given = {name: at(chat, value) if name in ("after", "before") else value for name, value in arguments.items()}
    page = await messages_page(chat, ANYONE, "c", **given)
    assert (sequences(page), page.has_previous, page.has_next) == (expected, has_previous, has_next)


async def test_page_of_a_channel_nobody_posted_to_is_empty(chat: Chat) -> None:
    page = await messages_page(chat, ANYONE, "empty", after=at(chat, 0, "empty"))
    assert (page.messages, page.has_previous, page.has_next) == ([], False, False)
    assert (await messages_page(chat, ANYONE, "empty")).end_cursor is None


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"first": 1, "last": 1}, "last"),
        ({"first": -1}, "first"),
        ({"first": 201}, "first"),
        ({"last": -1}, "last"),
        ({"last": 201}, "last"),
    ],
)
async def test_page_size_that_breaks_a_rule_is_refused(chat: Chat, arguments: dict[str, int], argument: str) -> None:
    with pytest.raises(BadUserInput) as refusal:
        await messages_page(chat, ANYONE, "c", **arguments)
    assert refusal.value.argument == argument


@pytest.mark.parametrize("argument", ["after", "before"])
async def test_cursor_that_is_not_of_this_channel_is_invalid(chat: Chat, argument: str) -> None:
    await fill(chat, "c", 3)
    for cursor in ("junk", "", "é", at(chat, 1, "other"), encode_cursor("other epoch", "c", 1), at(chat, 4)):
        with pytest.raises(CursorInvalid) as refusal:
            await messages_page(chat, ANYONE, "c", **{argument: cursor})
        assert refusal.value.argument == argument


async def test_cursor_before_what_is_held_is_expired_and_its_resume_cursor_loses_nothing(chat: Chat) -> None:
    await fill(chat, "c", 10)
    assert isinstance(chat.log, MemoryLog)
    chat.log.forget("c", up_to=4)
    for after in range(4):
        with pytest.raises(CursorExpired) as refusal:
            await messages_page(chat, ANYONE, "c", after=at(chat, after))
        page = await messages_page(chat, ANYONE, "c", after=refusal.value.resume_cursor)
        assert sequences(page) == [5, 6, 7, 8, 9, 10]
        with pytest.raises(CursorExpired):
            await history.messages_after(chat, ANYONE, "c", after=at(chat, after), limit=3)
    assert sequences(await messages_page(chat, ANYONE, "c", first=2)) == [5, 6]
    assert sequences(await messages_page(chat, ANYONE, "c", last=2, before=at(chat, 7))) == [5, 6]


async def test_cursor_at_the_head_of_a_channel_that_holds_nothing_is_still_valid(chat: Chat) -> None:
    await fill(chat, "c", 3)
    assert isinstance(chat.log, MemoryLog)
    chat.log.forget("c", up_to=3)
    assert (await messages_page(chat, ANYONE, "c", after=at(chat, 3))).messages == []
    with pytest.raises(CursorExpired) as refusal:
        await messages_page(chat, ANYONE, "c", after=at(chat, 0))
    assert refusal.value.resume_cursor == at(chat, 3)


@pytest.mark.parametrize("backwards", [False, True])
async def test_filtered_paging_reaches_everything_past_long_stretches_of_nothing(chat: Chat, backwards: bool) -> None:
    await fill(chat, "c", 1, author="bob")
    await fill(chat, "c", 11_000)
    await fill(chat, "c", 2, author="bob")
    wanted = MessageFilter(authors=frozenset({"bob"}))
    found: list[int] = []
    cursor = None
    pages = 0
    while True:
        pages += 1
        if backwards:
            page = await messages_page(chat, ANYONE, "c", last=2, before=cursor, filter=wanted)
            found[:0] = sequences(page)
            cursor, more = page.start_cursor, page.has_previous
        else:
            page = await messages_page(chat, ANYONE, "c", first=2, after=cursor, filter=wanted)
            found += sequences(page)
            cursor, more = page.end_cursor, page.has_next
        if not more:
            break
    assert found == [1, 11_002, 11_003]
    assert pages >= 2


async def test_forbidden_channel_looks_like_one_nobody_posted_to(chat: Chat) -> None:
    (message,) = await fill(chat, "secret", 1)
    viewer = viewer_of_patterns(("open*",))
    assert await history.last_sequence(chat, viewer, "secret") == 0
    assert (await messages_page(chat, viewer, "secret")).messages == []
    with pytest.raises(CursorInvalid):
        await messages_page(chat, viewer, "secret", after=message.cursor)
    with pytest.raises(CursorInvalid):
        await history.messages_after(chat, viewer, "secret", after=message.cursor, limit=1)
    assert await history.messages_after(chat, viewer, "secret", after=None, limit=1) == []
    assert await history.message_by_id(chat, viewer, message.id) is None
    assert (await history.channels_page(chat, viewer)).channels == []
    assert await history.oldest_messages(chat, viewer, limit=10) == []
    assert (await history.summary(chat, viewer)).messages == 0


async def test_channels_page_by_page_are_all_of_them_in_order(chat: Chat) -> None:
    for channel in ("b", "a", "Z", "ä", "c"):
        await fill(chat, channel, 1)
    found: list[str] = []
    after = None
    while True:
        page = await history.channels_page(chat, ANYONE, first=2, after=after)
        assert page.has_previous == (after is not None)
        found += [head.channel_id for head in page.channels]
        after = page.end_cursor
        if not page.has_next:
            break
    assert found == ["Z", "a", "b", "c", "ä"] == await history.all_channels(chat, ANYONE)


async def test_channels_page_skips_what_the_viewer_may_not_use(chat: Chat) -> None:
    for number in range(7):
        await fill(chat, f"{'open' if number % 3 == 0 else 'shut'}-{number}", 1)
    viewer = viewer_of_patterns(("open-*",))
    page = await history.channels_page(chat, viewer, first=2)
    assert [head.channel_id for head in page.channels] == ["open-0", "open-3"]
    assert page.has_next
    page = await history.channels_page(chat, viewer, first=2, after=page.end_cursor)
    assert [head.channel_id for head in page.channels] == ["open-6"]
    assert not page.has_next
    assert [m.channel_id for m in await history.oldest_messages(chat, viewer, limit=2)] == ["open-0", "open-3"]
    assert (await history.summary(chat, viewer)).messages == 3


@pytest.mark.parametrize(
    "message_id", ["", "c", "c:", ":1", "c:0", "c:01", "c:-1", "c:9", "c d:1", "\ud800:1", "c:\u0661"]
)
async def test_message_by_an_id_that_names_nothing_is_none(chat: Chat, message_id: str) -> None:
    await fill(chat, "c", 1)
    assert await history.message_by_id(chat, ANYONE, message_id) is None


async def test_message_by_id_may_have_colons_in_its_channel(chat: Chat) -> None:
    (message,) = await fill(chat, "a:b:2", 1)
    assert await history.message_by_id(chat, ANYONE, "a:b:2:1") == message


async def test_message_of_a_channel_whose_id_ends_as_a_messages_does_is_found_by_the_last_colon() -> None:
    async with memory_chat() as chat:
        (first,) = await fill(chat, "x", 1)
        (other,) = await fill(chat, "x:1", 1)
        assert (first.id, other.id) == ("x:1", "x:1:1")
        assert await history.message_by_id(chat, ANYONE, "x:1") == first
        assert await history.message_by_id(chat, ANYONE, "x:1:1") == other
