"""Lists the channels that a viewer may read, in order. The viewer's patterns tell which others need not be read."""

from errors import Forbidden
from messages import ChannelHead, Viewer
from resolvers.chat import Chat
from resolvers.rights import may_read

PASSED_OVER_MAX = 100_000
"""How many channels in a row a listing passes over because the viewer may not read them. It takes about 0.2 s."""
_CHANNELS_PER_READ = 1000


async def readable_channels(
    chat: Chat, viewer: Viewer, *, after: str | None = None, limit: int | None = None
) -> list[ChannelHead]:
    """The channels that were posted to and that the viewer may read, ids > `after`, by code point order.

    At most `limit`, None for all of them. Nothing in the list, not even where it ends, tells of a channel that the
    viewer may not read.

    Raises:
        Forbidden: the viewer's patterns are so wide, and match so little, that more than 100,000 other channels would
            have to be passed over in a row.
        Unavailable: the log cannot answer.
    """
    places = viewer.read.stretches
    ahead = [
        (name, wide) for name, wide in places if after is None or name > after or (wide and after.startswith(name))
    ]
    named = await chat.log.last_sequences([name for name, _ in ahead if name and (after is None or name > after)])
    found: list[ChannelHead] = []
    for name, wide in ahead:
        if name in named and may_read(chat, viewer, name):
            found.append(ChannelHead(name, named[name]))
        if wide and (limit is None or len(found) < limit):
            await _add_stretch(chat, viewer, name, max(name, after or ""), limit, found)
        if limit is not None and len(found) >= limit:
            return found[:limit]
    return found


async def _add_stretch(
    chat: Chat, viewer: Viewer, start: str, reached: str, limit: int | None, found: list[ChannelHead]
) -> None:
    """Adds the readable channels whose ids begin with `start` and follow `reached`."""
    size = _CHANNELS_PER_READ if limit is None else min(limit - len(found), _CHANNELS_PER_READ)
    passed_over = 0
    while True:
        page = await chat.log.channels(after=reached or None, limit=size)
        for head in page:
            if not head.channel_id.startswith(start):
                return
            if may_read(chat, viewer, head.channel_id):
                passed_over = 0
                found.append(head)
                if len(found) == limit:
                    return
            else:
                passed_over += 1
                if passed_over > PASSED_OVER_MAX:
                    raise Forbidden("You may read too few of too many channels for them to be listed.")
        if len(page) < size:
            return
        reached = page[-1].channel_id
        size = _CHANNELS_PER_READ
