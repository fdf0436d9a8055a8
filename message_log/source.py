"""What a log can be copied from."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

Row = dict[str, Any]
"""One row of `tables.messages`, by column."""


@dataclass(frozen=True, slots=True)
class SourceChannel:
    """A channel as it is at its source; `totals` and `growing` are its rows of those tables."""

    channel_id: str
    last_sequence: int
    totals: list[dict[str, Any]]
    last_change: int = 0
    growing: list[dict[str, Any]] = field(default_factory=list)


class Source(Protocol):
    """A log that is read once, from beginning to end. Everything blocks."""

    @property
    def epoch(self) -> str: ...

    @property
    def location(self) -> str: ...

    def count(self) -> int:
        """How many messages are held, or nearly."""

    def channels(self) -> Iterator[SourceChannel]:
        """Every channel. Rows may be asked for while a channel is the newest one."""

    def rows(self, channel_id: str, after: int) -> Iterator[Row]:
        """What the channel holds beyond the sequence `after`, ascending."""

    def changes(self, channel_id: str, after: int) -> Iterator[Row]:
        """The changes of the channel beyond the sequence `after`, ascending."""

    def nameless_changes(self, channel_id: str, until: int) -> Iterator[int]:
        """The sequences, up to `until`, of changes from which their author's name was taken; ascending."""

    def changed(self, channel_id: str, message_sequence: int) -> tuple[Row | None, list[Row]]:
        """One message, None when it is not held, and all of its changes."""

    def oldest_change(self, channel_id: str) -> int:
        """The sequence of the oldest change that is held; beyond the last when none is."""

    def revocations(self) -> list[Row]:
        """Whose access is revoked."""

    def close(self) -> None:
        """Lets go of it. Idempotent."""
