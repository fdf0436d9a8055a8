"""What every resolver works on: the log, the hub, and the limits on posts."""

from collections import Counter
from dataclasses import dataclass, field

from delivery.hub import Hub
from message_log.protocol import MessageLog
from resolvers.post_rate import PostRate

CONTENT_BYTES_MAX = 65_536
"""Longest content of a message by default, in bytes of UTF-8."""


@dataclass(slots=True)
class Chat:
    """The log, the hub that listens to it, and what may be posted.

    `content_bytes_max` is the longest content in bytes of UTF-8. `accepting` is False while the server drains: posts
    are then refused with `Unavailable`, and everything else goes on. `post_rate` bounds how fast may be posted; None is
    as fast as it goes.
    """

    log: MessageLog
    hub: Hub
    content_bytes_max: int = CONTENT_BYTES_MAX
    accepting: bool = True
    refusals: Counter[str] = field(default_factory=Counter)
    """Errors told to clients since the start, by code. Codes are those of `errors.py`."""
    post_rate: PostRate | None = None
