"""Reading: pages of a channel's history by the Relay connection rules, channels, single messages, totals.

A channel that the viewer may not read does not exist here: it looks like one that nobody has posted to. If his token
allows it and his access was revoked, it is `Forbidden`.
"""

from dataclasses import dataclass

from errors import BadUserInput, CursorExpired, CursorInvalid
from message_log.protocol import LOOK_AT_MAX, StoredPage
from message_rows import NOTHING, MessageRows
from messages import ChannelHead, Message, MessageFilter, Totals, Viewer, encode_cursor, parse_message_id
from resolvers import input_rules
from resolvers.budget import Budget
from resolvers.chat import Chat
from resolvers.readable_channels import readable_channels
from resolvers.recent_pages import RecentPage
from resolvers.rights import exists, reads_everything
from resolvers.subscribe import position_of

PAGE_DEFAULT = 50
PAGE_MAX = 200
STRETCH_BYTES = 128 * 1024
"""Length of the contents that `messages_after` returns at once; the last message may exceed it."""
_NO_TOTALS = Totals(0, 0, {}, {})


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Messages in ascending sequence, and where the page lies in its channel.

    `has_next` and `has_previous` tell whether there are messages after and before it. The cursor from which a client
    goes on is where the search stopped. With a filter this may be far beyond the last message that was found.
    `last_sequence` is the channel's head as it was before the page was read.
    """

    messages: MessageRows
    has_next: bool
    has_previous: bool
    start_cursor: str | None
    end_cursor: str | None
    last_sequence: int = 0
    recent: RecentPage | None = None
    """Where the encoded messages may be kept for others who ask for the same page."""


@dataclass(frozen=True, slots=True)
class ChannelPage:
    """Channels by code point order of their ids. `end_cursor` is the id of the last one."""

    channels: list[ChannelHead]
    has_next: bool
    has_previous: bool
    end_cursor: str | None


def page_size(*, first: int | None, last: int | None = None) -> int:
    """How many messages a page may have: `first`, `last`, or 50 when neither is given.

    Raises:
        BadUserInput: both are given, or one is negative or over 200.
    """
    if first is not None and last is not None:
        raise BadUserInput("last", "must not be given together with first")
    argument, size = ("first", first) if last is None else ("last", last)
    if size is None:
        return PAGE_DEFAULT
    if not 0 <= size <= PAGE_MAX:
        raise BadUserInput(argument, f"must be between 0 and {PAGE_MAX}")
    return size


async def last_sequence(chat: Chat, viewer: Viewer, channel_id: object, argument: str = "id") -> int:
    """The channel's newest sequence as committed now, 0 while nothing was posted.

    Raises:
        BadUserInput: `channel_id` breaks its rule; the error names `argument`.
        Unavailable: the log cannot answer.
    """
    channel = input_rules.channel_id(channel_id, argument)
    return await chat.log.last_sequence(channel) if exists(chat, viewer, channel) else 0


async def last_change(chat: Chat, viewer: Viewer, channel_id: object, argument: str = "id") -> int:
    """The sequence of the channel's newest change as committed now, 0 when there is none. Raises as `last_sequence`."""
    channel = input_rules.channel_id(channel_id, argument)
    return await chat.log.changes.last_sequence(channel) if exists(chat, viewer, channel) else 0


async def messages_page(
    chat: Chat,
    viewer: Viewer,
    channel_id: str,
    *,
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    before: str | None = None,
    filter: MessageFilter | None = None,
    budget: Budget | None = None,
) -> MessagePage:
    """The oldest `first` or the newest `last` messages between two cursors; the oldest 50 when neither is given.

    With a filter at most 10,000 messages are looked at, or as many as `budget` has left. So a page may be short; a
    client that goes on from its cursor reaches everything.

    Raises:
        BadUserInput: `first` and `last` together, or one of them negative or over 200.
        CursorInvalid: a cursor is malformed, of another channel or epoch, or past the head.
        CursorExpired: retention removed messages that follow `after`.
        Unavailable: the log cannot answer.
    """
    limit = page_size(first=first, last=last)
    low = None if after is None else position_of(chat, channel_id, after, "after")
    high = None if before is None else position_of(chat, channel_id, before, "before")
    if not exists(chat, viewer, channel_id):
        for position, argument in ((low, "after"), (high, "before")):
            if position:
                raise CursorInvalid("is past the channel's newest message", argument)
        return MessagePage(NOTHING, False, False, None, after)
    backwards = last is not None
    looks = LOOK_AT_MAX if filter is None or budget is None else budget.take_looks()
    keeps = chat.log.exclusive and filter is None
    if keeps and (known := chat.recent_pages.find(channel_id, (low, high, limit, backwards))) is not None:
        # Read while this one waited for its turn.
        return _page(
            chat.log.epoch, channel_id, known.stored, known, low, high, limit, backwards, after=after, before=before
        )
    token = chat.recent_pages.begin(channel_id) if keeps else None
    stored, recent = None, None
    try:
        stored = await chat.log.page(
            channel_id,
            after=low,
            before=high,
            limit=limit,
            backwards=backwards,
            filter=filter,
            look_at_max=looks,
        )
    finally:
        if keeps:
            recent = chat.recent_pages.keep(channel_id, (low, high, limit, backwards), token, stored)
    if filter is not None and budget is not None:
        budget.looked(looks, stored.found.looked_at)
    return _page(chat.log.epoch, channel_id, stored, recent, low, high, limit, backwards, after=after, before=before)


