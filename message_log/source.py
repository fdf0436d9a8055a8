"""What a log can be copied from."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

Row = dict[str, Any]
"""One row of `tables.messages`, by column."""


@dataclass(frozen=True, slots=True)
class SourceChannel:
    """A channel of the source. `totals` and `growing` are its rows in the tables of these names."""

    channel_id: str
    last_sequence: int
    totals: list[dict[str, Any]]
    last_change: int = 0
    growing: list[dict[str, Any]] = field(default_factory=list)


class Source(Protocol):
    """A log that is read once, from beginning to end. All methods block."""

    @property
    def epoch(self) -> str: ...

    @property
    def location(self) -> str: ...

    def count(self) -> int:
        """About how many messages the log holds."""

    def channels(self) -> Iterator[SourceChannel]:
        """Every channel. The rows of a channel may be asked for until the next channel is yielded."""

    def rows(self, channel_id: str, after: int) -> Iterator[Row]:
        """The messages of the channel after the sequence `after`, ascending."""

    def changes(self, channel_id: str, after: int) -> Iterator[Row]:
        """The changes of the channel after the sequence `after`, ascending."""

    def nameless_changes(self, channel_id: str, until: int) -> Iterator[int]:
        """The sequences, up to `until`, of changes from which the author's name was removed; ascending."""

    def changed(self, channel_id: str, message_sequence: int) -> tuple[Row | None, list[Row]]:
        """One message, or None if it is not held; and all of its changes."""

    def oldest_change(self, channel_id: str) -> int:
        """The sequence of the oldest change that is held; if none is, a sequence after the last one."""

    def revocations(self) -> list[Row]:
        """Whose access is revoked."""

    def close(self) -> None:
        """Closes the source. Idempotent."""
