"""A subscriber: a position in the log, and the sink that what follows it is written to."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from delivery.block import Block
from delivery.sink import Batch, Claim, Sink
from errors import RaqcoonError
from message_log.protocol import Entry

GONE = 2**63
"""The position of a closed subscriber. It is beyond every head, so neither sweep nor catch-up looks at it again."""


class Owner(Protocol):
    """What a subscriber knows of the cohort that it is a member of."""

    def loosen(self, subscriber: "Subscriber", /) -> None:
        """Its claim has ended: takes it out of its block."""

    def leave(self, subscriber: "Subscriber", /) -> None:
        """It was closed and is in no block: forgets it."""


class Subscriber:
    """The server-side half of a subscription.

    It moves with a block, or is loose and moves by itself.
    """

    __slots__ = ("_block", "_delivered", "_owner", "_position", "author", "catch_up", "sink")

    def __init__(self, position: int, owner: Owner, sink: Sink, author: str | None = None) -> None:
        self.author = author
        self.sink = sink
        self.catch_up: asyncio.Task[None] | None = None
        self._position = position
        self._delivered = 0
        self._block: Block[Subscriber] | None = None
        self._owner = owner

    @property
    def position(self) -> int:
        """The sequence of the last entry that the sink has taken, or that the filter has left out.

        It moves forward only in the loop step in which the sink took what lies between. It moves back only in the step
        in which the sink gave back what it had not sent.
        """
        return self._position if self._block is None else self._block.position

    @property
    def delivered(self) -> int:
        """Messages that the sink has taken."""
        return self._delivered if self._block is None else self._delivered + self._block.delivered

    @property
    def closed(self) -> bool:
        return self._position == GONE

    # -- used by channel and cohort -------------------------------------------------------------------------

    def took(self, batch: Batch) -> None:
        """The sink of this loose subscriber has taken `batch` in this step."""
        self._position = batch.position
        self._delivered += len(batch.payloads)

    def gave_back(self, entries: Sequence[Entry]) -> None:
        """The sink of this loose subscriber has thrown away these entries, the newest that it had taken."""
        self._position = entries[0].sequence - 1
        self._delivered -= len(entries)

    def enter(self, block: "Block[Subscriber]", claim: Claim) -> None:
        block.add(self, claim)
        self._block = block
        self._delivered -= block.delivered

    def get_loose(self) -> "Block[Subscriber] | None":
        """Leaves its block, if it is in one, and returns it."""
        block, position, delivered = self._block, self.position, self.delivered
        if block is not None:
            block.remove(self)
            self._block, self._position, self._delivered = None, position, delivered
        return block

    # -- used by the sink and by whoever owns it ---------------------------------------------------------------

    def blocked(self) -> None:
        """Its sink has to be asked from now on."""
        self._owner.loosen(self)

    def close(self) -> None:
        """Ends the subscription at once: its sink is not touched again. Idempotent."""
        if self._position == GONE:
            return
        if self._block is not None:
            self.sink.release(self)
            self._owner.loosen(self)
        self._position = GONE
        self._owner.leave(self)

    def end(self, error: RaqcoonError | None) -> None:
        """Closes the subscription from the server's side and tells the sink why."""
        if self._position != GONE:
            self.close()
            self.sink.end(error)
