"""Subscribing to a channel from a cursor on."""

from collections.abc import Hashable

from delivery.results import Render
from delivery.sink import Sink
from delivery.subscriber import Subscriber
from errors import CursorInvalid, Forbidden
from messages import MessageFilter, Viewer, decode_cursor
from resolvers import input_rules
from resolvers.chat import Chat
from resolvers.rights import require_read


def position_of(
    chat: Chat, channel_id: str, cursor: object, argument: str = "after", *, epoch: str | None = None
) -> int:
    """The position that a client's cursor stands for in this channel. Without `epoch`, the cursor has to be of the
    epoch of the messages.

    Raises:
        CursorInvalid: it is malformed, of another channel or of another epoch.
    """
    if not isinstance(cursor, str):
        raise CursorInvalid("is not a cursor of this server", argument)
    try:
        return decode_cursor(cursor, epoch or chat.log.epoch, channel_id)
    except ValueError as problem:
        raise CursorInvalid(str(problem), argument) from None


async def subscribe(
    chat: Chat,
    viewer: Viewer,
    *,
    channel_id: object,
    after: object,
    filter: MessageFilter | None,
    cohort: Hashable,
    render: Render,
    sink: Sink,
    client: Hashable = None,
    changes: bool = False,
) -> Subscriber:
    """Adds a subscriber that is sent everything after the cursor `after`, and then what is posted. None is the head.
    With `changes` it is sent what is done to the channel's messages, and `after` is a position among these changes.

    `cohort` names what `render` makes of a message: subscribers of a channel with equal `cohort` share the bytes,
    whatever their filters are. `client` is counted for a filter or cohort that nobody else has; None is not counted.
    The caller owns the subscriber and closes it when its connection or operation ends.

    Raises:
        BadUserInput: `channel_id` breaks its rule.
        Forbidden: the viewer may not read the channel.
        CursorInvalid: `after` is malformed, of another channel or epoch, or past the head.
        TooManyFilters: the channel, or the client in it, has as many different subscriptions as it may have.
        Unavailable: the log cannot tell the head now.

    If retention has removed what follows `after`, it is the sink that is told so (`end`), now and at any later time.
    """
    channel = input_rules.channel_id(channel_id)
    require_read(chat, viewer, channel)
    hub, epoch = (chat.hubs.changes, chat.log.changes.epoch) if changes else (chat.hub, chat.log.epoch)
    position = None if after is None else position_of(chat, channel, after, epoch=epoch)
    subscriber = await hub.subscribe(
        channel,
        position,
        cohort=cohort,
        filter=filter,
        render=render,
        sink=sink,
        client=client,
        author=viewer.author,
    )
    try:
        require_read(chat, viewer, channel)  # It may have been revoked meanwhile. Nothing was sent in this step yet.
    except Forbidden:
        subscriber.close()
        raise
    return subscriber
