"""Who may do what to a message after it was posted, and what an argument may be."""

from dataclasses import replace

import pytest

from errors import BadUserInput, Forbidden, MessageComplete, RaqcoonError, RateLimited, RevisionConflict, Unavailable
from messages import ANYONE, Viewer
from patterns import NO_CHANNEL, ChannelPatterns
from resolvers.change_message import (
    append_to_message,
    complete_message,
    edit_message,
    erase_author,
    erase_message,
)
from resolvers.post_message import post_message
from resolvers.post_rate import PostRate
from tests.fakes import memory_chat

ADA = Viewer(author="ada", manage=NO_CHANNEL)
BOB = Viewer(author="bob", manage=NO_CHANNEL)
READER = Viewer(author="eve", post=NO_CHANNEL, manage=NO_CHANNEL)
MANAGER = Viewer(author="mod", post=NO_CHANNEL, manage=ChannelPatterns(("gen*",)))


async def test_author_and_manager_may_do_everything_others_may_complete() -> None:
    async with memory_chat() as chat:
        for number, who in enumerate((ADA, MANAGER, ANYONE), 1):
            message = await post_message(chat, ADA, channel_id="general", author="ada", content="It", complete=False)
            assert (message.id, message.complete) == (f"general:{number}", False)
            id_ = message.id
            grown = await append_to_message(chat, who, message_id=id_, revision=0, piece=" was")
            assert (grown.content, grown.revision) == ("It was", 1)
            for stranger in (BOB, READER):
                for attempt in (
                    append_to_message(chat, stranger, message_id=id_, revision=1, piece="!"),
                    edit_message(chat, stranger, message_id=id_, content="!"),
                    erase_message(chat, stranger, message_id=id_),
                ):
                    with pytest.raises(Forbidden):
                        await attempt
            with pytest.raises(Forbidden):
                await complete_message(chat, READER, message_id=id_)
            assert (await complete_message(chat, BOB, message_id=id_)).revision == 2
            with pytest.raises(MessageComplete):
                await append_to_message(chat, ADA, message_id=id_, revision=2, piece="!")
            edited = await edit_message(chat, who, message_id=id_, content="new", revision=2)
            assert edited.edited_at is not None
            erased = await erase_message(chat, who, message_id=id_)
            assert (erased.content, erased.revision) == ("", 4)
            assert await chat.log.message("general", number) == erased
        changes = await chat.log.changes.read("general", after=0, limit=100, max_bytes=10**6)
        assert [change.author for change in changes] == [  # type: ignore[attr-defined]
            *("ada", "bob", "ada", "ada"),
            *("mod", "bob", "mod", "mod"),
            *("ada", "bob", "ada", "ada"),
        ]


async def test_whole_author_is_erased_by_who_manages_everything() -> None:
    async with memory_chat() as chat:
        for number in range(3):
            await post_message(chat, ANYONE, channel_id=f"c{number}", author="eve", content="x")
        for viewer in (ADA, MANAGER):
            with pytest.raises(Forbidden):
                await erase_author(chat, viewer, author="eve")
        assert await erase_author(chat, Viewer(author="root"), author="eve") == 3
        assert await erase_author(chat, Viewer(author="root"), author="eve") == 0
        with pytest.raises(BadUserInput):
            await erase_author(chat, ANYONE, author="")


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"piece": ""}, "piece"),
        ({"piece": None}, "piece"),
        ({"piece": "a\0b"}, "piece"),
        ({"piece": "\ud800"}, "piece"),
        ({"piece": "é" * 50}, "piece"),
        ({"revision": None}, "revision"),
        ({"revision": -1}, "revision"),
        ({"revision": True}, "revision"),
        ({"revision": "0"}, "revision"),
        ({"revision": 2**31}, "revision"),
        ({"token_count": -1}, "tokenCount"),
        ({"complete": 1}, "complete"),
        ({"message_id": "general:2"}, "id"),
        ({"message_id": "other:1"}, "id"),
        ({"message_id": "general"}, "id"),
        ({"message_id": "general:01"}, "id"),
        ({"message_id": "gen eral:1"}, "id"),
        ({"message_id": None}, "id"),
        ({"message_id": 1}, "id"),
    ],
)
async def test_append_of_what_may_not_be_stores_nothing(arguments: dict[str, object], argument: str) -> None:
    async with memory_chat(content_bytes_max=100) as chat:
        await post_message(chat, ANYONE, channel_id="general", author="ada", content="It", complete=False)
        given: dict[str, object] = {"message_id": "general:1", "revision": 0, "piece": "x", **arguments}
        with pytest.raises(BadUserInput) as refusal:
            await append_to_message(chat, ANYONE, **given)  # type: ignore[arg-type]
        assert refusal.value.argument == argument
        assert await chat.log.changes.last_sequence("general") == 0


async def test_revision_of_the_future_and_erased_messages_are_refused() -> None:
    async with memory_chat() as chat:
        await post_message(chat, ANYONE, channel_id="general", author="ada", content="It", complete=False)
        refusals: list[RaqcoonError] = []
        for attempt in (
            append_to_message(chat, ANYONE, message_id="general:1", revision=1, piece="x"),
            edit_message(chat, ANYONE, message_id="general:1", revision=1, content="x"),
        ):
            with pytest.raises(RevisionConflict) as refusal:
                await attempt
            refusals.append(refusal.value)
        assert {each.extensions["revision"] for each in refusals} == {0}
        await erase_message(chat, ANYONE, message_id="general:1")
        with pytest.raises(BadUserInput, match="erased"):
            await edit_message(chat, ANYONE, message_id="general:1", content="x")
        assert await chat.log.changes.last_sequence("general") == 1


async def test_changes_count_as_posts_and_wait_for_no_drain() -> None:
    async with memory_chat(post_rate=PostRate(2)) as chat:
        await post_message(chat, ADA, channel_id="general", author="ada", content="It", complete=False)
        await append_to_message(chat, ADA, message_id="general:1", revision=0, piece="x")
        with pytest.raises(RateLimited):
            await append_to_message(chat, ADA, message_id="general:1", revision=1, piece="x")
        chat.accepting = False
        with pytest.raises(Unavailable):
            await edit_message(chat, replace(ADA, author="mod"), message_id="general:1", content="x")
