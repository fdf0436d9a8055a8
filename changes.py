"""What was done to a message after it was posted.

Like `messages`, this knows nothing of databases, GraphQL or sockets, and no instance is ever mutated.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from messages import MESSAGE_OVERHEAD_BYTES, encode_cursor, text_size_bytes

CHANGES = ":changes"
"""What the epoch of changes has behind that of messages: a cursor of the one log is no cursor of the other."""


def changes_epoch(epoch: str) -> str:
    """The epoch of the log of changes beside a log of messages."""
    return epoch + CHANGES


class MessageChangeKind(Enum):
    """What was done to a message."""

    APPENDED = "APPENDED"
    COMPLETED = "COMPLETED"
    EDITED = "EDITED"
    ERASED = "ERASED"


@dataclass(frozen=True, slots=True)
class MessageChange:
    """One change. `sequence` counts 1, 2, 3 … among the changes of its channel, without gaps.

    `revision` is the message's after the change. `piece` is what came behind (APPENDED), `content` the whole new
    content (EDITED); both are None in every change of a message that was erased since. `token_count` is the message's
    after the change, where an append gave one.
    """

    channel_id: str
    sequence: int
    message_sequence: int
    kind: MessageChangeKind
    revision: int
    piece: str | None
    content: str | None
    author: str
    timestamp: datetime
    epoch: str = field(repr=False)
    """The epoch of the log of changes: see `changes_epoch`."""
    token_count: int | None = None
    edition: int = 0
    """1 once its text was taken away because its message was erased."""

    @property
    def cursor(self) -> str:
        """The position of this change: everything after it follows."""
        return encode_cursor(self.epoch, self.channel_id, self.sequence)

    @property
    def message_id(self) -> str:
        """The id of the message that was changed."""
        return f"{self.channel_id}:{self.message_sequence}"

    @property
    def size_bytes(self) -> int:
        """About how much memory the change holds, in bytes."""
        return MESSAGE_OVERHEAD_BYTES + len(self.piece or "") + len(self.content or "")

    @property
    def text_bytes(self) -> int:
        """Its text in bytes of UTF-8."""
        return text_size_bytes(self.piece or "") + text_size_bytes(self.content or "")
