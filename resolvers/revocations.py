"""Revoking an author's access, restoring it, and listing whose access is revoked."""

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from errors import BadUserInput, CursorInvalid
from messages import Revocation, Viewer
from resolvers import input_rules
from resolvers.chat import Chat
from resolvers.history import page_size
from resolvers.rights import may_manage, require_manage

ANYBODYS_NAME = "unknown"
"""The name of whoever revoked, on a server without authentication."""


@dataclass(frozen=True, slots=True)
class RevocationPage:
    """Revocations by (author, channel), those for every channel first; cursors are positions in that order."""

    revocations: list[Revocation]
    cursors: list[str]
    has_next: bool
    has_previous: bool


async def revoke_access(
    chat: Chat, viewer: Viewer, *, author: object, channel_id: object = None, until: datetime | None = None
) -> Revocation:
    """Revokes an author's access to a channel, or to every channel. Returns the revocation that is now in force.

    There need not be such an author or channel: only the names count. Viewers may revoke their own access like that of
    others. A second revocation for the same author and channel replaces the first.

    Raises:
        BadUserInput: a name breaks its rule, `until` is not in the future or has no UTC offset, or there are too many.
        Forbidden: the viewer does not manage the channel; or, if none is named, not every channel.
        Unavailable: the outcome is unknown. It may be repeated.
    """
    name, channel = _named(author, channel_id)
    require_manage(chat, viewer, channel)
    now = datetime.now(UTC)
    revocation = Revocation(name, channel, end_of(until, now), now, viewer.author or ANYBODYS_NAME)
    await chat.log.revoke(revocation)
    return revocation


async def restore_access(chat: Chat, viewer: Viewer, *, author: object, channel_id: object = None) -> bool:
    """Takes back the revocation of exactly this author and channel. Returns False if there was none.

    Raises:
        BadUserInput, Forbidden, Unavailable: as `revoke_access`.
    """
    name, channel = _named(author, channel_id)
    require_manage(chat, viewer, channel)
    return await chat.log.restore(name, channel)


def revocations_page(
    chat: Chat, viewer: Viewer, *, first: int | None = None, after: str | None = None
) -> RevocationPage:
    """At most `first` (50 by default) of the revocations in force. A viewer who manages every channel sees all of them;
    others see those in channels that they manage.

    Raises:
        BadUserInput: `first` is negative or over 200.
        CursorInvalid: `after` is not a cursor of this list.
    """
    limit = page_size(first=first)
    start = None if after is None else _position(after)
    listed = chat.log.revoked.listed()
    if not may_manage(chat, viewer, None):
        listed = [each for each in listed if each.channel_id is not None and may_manage(chat, viewer, each.channel_id)]
    following = [each for each in listed if start is None or _key(each) > start]
    page = following[:limit]
    return RevocationPage(page, [_cursor(each) for each in page], len(following) > limit, len(following) < len(listed))


def end_of(until: datetime | None, now: datetime) -> datetime | None:
    """`until` in UTC.

    Raises:
        BadUserInput: it is not in the future, or has no offset from UTC.
    """
    if until is None:
        return None
    if until.tzinfo is None:
        raise BadUserInput("until", "must have an offset from UTC, as in 2026-11-27T12:00:00Z")
    try:
        end = until.astimezone(UTC)
    except OverflowError:
        raise BadUserInput("until", "is too far away") from None
    if end <= now:
        raise BadUserInput("until", "must be in the future")
    return end


def _named(author: object, channel_id: object) -> tuple[str, str | None]:
    return input_rules.author(author), None if channel_id is None else input_rules.channel_id(channel_id)


def _key(revocation: Revocation) -> tuple[str, str]:
    return revocation.author, revocation.channel_id or ""


def _cursor(revocation: Revocation) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(_key(revocation))).decode("ascii")


def _position(cursor: str) -> tuple[str, str]:
    try:
        value = orjson.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
    except (UnicodeEncodeError, binascii.Error, ValueError):
        value = None
    match value:
        case [str(author), str(channel_id)]:
            return author, channel_id
    raise CursorInvalid("is not a cursor of this list")
