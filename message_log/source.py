"""What a log can be copied from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

Row = dict[str, Any]
"""One row of `tables.messages`, by column."""


@dataclass(frozen=True, slots=True)
class SourceChannel:
    """A channel as it is at its source; `totals` are its rows of `tables.totals`."""

    channel_id: str
    last_sequence: int
    totals: list[dict[str, Any]]


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

    def close(self) -> None:
        """Lets go of it. Idempotent."""
