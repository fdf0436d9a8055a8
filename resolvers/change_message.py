"""What may be done to a message after it was posted: append, complete, edit, erase. All transports call this module.

An author may do all of it to his own messages, and whoever manages the channel to the messages of everybody. Whoever
may post in the channel may complete any message that he can read: this is how a reader stops an answer that grows. For
a viewer who may not read the channel, an answer leaves out what others have written there.
"""

import time
from dataclasses import replace
from typing import TypedDict

from changes import ChangeDraft, MessageChangeKind
from errors import BadUserInput, Unavailable
from message_log.protocol import Appended
from messages import Message, Viewer, parse_message_id
from resolvers import erasing, input_rules
from resolvers.chat import Chat
from resolvers.rights import may_manage, may_read, require_manage, require_post


async def append_to_message(
    chat: Chat,
    viewer: Viewer,
    *,
    message_id: object,
    revision: object,
    piece: object,
    token_count: object = None,
    complete: object = False,
    address: str | None = None,
) -> Message:
    """Appends `piece` to a message of `revision`, completes it if that is asked for, and returns the message as it is
    then.

    A piece that is sent again is answered with the message as it is. It needs no idempotency key for this, so it may be
    sent again after any failure. `token_count` replaces that of the message: it counts the whole message.

    Raises:
        BadUserInput: an argument breaks its rule, no such message is held, or it would grow too long.
        Forbidden: the viewer may not do this here, or not to this message.
        RevisionConflict: the message has another revision.
        MessageComplete: nothing can be appended to it any more.
        RateLimited, Unavailable: as for a post.
    """
    channel_id, sequence = _place(message_id)
    if revision is None:
        raise BadUserInput("revision", "is required")
    return await _change(
        chat,
        viewer,
        ChangeDraft(
            channel_id,
            sequence,
            MessageChangeKind.APPENDED,
            revision=input_rules.revision(revision),
            text=input_rules.content(piece, chat.content_bytes_max, "piece"),
            token_count=input_rules.token_count(token_count),
            complete=input_rules.flag("complete", complete),
            content_bytes_max=chat.content_bytes_max,
            **_asker(chat, viewer, channel_id),
        ),
        address,
    )


async def complete_message(chat: Chat, viewer: Viewer, *, message_id: object, address: str | None = None) -> Message:
    """Completes a message, which then cannot grow any more. One that is complete already is returned as it is.

    Raises:
        BadUserInput: no such message is held.
        Forbidden: the viewer may not post to the channel; or may not read it, and somebody else wrote the message.
        RateLimited, Unavailable: as for a post.
    """
    channel_id, sequence = _place(message_id)
    asker = _asker(chat, viewer, channel_id)
    if may_read(chat, viewer, channel_id):
        asker["others"] = True  # Whoever may post here may complete the messages of others that he can see.
    draft = ChangeDraft(channel_id, sequence, MessageChangeKind.COMPLETED, **asker)
    return await _change(chat, viewer, draft, address)


async def edit_message(
    chat: Chat,
    viewer: Viewer,
    *,
    message_id: object,
    content: object,
    revision: object = None,
    address: str | None = None,
) -> Message:
    """Gives a message another content. With `revision`, only if the message still has that revision.

    Raises:
        BadUserInput: an argument breaks its rule, no such message is held, or it was erased.
        Forbidden, RevisionConflict, RateLimited, Unavailable: as for an append.
    """
    channel_id, sequence = _place(message_id)
    draft = ChangeDraft(
        channel_id,
        sequence,
        MessageChangeKind.EDITED,
        revision=None if revision is None else input_rules.revision(revision),
        text=input_rules.content(content, chat.content_bytes_max),
        **_asker(chat, viewer, channel_id),
    )
    return await _change(chat, viewer, draft, address)


async def erase_message(chat: Chat, viewer: Viewer, *, message_id: object, address: str | None = None) -> Message:
    """Erases everything of a message but its number, for good. One that was erased already is returned as it is.

    Raises:
        BadUserInput: no such message is held.
        Forbidden, RateLimited, Unavailable: as for an append.
    """
    channel_id, sequence = _place(message_id)
    draft = ChangeDraft(channel_id, sequence, MessageChangeKind.ERASED, **_asker(chat, viewer, channel_id))
    return await _change(chat, viewer, draft, address)


async def erase_author(chat: Chat, viewer: Viewer, *, author: object) -> int:
    """Erases every message of an author and removes the name from them. Returns how many messages were erased.

    Raises:
        BadUserInput: `author` breaks its rule.
        Forbidden: the viewer does not manage every channel.
        Unavailable: what was erased stays erased, and a repeat erases the rest.
    """
    name = input_rules.author(author)
    require_manage(chat, viewer, None)
    _require_accepting(chat)
    erased = await erasing.erase_author(chat.log, name, by=viewer.author)
    chat.hubs.forget_everything()
    return erased


class _Asker(TypedDict):
    by: str | None
    others: bool


def _place(message_id: object) -> tuple[str, int]:
    """The channel and sequence that an id names. A malformed id is refused like one that names no message."""
    place = parse_message_id(input_rules.well_formed("id", message_id))
    if place is None:
        raise BadUserInput("id", "names no message that is stored: it never was, or retention has removed it")
    return input_rules.channel_id(place[0], "id"), place[1]


def _asker(chat: Chat, viewer: Viewer, channel_id: str) -> _Asker:
    """Who asks, and whether they may change what others have posted in the channel.

    Raises:
        Forbidden: they may change nothing there.
    """
    manages = may_manage(chat, viewer, channel_id)
    if not manages:
        require_post(chat, viewer, channel_id, viewer.author or "")
    return {"by": viewer.author, "others": manages or viewer.author is None or viewer.posts_as_anyone}


def _require_accepting(chat: Chat) -> None:
    if not chat.accepting:
        raise Unavailable("The server is shutting down and changes nothing; nothing was stored.")


async def _change(chat: Chat, viewer: Viewer, draft: ChangeDraft, address: str | None) -> Message:
    _require_accepting(chat)
    # A change costs as much as a post, so it counts as one. On a server without authentication, the client's address
    # takes the place of the author.
    rate, who = chat.post_rate, viewer.author or address or ""
    if rate is not None:
        rate.charge(who, address, time.monotonic())
    changed: Appended = await chat.log.change(draft)
    if rate is not None and not changed.created:
        rate.give_back(who, address)
    return _as_shown(chat, viewer, changed.message)


def _as_shown(chat: Chat, viewer: Viewer, message: Message) -> Message:
    """The message as an answer shows it: without its content if the viewer neither wrote it nor may read it."""
    if message.author == viewer.author or may_read(chat, viewer, message.channel_id):
        return message
    return replace(message, content="", lane=None, provider=None, token_count=None)