def recent_page(
    chat: Chat,
    viewer: Viewer,
    channel_id: str,
    *,
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    before: str | None = None,
) -> MessagePage | None:
    """`messages_page` without a filter, if the page was read a moment ago; None if it has to be read.

    Raises as `messages_page`.
    """
    if not chat.log.exclusive or not exists(chat, viewer, channel_id):
        return None
    limit = page_size(first=first, last=last)
    low = None if after is None else position_of(chat, channel_id, after, "after")
    high = None if before is None else position_of(chat, channel_id, before, "before")
    backwards = last is not None
    recent = chat.recent_pages.find(channel_id, (low, high, limit, backwards))
    if recent is None:
        return None
    stored = recent.stored
    return _page(chat.log.epoch, channel_id, stored, recent, low, high, limit, backwards, after=after, before=before)


def _page(
    epoch: str,
    channel_id: str,
    stored: StoredPage,
    recent: RecentPage | None,
    low: int | None,
    high: int | None,
    limit: int,
    backwards: bool,
    *,
    after: str | None,
    before: str | None,
) -> MessagePage:
    """The answer to whoever asked for a page, made of what was read."""
    found = stored.found
    more, held_before, held_after = not found.exhausted, False, False
    if stored.oldest is not None:
        oldest, head = stored.oldest, stored.head
        for position, argument in ((low, "after"), (high, "before")):
            if position is not None and position > head:
                raise CursorInvalid("is past the channel's newest message", argument)
        if low is not None and low + 1 < oldest:
            raise CursorExpired(encode_cursor(epoch, channel_id, oldest - 1))
        if not limit:
            # Nothing was looked at. There is more if a message that is held lies in the range.
            more = max(oldest, (low or 0) + 1) <= min(head, (high or head + 1) - 1)
        held_before = low is not None and oldest <= low
        held_after = high is not None and high <= head
    start = found.messages.cursor(0) if found.messages else None
    end = found.messages.cursor(-1) if found.messages else None
    stopped = None if found.stopped_at is None else encode_cursor(epoch, channel_id, found.stopped_at)
    if backwards:
        has_next, has_previous, start = held_after, more or held_before, before if stopped is None else stopped
    else:
        has_next, has_previous, end = more or held_after, held_before, after if stopped is None else stopped
    return MessagePage(found.messages, has_next, has_previous, start, end, stored.head, recent)


async def channels_page(
    chat: Chat, viewer: Viewer, *, first: int | None = None, after: str | None = None
) -> ChannelPage:
    """At most `first` (50 by default) channels that were posted to, ids > `after`, by code point order.

    Raises:
        BadUserInput: `first` is negative or over 200, or `after` is not a string.
        Forbidden: the viewer's patterns are too wide to be listed (`readable_channels`).
        Unavailable: the log cannot answer.
    """
    limit = page_size(first=first)
    start = None if after is None else input_rules.well_formed("after", after)
    has_previous = False
    if start is not None:
        has_previous = any(head.channel_id <= start for head in await readable_channels(chat, viewer, limit=1))
    # One more than wanted tells whether another page follows.
    found = await readable_channels(chat, viewer, after=start, limit=limit + 1)
    page = found[:limit]
    return ChannelPage(page, len(found) > limit, has_previous, page[-1].channel_id if page else start)


async def all_channels(chat: Chat, viewer: Viewer) -> list[str]:
    """The ids of all channels that were posted to and that the viewer may read, by code point order."""
    return [head.channel_id for head in await readable_channels(chat, viewer)]


async def message_by_id(chat: Chat, viewer: Viewer, message_id: str) -> Message | None:
    """One message. None when the id is malformed, or names no message that is held and that the viewer may see."""
    parsed = parse_message_id(message_id)
    if parsed is None:
        return None
    try:
        channel = input_rules.channel_id(parsed[0])
    except BadUserInput:
        return None
    return await chat.log.message(channel, parsed[1]) if exists(chat, viewer, channel) else None


async def messages_after(
    chat: Chat, viewer: Viewer, channel_id: object, *, after: str | None, limit: int, max_bytes: int = STRETCH_BYTES
) -> list[Message]:
    """The oldest `limit` messages of a channel after a cursor, ascending. The list ends with the message with which
    their contents exceed `max_bytes`.

    Raises:
        BadUserInput: `channel_id` breaks its rule.
        CursorInvalid, CursorExpired, Unavailable: as `messages_page`.
    """
    channel = input_rules.channel_id(channel_id)
    low = None if after is None else position_of(chat, channel, after)
    if not exists(chat, viewer, channel):
        if low:
            raise CursorInvalid("is past the channel's newest message")
        return []
    found = await chat.log.read(channel, after=low or 0, limit=limit, max_bytes=max_bytes)
    if low is not None and (not found or found[0].sequence != low + 1):
        if low > await chat.log.last_sequence(channel):
            raise CursorInvalid("is past the channel's newest message")
        if low + 1 < (oldest := await chat.log.oldest_sequence(channel)):
            raise CursorExpired(encode_cursor(chat.log.epoch, channel, oldest - 1))
    return found


async def oldest_messages(chat: Chat, viewer: Viewer, *, limit: int, after: Message | None = None) -> list[Message]:
    """The oldest `limit` messages of all channels that the viewer may read, by (timestamp, channel_id, sequence). With
    `after`, only those that follow it in this order."""
    if reads_everything(chat, viewer):
        return await chat.log.oldest_of_all(limit=limit, after=after)
    channels = await all_channels(chat, viewer)
    return await chat.log.oldest_of_all(limit=limit, channel_ids=channels, after=after) if channels else []


async def summary(chat: Chat, viewer: Viewer) -> Totals:
    """Totals over the channels that the viewer may read."""
    if reads_everything(chat, viewer):
        return await chat.log.totals()
    channels = await all_channels(chat, viewer)
    return await chat.log.totals(channels) if channels else _NO_TOTALS
