"""What a viewer may do, asked in one place. Resolvers and transports ask here and never look at a token's claims."""

from errors import Forbidden
from messages import Viewer
from resolvers import input_rules
from resolvers.chat import Chat


def may_read(chat: Chat, viewer: Viewer, channel_id: str) -> bool:
    """Whether a channel exists for the viewer. Where it does not, it looks like one that nobody has posted to."""
    return viewer.may_read(channel_id)


def reads_everything(chat: Chat, viewer: Viewer) -> bool:
    """Whether every channel that there is exists for the viewer, so that none need be looked at one by one."""
    return viewer.read.everything


def require_read(chat: Chat, viewer: Viewer, channel_id: str) -> None:
    """Raises Forbidden unless the viewer may follow the channel."""
    if not may_read(chat, viewer, channel_id):
        raise Forbidden("You may not subscribe to this channel.")


def require_post(chat: Chat, viewer: Viewer, channel_id: str, author: str) -> None:
    """Raises Forbidden unless the viewer may post to the channel under the name of `author`."""
    if not viewer.may_post(channel_id):
        raise Forbidden("You may not post to this channel.")
    if not viewer.may_post_as(author):
        raise Forbidden("You may not post under this name.")


def may_only_post(chat: Chat, viewer: Viewer, channel_id: object) -> bool:
    """Whether the viewer may post to the channel and not read it.

    Raises:
        BadUserInput: `channel_id` breaks its rule.
    """
    channel = input_rules.channel_id(channel_id)
    return viewer.may_post(channel) and not may_read(chat, viewer, channel)


def may_manage(chat: Chat, viewer: Viewer, channel_id: str | None) -> bool:
    """Whether the viewer may manage the channel; None stands for every channel."""
    return viewer.may_manage(channel_id)


def require_manage(chat: Chat, viewer: Viewer, channel_id: str | None) -> None:
    """Raises Forbidden unless the viewer may manage the channel; None stands for every channel."""
    if not may_manage(chat, viewer, channel_id):
        raise Forbidden(
            "You may not manage every channel." if channel_id is None else "You may not manage this channel."
        )
