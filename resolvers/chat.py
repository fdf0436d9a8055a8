"""What every resolver works on: the log, the hub, and the limits on posts."""

from dataclasses import dataclass

from delivery.hub import Hub
from message_log.protocol import MessageLog

CONTENT_BYTES_MAX = 65_536
"""Longest content of a message by default, in bytes of UTF-8."""


@dataclass(slots=True)
class Chat:
    """The log, the hub that listens to it, and what may be posted.

    `content_bytes_max` is the longest content in bytes of UTF-8. `accepting` is False while the server drains: posts
    are then refused with `Unavailable`, and everything else goes on.
    """

    log: MessageLog
    hub: Hub
    content_bytes_max: int = CONTENT_BYTES_MAX
    accepting: bool = True
