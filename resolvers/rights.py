"""What a viewer may do: what his token allows, without what was revoked.

Resolvers and transports ask here and never look at a token's claims. Nothing here reads the log: token and revocations
are both in memory.
"""

from errors import Forbidden
from messages import Viewer
from resolvers import input_rules
from resolvers.chat import Chat

_REVOKED = "Your access to this channel was revoked."


def may_read(chat: Chat, viewer: Viewer, channel_id: str) -> bool:
    """Whether the viewer may read the channel. If not, it is left out of his lists."""
    return viewer.may_read(channel_id) and not chat.log.revoked.forbids(viewer.author, channel_id)


def exists(chat: Chat, viewer: Viewer, channel_id: str) -> bool:
    """Whether a channel exists for the viewer. If it does not, it looks like one that nobody has posted to.

    Raises:
        Forbidden: his token allows him to read it, and his access was revoked.
    """
    if not viewer.may_read(channel_id):
        return False
    _require_not_revoked(chat, viewer.author, channel_id)
    return True


def reads_everything(chat: Chat, viewer: Viewer) -> bool:
    """Whether the viewer may read every channel that there is. Then they need not be checked one by one."""
    return viewer.read.everything and not chat.log.revoked.concerns(viewer.author)


def require_read(chat: Chat, viewer: Viewer, channel_id: str) -> None:
    """Raises Forbidden unless the viewer may follow the channel."""
    if not exists(chat, viewer, channel_id):
        raise Forbidden("You may not subscribe to this channel.")


def require_post(chat: Chat, viewer: Viewer, channel_id: str, author: str) -> None:
    """Raises Forbidden unless the viewer may post to the channel under the name of `author`."""
    if not viewer.may_post(channel_id):
        raise Forbidden("You may not post to this channel.")
    if not viewer.may_post_as(author):
        raise Forbidden("You may not post under this name.")
    revoked = chat.log.revoked
    if revoked.forbids(viewer.author, channel_id):
        raise Forbidden(_REVOKED)
    if author != viewer.author and revoked.forbids(author, channel_id):
        raise Forbidden("The access of this author was revoked.")


def may_only_post(chat: Chat, viewer: Viewer, channel_id: object) -> bool:
    """Whether the viewer may post to the channel and not read it.

    Raises:
        BadUserInput: `channel_id` breaks its rule.
        Forbidden: his access was revoked.
    """
    channel = input_rules.channel_id(channel_id)
    if not viewer.may_post(channel) or viewer.may_read(channel):
        return False
    _require_not_revoked(chat, viewer.author, channel)
    return True


def may_manage(chat: Chat, viewer: Viewer, channel_id: str | None) -> bool:
    """Whether the viewer may manage the channel. None stands for every channel: False if any is revoked for him."""
    revoked = chat.log.revoked
    if channel_id is None:
        return viewer.may_manage(None) and not revoked.concerns(viewer.author)
    return viewer.may_manage(channel_id) and not revoked.forbids(viewer.author, channel_id)


def require_manage(chat: Chat, viewer: Viewer, channel_id: str | None) -> None:
    """Raises Forbidden unless the viewer may manage the channel; None stands for every channel."""
    if not may_manage(chat, viewer, channel_id):
        raise Forbidden(
            "You may not manage every channel." if channel_id is None else "You may not manage this channel."
        )


def require_admission(chat: Chat, viewer: Viewer) -> None:
    """Raises Forbidden if the viewer's access to every channel was revoked."""
    if viewer.author is not None and chat.log.revoked.forbids(viewer.author, None):
        raise Forbidden("Your access was revoked.")


def _require_not_revoked(chat: Chat, author: str | None, channel_id: str) -> None:
    if chat.log.revoked.forbids(author, channel_id):
        raise Forbidden(_REVOKED)
