"""Messages as rows of a database. `Message` objects are made of them only when code looks at single messages.

To make 200 objects takes twice as long as to read their rows, and the JSON of a page of history is made without them.
Times are whole microseconds since 1970 in UTC.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, overload

from messages import Message, encode_cursor

Row = tuple[Any, ...]
"""One message: the values of `ROW`, in this order. `complete` is 0 or 1."""
ROW = (
    "channel_id",
    "sequence",
    "author",
    "content",
    "lane",
    "provider",
    "token_count",
    "timestamp",
    "revision",
    "complete",
    "edited_at",
    "erased_at",
)
SEQUENCE, CONTENT, COMPLETE = ROW.index("sequence"), ROW.index("content"), ROW.index("complete")

_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_AS_POSTED = (0, 1, None, None)
"""Revision, completeness and times of a message that was not changed, as they are in a row."""
LIFE_AS_POSTED = (0, True, None, None)
"""The same, as `Message` has it."""


def to_microseconds(moment: datetime) -> int:
    """Whole microseconds since 1970 of an aware datetime. This is exact, unlike `timestamp()`."""
    return (moment - _UNIX_EPOCH) // _MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """The inverse of `to_microseconds`, in UTC."""
    # `timedelta` stores seconds and microseconds. With these two it need not divide.
    seconds, rest = divmod(microseconds, 1_000_000)
    return _UNIX_EPOCH + timedelta(0, seconds, rest)


def lived(
    revision: int, complete: int, edited_at: int | None, erased_at: int | None
) -> tuple[int, bool, datetime | None, datetime | None]:
    """Revision, completeness and times of a row, as `Message` has them."""
    if not revision:
        return LIFE_AS_POSTED if complete else (0, False, None, None)
    return (
        revision,
        bool(complete),
        None if edited_at is None else from_microseconds(edited_at),
        None if erased_at is None else from_microseconds(erased_at),
    )


def message_of(row: Row, epoch: str) -> Message:
    """The message of a row, in the log of this epoch."""
    channel_id, sequence, author, content, lane, provider, token_count, timestamp, *life = row
    accepted_at = from_microseconds(timestamp)
    if (*life,) == _AS_POSTED:  # This is true for nearly all messages.
        return Message(channel_id, sequence, author, content, lane, provider, token_count, accepted_at, epoch)
    return Message(
        channel_id, sequence, author, content, lane, provider, token_count, accepted_at, epoch, *lived(*life)
    )


def row_of(message: Message) -> Row:
    """The inverse of `message_of`."""
    return (
        message.channel_id,
        message.sequence,
        message.author,
        message.content,
        message.lane,
        message.provider,
        message.token_count,
        to_microseconds(message.timestamp),
        message.revision,
        int(message.complete),
        None if message.edited_at is None else to_microseconds(message.edited_at),
        None if message.erased_at is None else to_microseconds(message.erased_at),
    )


class MessageRows(Sequence[Message]):
    """Messages of one channel, in columns. The objects are made when one of them is looked at.

    Args:
        columns: the values of each column of `ROW`, all of the same number.
        epoch: the epoch of the log.
    """

    __slots__ = ("_messages", "columns", "epoch")

    def __init__(self, columns: Sequence[Sequence[Any]], epoch: str) -> None:
        self.columns = columns
        self.epoch = epoch
        self._messages: list[Message] | None = None

    @classmethod
    def of_rows(cls, rows: Sequence[Row], epoch: str) -> "MessageRows":
        return cls(list(zip(*rows, strict=True)) if rows else _NO_COLUMNS, epoch)

    @classmethod
    def of(cls, messages: Sequence[Message]) -> "MessageRows":
        """The rows of `Message` objects."""
        return cls.of_rows([row_of(message) for message in messages], messages[0].epoch if messages else "")

    def cursor(self, place: int) -> str:
        """The cursor of the message at this place."""
        return encode_cursor(self.epoch, self.columns[0][place], self.columns[SEQUENCE][place])

    @property
    def characters(self) -> int:
        """The length of all contents together, in characters. They have at least as many bytes."""
        return sum(map(len, self.columns[CONTENT]))

    def __len__(self) -> int:
        return len(self.columns[SEQUENCE])

    @overload
    def __getitem__(self, place: int) -> Message: ...
    @overload
    def __getitem__(self, place: slice) -> "MessageRows": ...
    def __getitem__(self, place: int | slice) -> "Message | MessageRows":
        if isinstance(place, slice):
            return MessageRows([column[place] for column in self.columns], self.epoch)
        return self._made()[place]

    def __iter__(self) -> Iterator[Message]:
        return iter(self._made())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._made() == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._made())

    def _made(self) -> list[Message]:
        if self._messages is None:
            self._messages = [message_of(row, self.epoch) for row in zip(*self.columns, strict=True)]
        return self._messages


_NO_COLUMNS: Sequence[Sequence[Any]] = ((),) * len(ROW)
NOTHING = MessageRows(_NO_COLUMNS, "")
"""No messages."""
