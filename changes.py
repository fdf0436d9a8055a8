"""What was done to a message after it was posted, and the rule by which changes are applied to a message.

Like `messages`, this knows nothing of databases, GraphQL or sockets, and no instance is ever mutated.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum

from messages import MESSAGE_OVERHEAD_BYTES, Message, encode_cursor, text_size_bytes

CHANGES = ":changes"
"""The epoch of changes is that of messages with this at its end, so a cursor of one log is not valid for the other."""


ERASED_AUTHOR = "erased"
"""Replaces the name of an author that was removed."""


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

    `revision` is that of the message after the change. `piece` is what was appended (APPENDED), `content` is the whole
    new content (EDITED); both are None in all changes of a message that was erased since. `token_count` is that of the
    message after the change, if an append gave one.
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
    """1 after its text was removed because its message was erased."""
    new_author: str | None = None
    """The name that the message's author has from now on, if an erasure removed the name too."""

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


@dataclass(frozen=True, slots=True)
class ChangeDraft:
    """A change that has passed the input rules and has no sequence yet.

    `by` is who asks; with None, which is anybody, the change gets the name of the message's author. `others` says that
    they may change what others have posted. `revision` is that of the message as the caller has seen it; None is not
    compared. `text` is the piece or the new content. `complete`: nothing follows this piece. `forgets_author`: an
    erasure that removes the author's name too.
    """

    channel_id: str
    message_sequence: int
    kind: MessageChangeKind
    by: str | None = None
    others: bool = True
    revision: int | None = None
    text: str | None = None
    token_count: int | None = None
    complete: bool = False
    content_bytes_max: int = 65_536
    forgets_author: bool = False


def apply_change(message: Message, change: MessageChange) -> Message:
    """The message after the change, if that is its next one; otherwise the message as it is.

    This is the rule of convergence. A change is applied to a message if its revision is that of the message plus one,
    and ignored if it is not greater. So a message that was read at any time, and all changes since any earlier time,
    result in the same message, however often a change comes.
    """
    if change.revision != message.revision + 1:
        return message
    match change.kind:
        case MessageChangeKind.APPENDED:
            tokens = message.token_count if change.token_count is None else change.token_count
            content = message.content + (change.piece or "")
            return replace(message, revision=change.revision, content=content, token_count=tokens)
        case MessageChangeKind.COMPLETED:
            return replace(message, revision=change.revision, complete=True)
        case MessageChangeKind.EDITED:
            return replace(message, revision=change.revision, content=change.content or "", edited_at=change.timestamp)
        case MessageChangeKind.ERASED:
            return replace(
                message,
                revision=change.revision,
                content="",
                lane=None,
                provider=None,
                token_count=None,
                complete=True,
                erased_at=change.timestamp,
                author=change.new_author or message.author,
            )


def without_text(change: MessageChange) -> MessageChange:
    """What is left of a change whose message was erased."""
    return replace(change, piece=None, content=None, edition=1)
