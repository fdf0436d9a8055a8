"""Posting a message. The posts of all transports come through here."""

import time

from errors import RateLimited, Unavailable
from messages import Draft, Message, Viewer
from resolvers import input_rules
from resolvers.chat import Chat
from resolvers.rights import require_post


async def post_message(
    chat: Chat,
    viewer: Viewer,
    *,
    channel_id: object,
    author: object,
    content: object,
    lane: object = None,
    provider: object = None,
    token_count: object = None,
    idempotency_key: object = None,
    complete: object = None,
    address: str | None = None,
) -> Message:
    """Appends a message to its channel and returns it as it was stored. If its idempotency key was used before, returns
    the message that was stored then.

    Arguments may come straight from JSON; the input rules check them. A refused post stores nothing. A caller that is
    cancelled may still have posted. `address` is where the post came from, for its rate; None is not counted.

    Raises:
        BadUserInput: an argument breaks its rule.
        Forbidden: the viewer may not post to the channel or under this name, or the access of one of the two was
            revoked before the commit began.
        RateLimited: the author or the address posts too fast; a repeat is never refused for that, nor counted.
        IdempotencyConflict: the key already names a message that says something else.
        Unavailable: the server drains, or the log cannot answer: the outcome is then unknown.
    """
    draft = input_rules.draft(
        channel=channel_id,
        writer=author,
        text=content,
        text_bytes_max=chat.content_bytes_max,
        lane_name=lane,
        provider_name=provider,
        tokens=token_count,
        key=idempotency_key,
        complete=complete,
        sender=viewer.author,
    )
    require_post(chat, viewer, draft.channel_id, draft.author)
    if not chat.accepting:
        raise Unavailable("The server is shutting down and takes no posts; nothing was stored.")
    if chat.post_rate is not None:
        return await _append_at_rate(chat, draft, address)
    return (await chat.append(draft)).message


async def _append_at_rate(chat: Chat, draft: Draft, address: str | None) -> Message:
    rate = chat.post_rate
    assert rate is not None
    try:
        rate.charge(draft.author, address, time.monotonic())
    except RateLimited:
        first = await chat.log.repeated(draft)
        if first is None:
            raise
        return first
    appended = await chat.append(draft)
    if not appended.created:
        rate.give_back(draft.author, address)
    return appended.message
