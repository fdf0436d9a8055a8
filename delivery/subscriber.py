"""A subscriber: a position in the log, and the sink that what follows it is written to."""

import asyncio
from typing import TYPE_CHECKING

from delivery.cohort import Cohort
from delivery.sink import Sink
from errors import RaqcoonError

if TYPE_CHECKING:
    from delivery.channel import Channel

GONE = 2**63
"""The position of a closed subscriber. It is beyond every head, so neither sweep nor catch-up looks at it again."""


class Subscriber:
    """The server-side half of a subscription.

    `position` is the sequence of the last message that the sink has taken, or that the filter let pass by. It only
    moves forward, and only in the loop step in which the sink took what lies between.
    """

    __slots__ = ("_channel", "catch_up", "cohort", "position", "sink")

    def __init__(self, position: int, cohort: Cohort, sink: Sink, channel: "Channel") -> None:
        self.position = position
        self.cohort = cohort
        self.sink = sink
        self.catch_up: asyncio.Task[None] | None = None
        self._channel = channel

    @property
    def closed(self) -> bool:
        return self.position == GONE

    def close(self) -> None:
        """Ends the subscription at once: its sink is not touched again. Idempotent."""
        if self.position == GONE:
            return
        self.position = GONE
        self._channel.leave(self)

    def end(self, error: RaqcoonError | None) -> None:
        """Closes the subscription from the server's side and tells the sink why."""
        if self.position != GONE:
            self.close()
            self.sink.end(error)
