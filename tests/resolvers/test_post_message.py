import pytest

from errors import BadUserInput, Forbidden, IdempotencyConflict, Unavailable
from messages import ANYONE, Viewer
from patterns import NO_CHANNEL, ChannelPatterns
from resolvers import history, rights
from resolvers.chat import Chat
from resolvers.post_message import post_message
from tests.fakes import viewer_of_patterns


async def test_post_valid_is_stored_byte_for_byte(chat: Chat) -> None:
    text = "  héllo\r\n\u2028🦝 "
    message = await post_message(
        chat, ANYONE, channel_id="c", author="ann", content=text, lane="", provider="openai", token_count=3
    )
    assert (message.sequence, message.content, message.lane, message.provider) == (1, text, None, "openai")
    assert await chat.log.message("c", 1) == message


async def test_post_refused_uses_no_sequence(chat: Chat) -> None:
    with pytest.raises(BadUserInput):
        await post_message(chat, ANYONE, channel_id="c", author="ann", content="")
    assert await chat.log.last_sequence("c") == 0


async def test_post_repeated_with_its_key_is_the_first_message(chat: Chat) -> None:
    post = {"channel_id": "c", "author": "ann", "content": "x", "idempotency_key": "k"}
    first = await post_message(chat, ANYONE, **post)
    assert await post_message(chat, ANYONE, **post) == first
    with pytest.raises(IdempotencyConflict):
        await post_message(chat, ANYONE, **{**post, "lane": "other"})
    assert await chat.log.last_sequence("c") == 1


async def test_post_to_a_foreign_channel_is_forbidden(chat: Chat) -> None:
    viewer = viewer_of_patterns(("team-*",), "ann")
    await post_message(chat, viewer, channel_id="team-a", author="ann", content="x")
    with pytest.raises(Forbidden):
        await post_message(chat, viewer, channel_id="secret", author="ann", content="x")


async def test_post_under_a_foreign_name_is_forbidden_unless_allowed(chat: Chat) -> None:
    with pytest.raises(Forbidden):
        await post_message(chat, Viewer(author="ann"), channel_id="c", author="bob", content="x")
    bridge = Viewer(author="ann", posts_as_anyone=True)
    await post_message(chat, bridge, channel_id="c", author="bob", content="x")


async def test_post_while_draining_is_unavailable(chat: Chat) -> None:
    chat.accepting = False
    with pytest.raises(Unavailable):
        await post_message(chat, ANYONE, channel_id="c", author="ann", content="x")
    assert await chat.log.last_sequence("c") == 0


async def test_who_may_post_but_not_read_posts_blindly(chat: Chat) -> None:
    poster = Viewer("ann", read=NO_CHANNEL, post=ChannelPatterns(("inbox",)), manage=NO_CHANNEL)
    message = await post_message(chat, poster, channel_id="inbox", author="ann", content="x")
    assert await history.message_by_id(chat, poster, message.id) is None
    with pytest.raises(Forbidden):
        await post_message(chat, poster, channel_id="other", author="ann", content="x")


async def test_who_may_read_but_not_post_is_refused(chat: Chat) -> None:
    reader = Viewer("ann", read=ChannelPatterns(("news",)), post=NO_CHANNEL, manage=NO_CHANNEL)
    message = await post_message(chat, ANYONE, channel_id="news", author="ann", content="x")
    assert await history.message_by_id(chat, reader, message.id) == message
    with pytest.raises(Forbidden):
        await post_message(chat, reader, channel_id="news", author="ann", content="x")


def test_manage_implies_nothing_and_is_implied_by_nothing(chat: Chat) -> None:
    member = viewer_of_patterns(("*",), "ann")
    assert not rights.may_manage(chat, member, "c")
    assert not rights.may_manage(chat, member, None)
    moderator = Viewer("ann", read=NO_CHANNEL, post=NO_CHANNEL, manage=ChannelPatterns(("team-*",)))
    assert rights.may_manage(chat, moderator, "team-a")
    assert not rights.may_manage(chat, moderator, None)
    assert not moderator.may_post("team-a")
    with pytest.raises(Forbidden):
        rights.require_manage(chat, moderator, "other")
    rights.require_manage(chat, ANYONE, None)
